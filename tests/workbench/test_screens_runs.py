"""The Runs screen, on real run directories."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import Any

import pytest
from rich.text import Text
from textual.widgets import Input, Static

from engine import process
from engine.events import EventWriter
from tests.workbench.conftest import Wait
from tests.workbench.folders import NOW, make_run
from workbench.app import GptbenchApp
from workbench.errors import UserError
from workbench.runs import query, queue
from workbench.screens.compare import CompareScreen
from workbench.screens.runs import RunsScreen
from workbench.widgets.chart import ChartView
from workbench.widgets.table import Table


def cells(app: GptbenchApp, row: int) -> dict[str, str]:
    """A row's cells by the keys of the columns that are shown."""
    table = app.screen.query_one(Table)
    keys = [str(column.key.value) for column in table.ordered_columns]
    return dict(zip(keys, [cell.plain for cell in table.get_row_at(row)], strict=True))


async def test_it_lists_runs_newest_first_with_state_progress_loss_and_age(runs: Path, until: Wait) -> None:
    app = GptbenchApp(runs, clock=lambda: NOW)
    async with app.run_test(size=(120, 24)) as pilot:
        await until(pilot, lambda: app.screen.query_one(Table).row_count == 3)
        assert cells(app, 0)["name"] == "gpt2-10m-20250615-155500"
        second = cells(app, 1)
        assert (second["name"], second["state"], second["done"]) == ("demo-1m-20250615-150000", "✗ dead", "75%")
        assert (second["best"], second["val"]) == ("2.4366", "2.7404")  # the best is not the newest
        assert cells(app, 2)["state"] == "✓ finished" and cells(app, 2)["age"] == "1d01h"
        assert "3 runs" in str(app.screen.query_one("#summary", Static).content)


async def test_the_table_follows_what_runs_write_and_keeps_its_cursor(runs: Path, until: Wait) -> None:
    app = GptbenchApp(runs, clock=lambda: NOW)
    async with app.run_test(size=(120, 24)) as pilot:
        await until(pilot, lambda: app.screen.query_one(Table).row_count == 3)
        await pilot.press("j", "j")
        writer = EventWriter(runs / "gpt2-10m-20250615-155500")
        writer.write("eval", step=130, split="heldout", loss=1.2345, se=0.01, documents=3, tokens=5)
        writer.close()
        await until(pilot, lambda: cells(app, 0)["best"] == "1.2345")
        make_run(runs, "newest", steps=5, age=1.0)
        await until(pilot, lambda: app.screen.query_one(Table).row_count == 4)
        assert str(app.screen.query_one(Table).current_key).endswith("seed-40m-20250614-110000")


async def test_filter_enter_and_escape(runs: Path, until: Wait) -> None:
    app = GptbenchApp(runs, clock=lambda: NOW)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.screen.query_one(Table).row_count == 3)
        await pilot.press("slash", *"FINI", "enter")
        await until(pilot, lambda: app.screen.query_one(Table).row_count == 1)
        assert "1 of 3 runs" in str(app.screen.query_one("#summary", Static).content)
        await pilot.press("escape")
        assert app.screen.query_one(Table).row_count == 3
        await pilot.press("slash", *"zzz")
        await until(pilot, lambda: "no run matches" in str(app.screen.query_one("#empty", Static).content))


async def test_enter_opens_the_run_under_the_cursor(runs: Path, until: Wait) -> None:
    app = GptbenchApp(runs, clock=lambda: NOW)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.screen.query_one(Table).row_count == 3)
        await pilot.press("down", "enter")
        assert app.current_mode == "run"
        assert app.run_dir == runs / "demo-1m-20250615-150000"


async def test_an_empty_folder_says_what_to_do(here: Path, until: Wait) -> None:
    app = GptbenchApp(here / "nothing")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "no runs in nothing yet" in str(app.screen.query_one("#empty", Static).content))
        assert "b there builds a sample" in str(app.screen.query_one("#empty", Static).content)
        await pilot.press("n")
        assert app.current_mode == "data"


