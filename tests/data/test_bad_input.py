"""Every bad input: named with what was skipped, the rest answered, and nothing cached wrong afterwards."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data import shingles, verify
from data.catalogue import Catalogue
from data.packed import Pack, pack_shards
from data.sketches import sketch_shards
from data.statistics import statistics
from tests.data.planted import prose
from tests.data.test_packed import flip


def spoil(path: Path, how: str) -> None:
    raw = path.read_bytes()
    if how == "truncated":
        path.write_bytes(raw[: len(raw) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "flipped byte":
        flip(path)
    elif how == "wrong type":
        pq.write_table(pa.table({"text": [1, 2, 3]}), path)
    elif how == "no text column":
        pq.write_table(pa.table({"body": ["one"]}), path)
    elif how == "no UTF-8":
        text = pa.array([b"fine", b"\xff\xfe broken"], pa.binary()).view(pa.string())
        pq.write_table(pa.table({"text": text}), path)


KINDS = ["truncated", "empty", "flipped byte", "wrong type", "no text column", "no UTF-8"]


@pytest.mark.parametrize("how", KINDS)
def test_a_bad_shard_is_named_by_each_stage_and_the_rest_goes_on(tmp_path: Path, write_shard, how: str) -> None:
    generator = random.Random(9)
    page = prose(generator, 300)
    good = write_shard("s/good.parquet", [page, None, page.replace(page.split()[9], "other", 1), ""], score=[1.0] * 4)
    bad = write_shard("s/bad.parquet", [prose(generator, 300) for _ in range(20)])
    original = bad.read_bytes()
    spoil(bad, how)
    cache = tmp_path / "cache"
    with Catalogue([tmp_path / "s"]) as catalogue:
        found = statistics(catalogue, near="exact", exact_tokens=True, cache=cache)
    assert [Path(e.file).name for e in found.errors] == ["bad.parquet"] and "\n" not in found.errors[0].error
    assert (found.files, found.documents, found.empty_rows, found.near_duplicate_rows) == (1, 2, 2, 1)
    named: list[str] = []

    def failed(path: str, error: Exception) -> None:
        assert str(path) in str(error) and "\n" not in str(error)
        named.append(Path(path).name)

    paths = [str(good), str(bad)]
    packs = list(pack_shards(paths, cache=cache, on_error=failed))
    sketches = sketch_shards(paths, cache=cache, on_error=failed)
    assert named == ["bad.parquet"] * 2 and [p.documents for p in packs] == [2] == [s.documents for s in sketches]
    # Mended, it is answered for as if nothing had been; what was cached of the good one stays right.
    bad.write_bytes(original)
    with Catalogue([tmp_path / "s"]) as catalogue:
        mended = statistics(catalogue, near="exact", exact_tokens=True, cache=cache)
        afresh = statistics(catalogue, near="exact", exact_tokens=True, cache=tmp_path / "other")
    assert mended.errors == [] and mended.to_dict() == afresh.to_dict() and mended.documents == 22


def test_a_shard_replaced_after_it_was_answered_for_is_answered_anew(tmp_path: Path, write_shard) -> None:
    generator = random.Random(10)
    path = write_shard("x.parquet", [prose(generator, 200)] * 3)
    with Catalogue([path]) as catalogue:
        before = statistics(catalogue, near="exact", exact_tokens=True, cache=tmp_path / "c")
    write_shard("x.parquet", [prose(generator, 200) for _ in range(3)])
    with Catalogue([path]) as catalogue:
        after = statistics(catalogue, near="exact", exact_tokens=True, cache=tmp_path / "c")
    assert (before.exact_duplicate_rows, after.exact_duplicate_rows) == (2, 0)
    assert before.tokens != after.tokens and after.effective_tokens == after.tokens


def test_one_long_document_beside_short_ones(tmp_path: Path, write_shard, monkeypatch) -> None:
    """At a reduced size: longer than what is worked on at once."""
    monkeypatch.setattr(shingles, "SLICE", 1 << 14)
    generator = random.Random(11)
    long = "\n".join(prose(generator, 500) for _ in range(100))
    version = long.replace(long.split()[700], "another", 1)
    path = write_shard("x.parquet", ["short one", long, prose(generator, 200), version])
    with Catalogue([path]) as catalogue:
        found = statistics(catalogue, near="exact", exact_tokens=True, cache=tmp_path)
    assert found.errors == [] and found.documents == 4 and found.near_duplicate_rows == 1
    [pack] = pack_shards([str(path)], cache=tmp_path)
    assert isinstance(pack, Pack) and int(pack.bytes.sum()) == found.text_bytes
    # What verification holds of a long document is bounded.
    sets = np.concatenate(
        [n for _, n in shingles.smallest_sets(pa.array([long, version], pa.large_string()), verify.KEPT)]
    )
    assert sets.tolist() == [verify.KEPT] * 2


@pytest.mark.parametrize("count", [1, 3])
def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, write_shard, count: int) -> None:
    generator = random.Random(3)
    for i in range(count):
        write_shard(f"s/{i}.parquet", [prose(generator, 300) for _ in range(5)])
    (tmp_path / "cache").touch()
    with Catalogue([tmp_path / "s"]) as catalogue:
        found = statistics(catalogue, near="exact", cache=tmp_path / "cache")
    assert len(found.errors) == count and found.by_file == []
    assert all(f"{tmp_path / 'cache'}" in e.error and "cannot write sketches" in e.error for e in found.errors)
