"""The panes of the Data screen, on real shards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from textual.widgets import ContentSwitcher, DataTable, Footer, Input, Static
from textual.widgets._footer import FooterKey

from data.differences import Span, differences
from data.recipe import read
from tests.workbench.conftest import Wait
from workbench.app import GptbenchApp
from workbench.histogram import histogram_rows
from workbench.screens.data import DataScreen
from workbench.screens.keys import PANES
from workbench.screens.recipe_pane import RecipePane
from workbench.screens.sql_pane import SqlPane, Statement
from workbench.widgets.chart import ChartView
from workbench.widgets.document_table import DocumentTable
from workbench.widgets.side_by_side import SideBySide, wrapped
from workbench.widgets.statistics_pane import StatisticsPane
from workbench.widgets.table import Table

FOX = "The quick brown fox jumps over the lazy dog while the cat looks on and says nothing at all about it. "


@pytest.fixture
def scored(here: Path) -> Path:
    """Two shards with scores, and near copies between them."""
    folder = here / "scored"
    folder.mkdir()
    texts = [f"Document {i}. " + " ".join(f"w{(i * 7919 + k * k) % 9973}" for k in range(60)) for i in range(300)]
    for name, chosen in (
        ("a", texts[:250]),
        ("b", [*texts[250:], texts[7] + " changed", "evil \x1b[31m [red]x[/red] " + FOX]),
    ):
        table = {
            "text": chosen,
            "score": [(i * 37 % 50) / 10 for i in range(len(chosen))],
            "language": ["en"] * len(chosen),
        }
        pq.write_table(pa.table(table), folder / f"{name}.parquet", row_group_size=100)
    return folder


def app_on(folder: Path) -> GptbenchApp:
    return GptbenchApp(folder.parent / "runs", data_paths=[str(folder)])


def said(app: GptbenchApp, selector: str) -> str:
    return str(app.screen.query_one(selector, Static).content)


def seen(app: GptbenchApp, selector: str) -> str:
    view: Any = app.screen.query_one(selector)
    return "\n".join(view.render_line(y).text for y in range(view.size.height))


def listed(shards: int, app: GptbenchApp) -> Callable[[], bool]:
    return lambda: app.screen.query_one("#shards", Table).row_count == shards


async def typed(pilot: Any, key: str, text: str) -> None:
    await pilot.press(key)
    pilot.app.screen.focused.value = text
    await pilot.press("enter")


async def test_documents_are_filtered_sorted_searched_and_jumped_to(scored: Path, until: Wait) -> None:
    app = app_on(scored)
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, listed(2, app))
        await pilot.press("enter")
        table = app.screen.query_one(DocumentTable)
        await until(pilot, lambda: "Document 0." in seen(app, "#documents"))
        await typed(pilot, "f", "score >= 4.5 and text ~ DOCUMENT")
        await until(pilot, lambda: table.rows == 25)
        assert "25 rows  ·  filter: score >= 4.5 and text ~ DOCUMENT" in said(app, "#narrowed")
        await typed(pilot, "S", "score desc")
        await until(pilot, lambda: seen(app, "#documents").lstrip().split()[1:2] == ["4.9"])
        assert table.rows == 25
        await typed(pilot, "f", "scor > 1")
        await until(pilot, lambda: any("did you mean score" in n.message for n in app._notifications))
        await pilot.press("escape")  # filter and order away
        await until(pilot, lambda: table.rows == 250)
        await typed(pilot, "slash", "document 17.")
        await until(pilot, lambda: table.cursor == 17)
        await typed(pilot, "colon", "200")
        await until(pilot, lambda: table.cursor == 200 and "row 200 of a.parquet" in said(app, "#document-title"))
        await typed(pilot, "slash", "document 2")
        await until(pilot, lambda: table.cursor == 201)
        await pilot.press("n")
        await until(pilot, lambda: table.cursor == 202)
        await typed(pilot, "colon", "9999")
        await until(pilot, lambda: any("row 9,999 is not" in n.message for n in app._notifications))
        await pilot.press("w")
        await until(pilot, lambda: "score = " in seen(app, "#document"))
        await pilot.press("escape")
        assert app.screen.query_one(ContentSwitcher).current == "shards-view"


async def test_several_shards_are_one_table(scored: Path, until: Wait) -> None:
    app = app_on(scored)
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, listed(2, app))
        await pilot.press("v")
        table = app.screen.query_one(DocumentTable)
        await until(pilot, lambda: table.rows == 302)
        await pilot.press("G")
        await until(pilot, lambda: "evil ␛[31m [red]x[/red]" in seen(app, "#documents"))
        await until(pilot, lambda: "row 51 of b.parquet" in said(app, "#document-title"))
        await typed(pilot, "f", "text ~ changed")
        await until(pilot, lambda: table.rows == 1 and "row 50 of b.parquet" in said(app, "#document-title"))


async def test_columns_and_histograms(scored: Path, until: Wait) -> None:
    app = app_on(scored)
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, listed(2, app))
        await pilot.press("c")
        await until(pilot, lambda: "302 rows" in said(app, "#column-sheet"))
        await until(pilot, lambda: "length in characters" in app.screen.query_one(ChartView).text())
        await pilot.press("h")
        await until(
            pilot, lambda: "length in tokens  ·  302 documents counted" in app.screen.query_one(ChartView).text()
        )
        chart = app.screen.query_one(ChartView)
        painted = "\n".join(strip.text for strip in chart.render_lines(chart.outer_size.region))
        assert all(line.rstrip() in painted for line in chart.text().split("\n"))  # nothing of the one before is left
        await pilot.press("h")
        await until(pilot, lambda: "score  ·  302 values" in app.screen.query_one(ChartView).text())
        await pilot.press("j")
        await until(pilot, lambda: said(app, "#column-sheet").startswith("score"))
        assert "from 0" in said(app, "#column-sheet") and "4.9" in said(app, "#column-sheet")
        await until(pilot, lambda: app.screen.query_one("#columns", Table).get_row_at(0)[2].plain)
        await pilot.press("L")
        await until(pilot, lambda: "log axis" in app.screen.query_one(ChartView).text())


async def test_sql_is_asked_stopped_and_written(scored: Path, until: Wait) -> None:
    app = app_on(scored)
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, listed(2, app))
        await pilot.press("x")
        assert "2 shards as docs: text, score, language" in said(app, "#sql-status")
        box = app.screen.query_one(Statement)
        box.value = "SELECT text, NULL AS nothing FROM docs WHERE text LIKE 'evil%'"
        await pilot.press("enter")
        answer = app.screen.query_one("#answer", DataTable)
        await until(pilot, lambda: "1 row " in said(app, "#sql-status"))
        assert [cell.plain[:26] for cell in answer.get_row_at(0)] == ["evil ␛[31m [red]x[/red] Th", "null"]
        box.value = "DELETE FROM docs"
        await pilot.press("enter")
        await until(pilot, lambda: "reads only" in said(app, "#sql-status"))
        box.value = "SELECT count(*) FROM range(1000000000000) WHERE random() < 0"
        await pilot.press("enter")
        await until(pilot, lambda: "running" in said(app, "#sql-status"))
        await pilot.pause(0.3)
        await pilot.press("escape")
        await until(pilot, lambda: said(app, "#sql-status") == "stopped")
        await pilot.press("up", "up", "up")
        assert box.value.startswith("SELECT text, NULL")
        box.value = "FROM docs"
        await pilot.press("ctrl+r")
        await until(pilot, lambda: "302 rows" in said(app, "#sql-status"))
        await pilot.press("ctrl+o")
        app.screen.query_one("#export", Input).value = str(scored.parent / "out.csv")
        await pilot.press("enter")
        await until(pilot, lambda: "302 rows in" in said(app, "#sql-status"))
        assert (scored.parent / "out.csv").read_text().count("Document 17.") == 1
        await pilot.press("escape")
        assert app.screen.query_one(ContentSwitcher).current == "shards-view"
        pane = app.screen.query_one(SqlPane)
        assert pane._database is not None
        process = pane._database._process
    assert process is not None and process.poll() is not None  # the worker does not outlive the workbench


async def test_copies_are_shown_side_by_side(scored: Path, until: Wait) -> None:
    app = app_on(scored)
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, listed(2, app))
        await pilot.press("d")
        await until(pilot, lambda: app.screen.query_one("#clusters", Table).row_count == 1)
        await until(pilot, lambda: "kept a.parquet:7  |  copy b.parquet:50" in said(app, "#pair-title"))
        assert "1 near copies" in said(app, "#clusters-status")
        lines = app.screen.query_one(SideBySide)._lines
        assert any(changed and "changed" in text for _, _, right in lines for text, changed in right)
        assert not any(changed for _, left, _ in lines for text, changed in left if text.strip())


async def test_repeated_lines_lead_to_their_documents(here: Path, until: Wait) -> None:
    notice = "Subscribe to our newsletter and never miss a single word of what we have to say about it all"
    folder = here / "lined"
    folder.mkdir()
    texts = [" ".join(f"w{(i * 7919 + k * k) % 9973}" for k in range(60)) for i in range(20)]
    texts = [f"{text}\n{notice}" if i % 2 else text for i, text in enumerate(texts)]
    pq.write_table(pa.table({"text": texts}), folder / "a.parquet")
    app = app_on(folder)
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, listed(1, app))
        await pilot.press("d")
        lines = app.screen.query_one("#lines", Table)
        await until(pilot, lambda: lines._content)
        await pilot.press("b")
        await until(pilot, lambda: lines.row_count == 1)
        assert [cell.plain for cell in lines.get_row_at(0)][1:] == ["10", notice]
        held = app.screen.query_one("#line-documents", Table)
        await until(pilot, lambda: held.row_count == 10)
        await pilot.press("enter")
        await until(pilot, lambda: app.focused is held)
        await pilot.press("j")
        await until(pilot, lambda: (held.current_key or "").endswith("a.parquet:3"))
        await pilot.press("enter")
        await until(pilot, lambda: "row 3 of a.parquet" in said(app, "#document-title"))
        assert "Subscribe" in seen(app, "#document")
        await pilot.press("escape")  # back to where it was opened from
        assert app.screen.query_one(ContentSwitcher).current == "clusters-view"
        pane = app.screen.query_one(StatisticsPane)
        assert pane.figures and pane.figures["worth_basis"] == "exact" and pane.figures["boilerplate_tokens"]


async def test_a_recipe_is_made_previewed_saved_and_taken(scored: Path, until: Wait) -> None:
    app = app_on(scored)
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, listed(2, app))
        await pilot.press("a", "r")
        await typed(pilot, "enter", "near")
        await pilot.press("j")
        await typed(pilot, "enter", "4.0")
        pane = app.screen.query_one(RecipePane)
        assert pane.recipe is not None and (pane.recipe.deduplicate, pane.recipe.filter.min_score) == ("near", 4.0)
        await typed(pilot, "enter", "high")
        await until(pilot, lambda: any("must be a number" in n.message for n in app._notifications))
        await pilot.press("escape", "p")
        await until(pilot, lambda: "trained on" in said(app, "#recipe-effect"))
        assert "near copies once" in said(app, "#recipe-effect") and "epochs" in said(app, "#recipe-effect")
        await typed(pilot, "ctrl+s", str(scored.parent / "r.toml"))
        await until(pilot, lambda: app.recipe)
        assert read(scored.parent / "r.toml") == pane.recipe and app.recipe == str(scored.parent / "r.toml")
        await pilot.press("escape", "l")
        await until(pilot, lambda: app.current_mode == "launch")
        assert app.screen.options.config(app.selected).data.recipe == app.recipe  # type: ignore[attr-defined]


async def test_effective_tokens_stand_on_top(scored: Path, until: Wait) -> None:
    app = app_on(scored)
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, listed(2, app))
        await pilot.press("s")
        pane = app.screen.query_one(StatisticsPane)
        await until(pilot, lambda: pane.figures)
        first, second = pane.render().plain.split("\n")[:2]
        assert first.startswith("effective unique") and "taken away" in second and "near" in second


@pytest.mark.parametrize("key", ["enter", "c", "x", "d", "r"])
async def test_every_pane_fits_80x24_and_its_keys_are_bound(scored: Path, until: Wait, key: str) -> None:
    app = app_on(scored)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, listed(2, app))
        await pilot.press(key)
        await pilot.pause(0.3)
        screen = app.screen
        assert isinstance(screen, DataScreen)
        pane = screen._pane()
        assert pane is not None
        title = {"enter": "Documents", "c": "Columns", "x": "SQL", "d": "Copies", "r": "Recipe"}[key]
        for each in PANES[title]:
            if each.action:
                assert hasattr(pane, f"action_{each.action.partition('(')[0]}")
                assert all(k in pane._bindings.key_to_bindings for k in each.key.split(","))
        keys = list(screen.query_one(Footer).query(FooterKey))
        assert max(k.region.right for k in keys) <= 80 and "esc" in {k.key_display for k in keys}
        assert "o" not in {k.key_display for k in keys}
        for _ in range(3):
            await pilot.press("escape")
            await pilot.pause(0.1)
        assert screen.query_one(ContentSwitcher).current == "shards-view"


@given(
    st.lists(st.integers(0, 10**7), min_size=1, max_size=60), st.integers(20, 120), st.integers(5, 30), st.booleans()
)
def test_a_histogram_fits_and_shows_every_bin_that_holds_something(
    counts: list[int], width: int, height: int, log: bool
) -> None:
    edges = [2.0**i if log else float(i) for i in range(len(counts) + 1)]
    rows = [
        "".join(text for text, _ in row) for row in histogram_rows(edges, counts, width=width, height=height, log=log)
    ]
    assert all(len(row) <= width for row in rows) and len(rows) <= height
    if any(counts) and len(counts) <= width - 12:
        drawn = rows[-2].partition("│")[2]
        room = len(drawn)
        for i, count in enumerate(counts):
            begin, end = round(i * room / len(counts)), round((i + 1) * room / len(counts))
            assert (set(drawn[begin:end]) != {" "}) == bool(count)


@given(st.lists(st.tuples(st.text(max_size=30), st.booleans()), max_size=8), st.integers(4, 40))
def test_a_side_loses_nothing_and_fits(spans: list[tuple[str, bool]], width: int) -> None:
    lines = wrapped([Span(text, changed) for text, changed in spans], width)
    assert all(sum(cell_len(text) for text, _ in line) <= width for line in lines)
    assert not any(ord(c) < 32 for line in lines for text, _ in line for c in text)
    shown = "".join(text for line in lines for text, _ in line)
    assert len(shown) == sum(len(text.expandtabs(4)) for text, _ in spans)
    assert differences("a\nb", "a\nc")[1].kind == "changed"
