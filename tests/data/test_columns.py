"""Column statistics, histograms, layout."""

from __future__ import annotations

import datetime
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.catalogue import Catalogue
from data.columns import CHARACTERS, TOKENS, column_statistics, histogram, layout, measures
from data.files import ShardError
from tests.data.test_query import flip


def test_statistics_over_files(write_shard, tmp_path: Path) -> None:
    write_shard("a.parquet", ["x" * i for i in range(1000)], score=[i / 10 for i in range(1000)])
    write_shard("b.parquet", [None, "y"], score=pa.array([None, 7], pa.int32()), day=[datetime.date(2020, 1, 2)] * 2)
    with Catalogue([tmp_path]) as catalogue:
        score = column_statistics(catalogue, "score")
        assert (score.rows, score.nulls, float(score.low or 0), float(score.high or 0)) == (1002, 1, 0.0, 99.9)
        assert score.quantiles is not None and abs(score.quantiles[0.5] - 50) < 1
        assert abs(score.distinct / 1000 - 1) < 0.1 and len(score.types) == 2
        text = column_statistics(catalogue, "text")
        assert text.nulls == 1 and text.quantiles is not None and abs(text.quantiles[0.95] - 950) < 15
        day = column_statistics(catalogue, "day")
        assert (day.low, day.missing_in, day.quantiles) == ("2020-01-02", 1, None)
        with pytest.raises(ShardError, match="did you mean score"):
            column_statistics(catalogue, "scores")


def test_histogram_counts_every_value_once(write_shard, tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    values = np.concatenate([draw.normal(3, 1, 5000), [math.nan, math.inf]])
    write_shard("a.parquet", ["x"] * 5002, score=values, n=draw.integers(0, 7, 5002), wide=draw.lognormal(3, 3, 5002))
    with Catalogue([tmp_path]) as catalogue:
        score = histogram(catalogue, "score", bins=20)
        assert not score.log and list(score.counts) == np.histogram(values[:5000], score.edges)[0].tolist()
        n = histogram(catalogue, "n")
        assert n.edges == (0, 1, 2, 3, 4, 5, 6, 7) and sum(n.counts) == 5002
        wide = histogram(catalogue, "wide")
        assert wide.log and sum(wide.counts) == 5002 and wide.below == 0
        with pytest.raises(ShardError, match="needs numbers"):
            histogram(catalogue, "id")


def test_lengths_of_documents(write_shard, tmp_path: Path) -> None:
    write_shard("a.parquet", ["word " * i for i in range(1, 40)], counted=True, fine_score=[1.0] * 39)
    with Catalogue([tmp_path]) as catalogue:
        assert measures(catalogue.files) == [TOKENS, CHARACTERS, "fine_score"]
        tokens = histogram(catalogue, TOKENS, log=False)
        assert sum(tokens.counts) == 39
        assert sum(histogram(catalogue, CHARACTERS).counts) == 39
        same = histogram(catalogue, "fine_score")
        assert sum(same.counts) == 39


def test_a_damaged_file_is_left_out_and_named(tmp_path: Path) -> None:
    for name in ("a", "b"):
        table = pa.table({"text": [f"{name} needle {i}" for i in range(100)]})
        pq.write_table(table, tmp_path / f"{name}.parquet", compression="none", use_dictionary=False)
    flip(tmp_path / "b.parquet", b"b needle 50")
    with Catalogue([tmp_path]) as catalogue:
        found = column_statistics(catalogue, "text")
        assert found.rows == 100 and "b.parquet" in found.errors[0].file
        assert sum(histogram(catalogue, CHARACTERS).counts) == 100


def test_layout_tells_groups_and_codecs(write_shard) -> None:
    path = write_shard("a.parquet", [f"text {i}" for i in range(120)])
    found = layout(str(path))
    assert [rows for rows, _, _ in found.row_groups] == [50, 50, 20]
    assert {c.name: c.codecs for c in found.columns} == {"text": "ZSTD", "id": "ZSTD"}
    assert sum(c.compressed for c in found.columns) == sum(size for _, size, _ in found.row_groups)