async def test_names_and_verdicts_from_files_are_neither_markup_nor_escapes(here: Path, until: Wait) -> None:
    run_dir = make_run(here / "runs", "[red]a[bold] \x1b[31mb", steps=5)
    (run_dir / "diagnosis.json").write_text('{"verdict": "[blink]\\u001b[5m"}')
    app = GptbenchApp(here / "runs", clock=lambda: NOW)
    async with app.run_test(size=(140, 24)) as pilot:
        await until(pilot, lambda: app.screen.query_one(Table).row_count == 1)
        assert cells(app, 0)["name"] == "[red]a[bold] ␛[31mb"
        assert cells(app, 0)["verdict"] == "[blink]␛[5m"
        await pilot.press("enter")
        await pilot.pause(0.3)
        assert "\x1b" not in app.export_screenshot()


async def test_stopping_what_does_not_run_says_so_and_changes_nothing(runs: Path, until: Wait) -> None:
    app = GptbenchApp(runs, clock=lambda: NOW)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await until(pilot, lambda: app.screen.query_one(Table).row_count == 3)
        await pilot.press("s")
        await until(pilot, lambda: len(app._notifications))
        assert "is not running" in next(iter(app._notifications)).message


async def test_a_thousand_runs_are_listed_and_moved_through(here: Path, until: Wait) -> None:
    from workbench.runs.store import RunSummary
    from workbench.screens.runs import RunsListed

    app = GptbenchApp(here / "none", clock=lambda: NOW)
    async with app.run_test(size=(120, 30)) as pilot:
        many = [RunSummary(f"/r/{i}", f"run-{i}", "finished", i, 1000, 3.0, None, NOW - i, 1e5) for i in range(1000)]
        await until(pilot, lambda: app.screen.runs is not None)  # type: ignore[attr-defined]
        app.lookout.list_for(None)
        app.screen.post_message(RunsListed(many))
        await until(pilot, lambda: app.screen.query_one(Table).row_count == 1000)
        await pilot.press("G")
        assert app.screen.query_one(Table).current_key == "/r/999"


async def test_marked_runs_are_compared(runs: Path, until: Wait) -> None:
    app = GptbenchApp(runs, clock=lambda: NOW)
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await until(pilot, lambda: app.screen.query_one(Table).row_count == 3)
        await pilot.press("c")
        assert "two runs" in next(iter(app._notifications)).message
        await pilot.press("space", "space", "c")
        await until(pilot, lambda: isinstance(app.screen, CompareScreen))
        view = app.screen.query_one("#compare-chart", ChartView)
        await until(pilot, lambda: "━ gpt2-10m-20250615-155500 3.787" in view.text() and "demo-1m" in view.text())
        table = app.screen.query_one(Table)
        rows = {row[0].plain: [cell.plain for cell in row[1:]] for row in map(table.get_row_at, range(13))}
        assert rows["best val loss"] == ["3.7866", "2.4366"] and rows["state"] == ["stopped", "dead"]
        assert rows["val at step 100"] == ["3.7866", "3.7866"]  # both have come so far, and are the same run there
        await pilot.press("a", "v")
        await until(pilot, lambda: "train loss / tokens" in view.text())
        await pilot.press("left")
        await until(pilot, lambda: "@ " in view.text())
        whole = view.text()
        await pilot.press("plus", "plus")
        await until(pilot, lambda: view.text().split("\n")[-1] != whole.split("\n")[-1])
        await pilot.press("f")
        await until(pilot, lambda: not table.display and view.text().count("\n") > 30)
        await pilot.press("escape")
        assert isinstance(app.screen, RunsScreen) and "2 marked" in str(
            app.screen.query_one("#summary", Static).content
        )


