"""Rows of many shards: paging, filters, order, search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import data.query
from data.catalogue import Catalogue
from data.files import ShardError
from data.filters import Filter, parse
from data.query import Rows


def flip(path: Path, needle: bytes) -> None:
    """Damage the page that holds ``needle`` (the file is not compressed): the footer stays right."""
    raw = bytearray(path.read_bytes())
    at = raw.index(needle)
    raw[at - 4 : at] = b"\xff\xff\xff\x7f"  # the length of the value
    path.write_bytes(bytes(raw))


def texts(rows: Rows, first: int = 0, limit: int = 10_000) -> list[Any]:
    return [hit.values.get("text") for hit in rows.page(first, limit).hits]


@pytest.fixture
def catalogue(write_shard) -> Catalogue:
    for name, begin, count in (("a", 0, 130), ("b", 130, 70), ("c", 200, 1)):
        numbers = range(begin, begin + count)
        write_shard(
            f"s/{name}.parquet",
            [f"Text {i}" for i in numbers],
            n=list(numbers),
            score=[(i * 37) % 101 / 10 for i in numbers],
        )
    return Catalogue(
        [write_shard("s/d.parquet", [], n=pa.array([], pa.int64()), score=pa.array([], pa.float64())).parent]
    )


def test_pages_run_over_files_and_know_of_more(catalogue: Catalogue) -> None:
    rows = Rows(catalogue, catalogue.files)
    page = rows.page(125, 10)
    assert [hit.values["text"] for hit in page.hits] == [f"Text {i}" for i in range(125, 135)] and page.more
    assert [(Path(h.file).stem, h.row) for h in page.hits[4:6]] == [("a", 129), ("b", 0)]
    assert not rows.page(195, 6).more and rows.page(195, 5).more and rows.page(999, 5).hits == []
    assert rows.total == 201 and rows.place_of(catalogue.files[1].path, 3) == 133
    assert rows.place_of(catalogue.files[1].path, 70) is None


def test_matches_are_looked_for_as_far_as_they_are_wanted(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data.query, "FIRST_WINDOW", 16)
    rows = Rows(catalogue, catalogue.files, parse("n >= 40 and text ~ TEXT and n != 41"))
    assert texts(rows, 0, 3) == ["Text 40", "Text 42", "Text 43"]
    assert rows.total is None and rows._at[0] == 0  # the second file was not touched
    assert texts(rows, 85, 10) == [f"Text {i}" for i in range(126, 136)]
    assert len(texts(rows)) == 160 == rows.total


@pytest.mark.parametrize("descending", [False, True])
def test_order_is_that_of_the_column_over_all_files(catalogue: Catalogue, descending: bool) -> None:
    rows = Rows(catalogue, catalogue.files, parse("n < 200"), sort="score", descending=descending)
    scores = [hit.values["score"] for hit in rows.page(0, 500).hits]
    assert scores == sorted(scores, reverse=descending) and len(scores) == 200 == rows.total
    first = rows.page(0, 1).hits[0]
    assert rows.place_of(first.file, first.row) == 0


def test_search_goes_on_behind_a_row(catalogue: Catalogue) -> None:
    rows = Rows(catalogue, catalogue.files)
    assert rows.find_next(-1, "text 20") == 20
    assert rows.find_next(20, "text 20") == 200
    assert rows.find_next(200, "text 20") is None
    assert Rows(catalogue, catalogue.files, sort="n", descending=True).find_next(-1, "text 20") == 0


def test_a_damaged_place_is_named_and_the_rest_goes_on(write_shard, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        pq.write_table(
            pa.table({"text": [f"{name} needle {i} {'x' * 50}" for i in range(300)], "n": list(range(300))}),
            tmp_path / f"{name}.parquet", row_group_size=100, compression="none", use_dictionary=False,
        )  # fmt: skip
    flip(tmp_path / "b.parquet", b"b needle 150")
    with Catalogue([tmp_path]) as catalogue:
        assert len(catalogue.files) == 3 and not catalogue.errors  # the footer is whole
        rows = Rows(catalogue, catalogue.files)
        page = rows.page(395, 300)
        assert len(page.hits) == 300 and any(hit.error for hit in page.hits)
        assert [Path(e.file).name for e in rows.errors] == ["b.parquet"]
        assert not rows.page(0, 300).hits[299].error and not rows.page(600, 300).hits[0].error
        matches = Rows(catalogue, catalogue.files, parse("text ~ needle"))
        found = {Path(hit.file).name for hit in matches.page(0, 1000).hits}
        assert found >= {"a.parquet", "c.parquet"} and [Path(e.file).name for e in matches.errors] == ["b.parquet"]
        ordered = Rows(catalogue, catalogue.files, sort="text")
        assert len(ordered.page(0, 1000).hits) == 600 and "b.parquet" in ordered.errors[0].file


def test_a_file_replaced_meanwhile_is_named(write_shard, tmp_path: Path) -> None:
    write_shard("s/a.parquet", ["one", "two"])
    write_shard("s/b.parquet", ["three"])
    with Catalogue([tmp_path / "s"]) as catalogue:
        rows = Rows(catalogue, catalogue.files)
        assert texts(rows) == ["one", "two", "three"]
        write_shard("s/a.parquet", ["another", "thing", "here"])
        hits = rows.page(0, 9).hits
        assert [hit.values.get("text") for hit in hits] == [None, None, "three"]
        assert "changed since it was opened" in hits[0].error and Path(rows.errors[0].file).name == "a.parquet"
        matches = Rows(catalogue, catalogue.files, parse("text ~ e"))
        assert texts(matches) == ["three"] and len(matches.errors) == 1


def test_schemas_that_differ(write_shard, tmp_path: Path) -> None:
    write_shard("s/a.parquet", ["one", None], score=[1, 2])
    write_shard("s/b.parquet", ["two", "three"], score=[0.5, None])
    write_shard("s/c.parquet", ["four"])
    with Catalogue([tmp_path]) as catalogue:
        ordered = Rows(catalogue, catalogue.files, sort="score")
        assert texts(ordered) == ["two", "one", None, "three", "four"]
        filtered = Rows(catalogue, catalogue.files, parse("score > 0.75"))
        assert texts(filtered) == ["one", None]
        assert ["c.parquet" in e.file and "no column 'score'" in e.error for e in filtered.errors] == [True]
        with pytest.raises(ShardError, match="did you mean score"):
            Rows(catalogue, catalogue.files, parse("scor > 1"))


def test_values_are_never_sql(catalogue: Catalogue) -> None:
    assert texts(Rows(catalogue, catalogue.files, (Filter("text", "=", "' OR true --"),))) == []
    assert texts(Rows(catalogue, catalogue.files, (Filter("text", "in", ["Text 7", "x'y"]),))) == ["Text 7"]
    with pytest.raises(ShardError, match="no column"):
        Rows(catalogue, catalogue.files, (Filter('n" OR "n', "=", 1),))
    with pytest.raises(ShardError, match="is no number"):
        Filter("n", ">", "abc").sql(catalogue.files[0].columns)


@given(st.lists(st.tuples(st.sampled_from(["a", "b c", 'q"t']), st.sampled_from(["=", "!=", "<", ">=", "~"]),
                          st.text("xyz and'=\"", min_size=1)), min_size=1, max_size=4))  # fmt: skip
def test_what_is_written_is_read(parts: list[tuple[str, str, str]]) -> None:
    line = " and ".join(
        "\"{}\" {} '{}'".format(column.replace('"', '""'), op, value.replace("'", "''")) for column, op, value in parts
    )
    try:
        assert [(f.column, f.operator, f.value) for f in parse(line)] == parts
    except ShardError as error:
        raise AssertionError(line) from error


@pytest.mark.parametrize("line", ["score", "score >", "= 3", "a ? b"])
def test_a_line_that_is_no_filter_is_said(line: str) -> None:
    with pytest.raises(ShardError, match="column operator value"):
        parse(line)
