from __future__ import annotations

from pathlib import Path

import pytest

from data.catalogue import Catalogue
from data.files import ShardError
from data.keep import keep
from data.workers import Cancelled
from tests.data.test_packed import flip


def test_first_copies_are_kept_over_files(write_shard) -> None:
    a = write_shard("a.parquet", ["x", "one", "x", None, "", "y"])
    b = write_shard("b.parquet", ["one", "two", "two", "x "])
    with Catalogue([a, b]) as catalogue:
        everything = keep(catalogue, "none")
        exact = keep(catalogue, "exact")
    assert {Path(p).name: r.tolist() for p, r in everything.items()} == {
        "a.parquet": [0, 1, 2, 5],
        "b.parquet": [0, 1, 2, 3],
    }
    assert {Path(p).name: r.tolist() for p, r in exact.items()} == {"a.parquet": [0, 1, 5], "b.parquet": [1, 3]}


def test_what_cannot_be_read_is_told_or_raised(write_shard) -> None:
    good = write_shard("a.parquet", ["one", "one"])
    bad = write_shard("b.parquet", [f"document {i} " + "words " * (i % 17) for i in range(300)])
    flip(bad)
    with Catalogue([good, bad]) as catalogue:
        with pytest.raises(ShardError, match=r"b\.parquet"):
            keep(catalogue, "exact")
        told: list[str] = []
        kept = keep(catalogue, "exact", on_error=lambda path, error: told.append(path))
        assert told == [str(bad)] and {p: r.tolist() for p, r in kept.items()} == {str(good): [0]}
        with pytest.raises(Cancelled):
            keep(catalogue, "exact", cancelled=lambda: True)
        with pytest.raises(ShardError, match="not known"):
            keep(catalogue, "fuzzy")