async def test_a_comparison_follows_a_run_that_goes_on(runs: Path, until: Wait) -> None:
    app = GptbenchApp(runs, clock=lambda: NOW)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: app.screen.query_one(Table).row_count == 3)
        await pilot.press("space", "space", "c")
        await until(pilot, lambda: isinstance(app.screen, CompareScreen))
        table = app.screen.query_one(Table)
        await until(pilot, lambda: table.row_count)
        writer = EventWriter(runs / "gpt2-10m-20250615-155500")
        writer.write("eval", step=130, split="heldout", loss=1.2345, se=0.01, documents=3, tokens=5)
        writer.close()
        await until(pilot, lambda: "1.2345" in [table.get_row_at(row)[1].plain for row in range(table.row_count)])
        await until(pilot, lambda: "1.23" in app.screen.query_one(ChartView).text())


async def test_a_marked_run_keeps_its_colour_whatever_else_is_marked(runs: Path, until: Wait) -> None:
    app = GptbenchApp(runs, clock=lambda: NOW)
    async with app.run_test(size=(120, 40)) as pilot:
        table = app.screen.query_one(Table)
        await until(pilot, lambda: table.row_count == 3)

        def colour(row: int) -> str:
            cell = table.get_row_at(row)[0]
            assert isinstance(cell, Text)
            return str(cell.style)

        await pilot.press("space", "space", "space")
        colours = [colour(row) for row in range(3)]
        assert len(set(colours)) == 3
        await pilot.press("g", "space")  # the first is taken out, and marked again
        assert [colour(1), colour(2)] == colours[1:] and not cells(app, 0)["name"].startswith("●")
        await pilot.press("g", "space")
        assert [colour(row) for row in range(3)] == colours


async def test_runs_stand_in_the_order_that_was_chosen_and_it_is_remembered(runs: Path, until: Wait) -> None:
    app = GptbenchApp(runs, clock=lambda: NOW)
    async with app.run_test(size=(120, 24)) as pilot:
        await until(pilot, lambda: app.screen.query_one(Table).row_count == 3)
        await pilot.press("S")
        losses = [float(cells(app, row)["best"]) for row in range(3)]
        assert losses == sorted(losses)
        assert "best held-out loss first" in str(app.screen.query_one("#summary", Static).content)
    again = GptbenchApp(runs, clock=lambda: NOW)
    async with again.run_test(size=(120, 24)) as pilot:
        await until(pilot, lambda: again.screen.query_one(Table).row_count == 3)
        assert [float(cells(again, row)["best"]) for row in range(3)] == losses


async def test_a_run_that_is_open_is_open_under_its_new_name(runs: Path, until: Wait) -> None:
    app = GptbenchApp(runs, clock=lambda: NOW)
    async with app.run_test(size=(120, 24)) as pilot:
        await until(pilot, lambda: app.screen.query_one(Table).row_count == 3)
        await pilot.press("enter")
        await until(pilot, lambda: app.current_mode == "run")
        await pilot.press("4", "R", "ctrl+a", "ctrl+k", *"best", "enter")
        await until(pilot, lambda: app.run_dir == runs / "best")
        await pilot.press("3")
        await until(pilot, lambda: app.screen.feed and app.screen.feed.run_dir == runs / "best")  # type: ignore[attr-defined]


async def test_delete_asks_and_rename_and_note_last(runs: Path, until: Wait) -> None:
    app = GptbenchApp(runs, clock=lambda: NOW)
    async with app.run_test(size=(140, 24)) as pilot:
        await until(pilot, lambda: app.screen.query_one(Table).row_count == 3)
        await pilot.press("D", "n")
        assert (runs / "gpt2-10m-20250615-155500").is_dir()
        await pilot.press("N", *"good", "enter")
        await until(pilot, lambda: cells(app, 0)["note"] == "good")
        await pilot.press("R", "ctrl+a", "ctrl+k", *"best", "enter")
        await until(pilot, lambda: (runs / "best" / "config.toml").is_file() and cells(app, 0)["name"] == "best")
        await pilot.press("g", "D", "y")
        await until(pilot, lambda: app.screen.query_one(Table).row_count == 2)
        assert not (runs / "best").exists()


