"""The Data screen, on real parquet shards."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from textual.widgets import ContentSwitcher, Static

from data.encoding import load
from tests.workbench.conftest import Wait
from tests.workbench.folders import make_shard
from workbench.app import GptbenchApp
from workbench.screens.data import DataScreen
from workbench.screens.shards_view import ShardsView
from workbench.widgets.document_table import DocumentTable
from workbench.widgets.document_view import DocumentView, flow, pieces_of, wrap
from workbench.widgets.format import count
from workbench.widgets.prompt import Confirm
from workbench.widgets.statistics_pane import StatisticsPane, figures_text
from workbench.widgets.table import Table


def app_on(shards: Path) -> GptbenchApp:
    return GptbenchApp(shards.parent / "runs", data_paths=[str(shards)])


def content(app: GptbenchApp, selector: str) -> str:
    return str(app.screen.query_one(selector, Static).content)


def row(app: GptbenchApp, index: int) -> list[str]:
    return [cell.plain for cell in app.screen.query_one("#shards", Table).get_row_at(index)]


def lines(app: GptbenchApp, selector: str) -> str:
    view: Any = app.screen.query_one(selector)
    return "\n".join(view.render_line(y).text for y in range(view.size.height))


def hold_catalogue(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Shards are read once the event is set."""
    import data.catalogue

    gate, whole = threading.Event(), data.catalogue.Catalogue

    def held(*args: Any, **kw: Any) -> data.catalogue.Catalogue:
        gate.wait(30)
        return whole(*args, **kw)

    monkeypatch.setattr(data.catalogue, "Catalogue", held)
    return gate


async def test_shards_are_listed_and_the_broken_one_is_named(shards: Path, until: Wait) -> None:
    app = app_on(shards)
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: app.screen.query_one("#shards", Table).row_count == 3)
        assert row(app, 0)[1:4] == ["[red]c.parquet", "1", "1"]
        assert row(app, 1)[1:4] == ["a.parquet", "263", "6"]
        assert row(app, 1)[5] == "–"  # not counted yet: never 0
        assert "✗ bad.parquet" in content(app, "#problems")


async def test_statistics_count_tokens_and_exact_copies(shards: Path, until: Wait) -> None:
    app = app_on(shards)
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: app.screen.query_one("#shards", Table).row_count == 3)
        await pilot.press("s")
        pane = app.screen.query_one(StatisticsPane)
        await until(pilot, lambda: pane.figures)
        assert pane.figures is not None and pane.figures["exact_duplicate_rows"] == 51  # 50 in b, "same" twice in a
        assert "51 rows" in pane.render().plain
        texts = load().encode_ordinary("one\n\ntwo")
        assert row(app, 0)[5] == str(len(texts))
        assert row(app, 2)[7] == "50"


async def test_selection_goes_to_launch(shards: Path, until: Wait) -> None:
    app = app_on(shards)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.screen.query_one("#shards", Table).row_count == 3)
        await pilot.press("j", "space")
        assert [Path(p).name for p in app.selected] == ["a.parquet"]
        assert row(app, 1)[0] == "●"
        await pilot.press("k", "space")
        assert [Path(p).name for p in app.selected] == []
        await pilot.press("a")
        assert len(app.selected) == 3
        await pilot.press("a", "l")  # none selected: launching takes all
        assert app.current_mode == "launch" and len(app.selected) == 3


async def test_documents_are_paged_and_shown_as_text_and_tokens(shards: Path, until: Wait) -> None:
    app = app_on(shards)
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: app.screen.query_one("#shards", Table).row_count == 3)
        await pilot.press("j", "enter")
        table = app.screen.query_one(DocumentTable)
        await until(pilot, lambda: "Document 0." in lines(app, "#documents"))
        assert set(table._pages) == {0}  # no other page was read
        await pilot.press("G")
        await until(pilot, lambda: "same" in lines(app, "#documents"))
        assert table.cursor == 262 and 1 not in table._pages
        await pilot.press("k", "k")
        await until(pilot, lambda: "evil ␛[31m [red]markup[/red]" in lines(app, "#document"))
        await pilot.press("t")
        await until(pilot, lambda: "GPT-2 tokens" in content(app, "#document-title"))
        shown = lines(app, "#document")
        for token in load().encode_ordinary("evil \x1b[31m [red]markup[/red]"):
            assert str(token) in shown
        await pilot.press("enter")
        assert app.screen.focused is app.screen.query_one(DocumentView)
        await pilot.press("escape")
        assert app.screen.query_one(ContentSwitcher).current == "shards-view"


async def test_a_path_is_typed_and_a_wrong_one_named(shards: Path, until: Wait) -> None:
    app = GptbenchApp(shards.parent / "runs")
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("1")
        assert "b  builds sample shards" in content(app, "#none")
        await pilot.press("o", *"shards", "enter")
        await until(pilot, lambda: app.screen.query_one("#shards", Table).row_count == 3)
        await pilot.press("o", *"nowhere", "enter")
        await until(pilot, lambda: "nowhere" in content(app, "#problems"))


async def test_counting_can_be_stopped(shards: Path, until: Wait, monkeypatch: pytest.MonkeyPatch) -> None:
    big = make_shard(shards.parent / "big" / "x.parquet", [f"{i} word " * 200 for i in range(20_000)])
    app = GptbenchApp(shards.parent / "runs", data_paths=[str(big)])
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await until(pilot, lambda: app.screen.query_one("#shards", Table).row_count == 1)
        await pilot.press("s")
        pane = app.screen.query_one(StatisticsPane)
        await until(pilot, lambda: pane.progress or pane.figures)
        await pilot.press("escape")
        await until(pilot, lambda: pane.progress is None)
        assert not app.screen.query_one(ShardsView).counting


