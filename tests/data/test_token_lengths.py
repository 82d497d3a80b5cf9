"""Document lengths in tokens, counted in a sample."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data import token_lengths as module
from data.catalogue import Catalogue
from data.encoding import load
from data.token_lengths import token_lengths
from data.workers import Cancelled


def test_all_documents_of_a_small_shard_are_counted(tmp_path: Path) -> None:
    texts = [None, "", *(" word" * n for n in range(1, 100))]
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet")
    with Catalogue([str(tmp_path)]) as catalogue:
        found = token_lengths(catalogue, catalogue.files)
    assert sum(found.counts) == 99 and found.nulls == 2
    longest = len(load().encode_ordinary(" word" * 99))
    assert found.edges[0] == 1 and found.edges[-2] <= longest < found.edges[-1]


@pytest.mark.parametrize("log", [False, True])
def test_a_sample_is_like_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: bool) -> None:
    monkeypatch.setattr(module, "DOCUMENTS", 256)
    pq.write_table(pa.table({"text": [" word" * (1 + i * 7919 % 100) for i in range(3000)]}), tmp_path / "a.parquet")
    with Catalogue([str(tmp_path)]) as catalogue:
        found = token_lengths(catalogue, catalogue.files, log=log)
        with pytest.raises(Cancelled):
            token_lengths(catalogue, catalogue.files, cancelled=lambda: True)
    assert sum(found.counts) == 256 and found.log == log
    below = sum(n for n, edge in zip(found.counts, found.edges[1:], strict=True) if edge <= 52)
    assert below / 256 == pytest.approx(0.5, abs=0.15)