async def test_a_filter_compares_figures_and_says_what_it_does_not_know(runs: Path, until: Wait) -> None:
    app = GptbenchApp(runs, clock=lambda: NOW)
    async with app.run_test(size=(120, 24)) as pilot:
        await until(pilot, lambda: app.screen.query_one(Table).row_count == 3)
        await pilot.press("slash", *"step>500 not fin", "enter")
        await until(pilot, lambda: app.screen.query_one(Table).row_count == 1)
        assert cells(app, 0)["name"].startswith("demo")
        await pilot.press("slash")
        app.screen.query_one("#filter", Input).value = "layrs=3"
        await until(pilot, lambda: "did you mean layers?" in str(app.screen.query_one("#summary", Static).content))


async def test_configurations_are_read_off_the_event_loop(
    runs: Path, until: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, readers = threading.Event(), set()
    read = query.configuration

    def slow(run_dir: Path) -> dict[str, Any]:
        readers.add(threading.current_thread())
        go.wait(20)
        return read(run_dir)

    monkeypatch.setattr(query, "configuration", slow)
    app = GptbenchApp(runs, clock=lambda: NOW)
    async with app.run_test(size=(120, 24)) as pilot:
        await until(pilot, lambda: app.screen.query_one(Table).row_count == 3)
        app.screen.query_one("#filter", Input).value = "batch=8 not fin"
        await until(pilot, lambda: readers)
        await pilot.press("space")  # the disk does not answer, and the screen does
        assert "1 marked" in str(app.screen.query_one("#summary", Static).content)
        make_run(runs, "newest", steps=5, age=1.0)  # listed while the filter is at work: sifted as well
        await until(pilot, lambda: len(app.screen.runs or []) == 4)  # type: ignore[attr-defined]
        go.set()
        await until(pilot, lambda: app.screen.query_one(Table).row_count == 3 and cells(app, 0)["name"] == "newest")
        assert threading.main_thread() not in readers


async def test_runs_are_queued_and_show_their_place(runs: Path, until: Wait, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # the CPU slot, on every machine
    for name, age in (("first", 3.0), ("second", 2.0), ("busy", 1.0)):
        make_run(runs, name, steps=1, age=age)
        (runs / name / "events.jsonl").unlink()
    process.write(runs / "busy")  # this test's own process holds the slot
    app = GptbenchApp(runs, clock=lambda: NOW)

    def states() -> list[str]:
        return [cells(app, row)["state"] for row in range(app.screen.query_one(Table).row_count)]

    async with app.run_test(size=(120, 24), notifications=True) as pilot:
        await until(pilot, lambda: states()[:3] == ["● running", "… made", "… made"])
        summary = app.screen.query_one("#summary", Static)
        try:
            await pilot.press("W")
            await until(pilot, lambda: any("nothing waits" in n.message for n in app._notifications))
            await pilot.press("j", "j", "space", "k", "k", "space", "w")  # marked in this order: first, second
            await until(pilot, lambda: states()[1:3] == ["… queue 2", "… queue 1"])
            await until(pilot, lambda: "queue: 2 waiting" in str(summary.content))
            await until(pilot, lambda: queue.pid(runs) is not None)
            assert queue.read(runs).waiting == ["first", "second"]
            await pilot.press("W")
            await until(pilot, lambda: "nothing starts them" in str(summary.content) and queue.pid(runs) is None)
            await pilot.press("escape", "g", "j", "w")  # no marks: the run under the cursor, out of it
            await until(pilot, lambda: states()[1:3] == ["… made", "… queue 1"])
        finally:
            with contextlib.suppress(UserError):
                queue.stop(runs)


async def test_rows_take_the_colours_of_another_theme_at_once(runs: Path, until: Wait) -> None:
    app = GptbenchApp(runs, clock=lambda: NOW)
    async with app.run_test(size=(120, 36)) as pilot:
        table = app.screen.query_one(Table)
        await until(pilot, lambda: table.row_count == 3)

        def styles() -> set[str]:
            cells = (table.get_row_at(row)[1] for row in range(3))
            return {str(cell.style) for cell in cells if isinstance(cell, Text)}

        before = styles()
        app.theme = "textual-light"
        await pilot.pause()
        await pilot.pause()
        assert before and not styles() & before