async def test_keys_wait_for_the_shards_that_are_read(
    shards: Path, until: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = hold_catalogue(monkeypatch)
    app = app_on(shards)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "reading" in content(app, "#none"))
        await pilot.press("c")
        assert "then columns" in content(app, "#none")
        await pilot.press("escape")
        assert "then" not in content(app, "#none")
        await pilot.press("x", "c")
        gate.set()
        await until(pilot, lambda: app.screen.query_one(ContentSwitcher).current == "columns-view")
        await until(pilot, lambda: app.screen.query_one("#columns", Table).row_count)


async def test_an_old_count_is_not_taken_for_one_of_other_shards(
    shards: Path, until: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    import data.statistics

    whole, gate, counts = data.statistics.statistics, threading.Event(), list[Any]()

    def slow(catalogue: Any, **kw: Any) -> Any:
        counts.append(catalogue)
        if len(counts) == 1:  # the first one does not hear that it is stopped, and answers late
            kw.pop("cancelled")
            gate.wait(30)
        return whole(catalogue, **kw)

    monkeypatch.setattr(data.statistics, "statistics", slow)
    make_shard(shards.parent / "other" / "x.parquet", ["a document of another shard"])
    app = app_on(shards)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.screen.query_one("#shards", Table).row_count == 3)
        await pilot.press("s")
        await until(pilot, lambda: len(counts) == 1)
        screen = app.screen
        assert isinstance(screen, DataScreen)
        screen.open_paths([str(shards.parent / "other")])
        await until(pilot, lambda: app.screen.query_one("#shards", Table).row_count == 1)
        await pilot.press("s")
        pane = app.screen.query_one(StatisticsPane)
        await until(pilot, lambda: pane.figures)
        gate.set()
        await until(pilot, lambda: all(not worker.is_running for worker in app.workers if worker.group == "count"))
        assert pane.figures is not None and pane.figures["documents"] == 1
        assert len(screen.query_one(ShardsView).by_file) == 1


async def test_the_sample_replaces_open_shards_only_after_a_question(shards: Path, until: Wait) -> None:
    app = app_on(shards)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.screen.query_one("#shards", Table).row_count == 3)
        await pilot.press("b")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, DataScreen))
        assert app.screen.query_one(ContentSwitcher).current == "shards-view"
        assert app.data_paths == [str(shards)]


async def test_the_split_of_the_highlighted_shard_is_shown(shards: Path, until: Wait) -> None:
    app = app_on(shards)
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: app.screen.query_one("#shards", Table).row_count == 3)
        await pilot.press("s")
        pane = app.screen.query_one(StatisticsPane)
        await until(pilot, lambda: pane.figures)
        assert pane.render().plain.splitlines()[-1].startswith("[red]c.parquet")
        await pilot.press("G")
        await until(pilot, lambda: pane.render().plain.splitlines()[-1].startswith("b.parquet"))
        assert pane.figures is not None
        (b,) = (f for f in pane.figures["by_file"] if f["file"].endswith("/b.parquet"))
        last = pane.render().plain.splitlines()[-1]
        assert f"exact {count(b['tokens'] - b['unique_tokens'])} (" in last and b["tokens"] > b["unique_tokens"]
        assert "near" in last and "boilerplate" in last


async def test_a_shard_without_text_can_still_be_browsed(here: Path, until: Wait) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (here / "odd").mkdir()
    pq.write_table(pa.table({"[b]body\x1b": ["hello"], "n": [7]}), here / "odd" / "odd.parquet")
    app = GptbenchApp(here / "runs", data_paths=["odd"])
    async with app.run_test(size=(150, 36)) as pilot:
        await until(pilot, lambda: app.screen.query_one("#shards", Table).row_count == 1)
        assert "no column 'text'" in content(app, "#problems") and "\x1b" not in content(app, "#problems")
        assert "[b]body␛" in row(app, 0)[-1]
        await pilot.press("a")
        assert app.selected == []
        await pilot.press("enter")
        await until(pilot, lambda: "hello" in lines(app, "#documents"))


async def test_the_sample_is_built_by_a_key(here: Path, until: Wait, monkeypatch: pytest.MonkeyPatch) -> None:
    import data.sample

    whole = data.sample.build
    monkeypatch.setattr(data.sample, "build", lambda folder, **kw: whole(folder, max_tokens=20_000, **kw))
    monkeypatch.setenv("GPTBENCH_CACHE", str(here / "cache"))
    app = GptbenchApp(here / "runs")
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("1", "b")
        await until(pilot, lambda: app.screen.query_one("#shards", Table).row_count == 4)


@given(st.text(max_size=300), st.integers(8, 60))
def test_wrapping_loses_nothing_and_fits(text: str, width: int) -> None:
    lines = list(wrap(text, width))
    assert "".join(lines) == text.expandtabs(4).replace("\n", "")
    assert all(cell_len(line) <= width for line in lines)


@given(st.text(max_size=120), st.integers(20, 80))
def test_tokens_keep_their_order_ids_and_text(text: str, width: int) -> None:
    encoding = load()
    pieces = pieces_of(text, encoding)
    assert [piece.id for piece in pieces] == encoding.encode_ordinary(text)
    assert all(ord(c) >= 32 and not 0x7F <= ord(c) < 0xA0 for piece in pieces for c in piece.text)
    assert [index for line in flow(pieces, width) for index, _ in line] == list(range(len(pieces)))


def test_what_was_not_computed_is_not_zero() -> None:
    shown = figures_text({"rows": 5, "bytes": 100, "tokens": None, "exact_duplicate_rows": None}).plain
    assert "–" in shown and "0 rows" not in shown
