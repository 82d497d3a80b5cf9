"""The Run screen, following real events files."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
from textual.widgets import Static

from engine import process
from engine.events import EventWriter
from tests.workbench.conftest import Wait
from tests.workbench.folders import NOW, make_run
from workbench import remember
from workbench.app import GptbenchApp
from workbench.runs.follow import Follower
from workbench.screens.feed import Probing, snapshot
from workbench.screens.run import RunScreen
from workbench.widgets.chart import ChartView
from workbench.widgets.log_view import LogView, _overlap
from workbench.widgets.plateau_pane import PlateauPane, lines, verdict_line
from workbench.widgets.run_header import RunHeader
from workbench.widgets.samples_pane import SamplesPane
from workbench.widgets.table import Table


def chart(app: GptbenchApp, name: str = "loss") -> str:
    return app.screen.query_one(f"#{name}", ChartView).text()


def shown(app: GptbenchApp) -> str:
    """The screen as text."""
    return "\n".join(strip.text for strip in app.screen._compositor.render_strips())


async def test_it_draws_what_is_there_and_follows_what_comes(here: Path, until: Wait) -> None:
    run_dir = make_run(here / "runs", steps=300)
    app = GptbenchApp(here / "runs", open_run=run_dir, clock=lambda: NOW)
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: "val 2.4" in chart(app))
        header = app.screen.query_one(RunHeader)
        assert "300/800" in header.render().plain and "dead" in header.render().plain
        assert "learning rate" in chart(app, "lr")
        assert app.screen.query_one(LogView).lines[0] == "packed 2 shards"
        writer = EventWriter(run_dir)
        writer.write("step", step=301, loss=1.0, lr=1e-3, tokens=1, epoch=3.0, step_time=0.5, tokens_per_s=5.0)
        writer.write("eval", step=301, split="heldout", loss=9.8765, se=0.01, documents=3, tokens=5)
        writer.close()
        with (run_dir / "engine.log").open("a") as log:
            log.write("a new line \x1b[31m[red]\n")
        await until(pilot, lambda: "val 9.877" in chart(app))
        assert "301/800" in header.render().plain
        await until(pilot, lambda: "a new line ␛[31m[red]" in list(app.screen.query_one(LogView).lines))


async def test_an_update_repaints_only_rows_that_changed(here: Path, until: Wait) -> None:
    run_dir = make_run(here / "runs", steps=300)
    app = GptbenchApp(here / "runs", open_run=run_dir, clock=lambda: NOW)
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: "val 2.4" in chart(app))
        loss = app.screen.query_one("#loss", ChartView)
        await pilot.pause(0.3)
        before, rows = loss.repainted, len(loss._rows)
        writer = EventWriter(run_dir)
        writer.write("step", step=301, loss=2.0, lr=1e-3, tokens=1, epoch=3.0, step_time=0.5, tokens_per_s=5.0)
        writer.close()
        header = app.screen.query_one(RunHeader)
        await until(pilot, lambda: "301/800" in header.render().plain)
        assert loss.repainted - before < rows / 3


async def test_why_appears_by_itself_from_the_real_explainer(here: Path, until: Wait) -> None:
    run_dir = make_run(here / "runs", steps=600, max_steps=600, stop="finished")
    app = GptbenchApp(here / "runs", open_run=run_dir, clock=lambda: NOW)
    async with app.run_test(size=(120, 36)) as pilot:
        pane = app.screen.query_one(PlateauPane)
        await until(pilot, lambda: pane.diagnosis)
        assert pane.diagnosis is not None and pane.diagnosis["verdict"] == "overfitting"
        assert "overfitting" in str(app.screen.query_one("#verdict", Static).content)
        assert "%" in str(pane.query_one(Static).content)
        assert (run_dir / "diagnosis.json").is_file()


async def test_export_writes_the_summary_and_says_where(here: Path, until: Wait) -> None:
    run_dir = make_run(here / "runs", steps=400, max_steps=400, stop="finished")
    app = GptbenchApp(here / "runs", open_run=run_dir, clock=lambda: NOW)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await pilot.press("e")
        await until(pilot, lambda: (run_dir / "summary.md").is_file())
        await until(pilot, lambda: any("summary.md" in n.message for n in app._notifications))


async def test_keys_change_axis_pane_and_fullness(here: Path, until: Wait) -> None:
    run_dir = make_run(here / "runs", steps=400)
    app = GptbenchApp(here / "runs", open_run=run_dir, clock=lambda: NOW)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "val" in chart(app))
        linear = chart(app)
        await pilot.press("L")
        await until(pilot, lambda: chart(app) != linear)
        assert "10" in chart(app).split("\n")[2]  # the logarithmic axis begins at the first loss
        assert app.screen.query_one("#why").display and not app.screen.query_one("#log").region.height
        await pilot.press("right_square_bracket", "right_square_bracket")
        assert app.screen.query_one("#log").region.height and app.screen.focused is app.screen.query_one("#log")
        await pilot.press("left_square_bracket")
        await until(pilot, lambda: "learning rate" in chart(app, "lr"))
        await pilot.press("f")
        await pilot.pause(0.2)
        assert app.screen.query_one("#lr").region.height > 15
        assert not app.screen.query_one("#loss").region.height
        await until(pilot, lambda: chart(app, "lr").count("\n") + 1 == app.screen.query_one("#lr").size.height)
        await pilot.press("f")
        await pilot.pause(0.2)
        assert app.screen.query_one("#loss").region.height


async def test_it_resizes_live(here: Path, until: Wait) -> None:
    run_dir = make_run(here / "runs", steps=400)
    app = GptbenchApp(here / "runs", open_run=run_dir, clock=lambda: NOW)
    async with app.run_test(size=(80, 24)) as pilot:
        for size in ((160, 50), (40, 12), (20, 6), (120, 36)):
            await pilot.resize_terminal(*size)
            view = app.screen.query_one("#loss", ChartView)
            await pilot.pause(0.2)

            def fits(view: ChartView = view) -> bool:
                wanted = (view.size.width, view.size.height)
                lines = view.text().split("\n")
                return not min(wanted) or (len(lines[0]), len(lines)) == wanted

            await until(pilot, fits)


async def test_no_run_and_a_run_without_events_say_what_to_do(here: Path, until: Wait) -> None:
    app = GptbenchApp(here / "runs", clock=lambda: NOW)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await pilot.press("3")
        assert "no run is open" in str(app.screen.query_one("#verdict", Static).content)
        await pilot.press("s")
        await until(pilot, lambda: any("no run is open" in n.message for n in app._notifications))
        empty = here / "runs" / "fresh"
        empty.mkdir(parents=True)
        (empty / "config.toml").write_text("")
        app.open_run(empty)
        await until(pilot, lambda: app.screen.query_one(RunHeader).status is not None)
        assert app.screen.query_one(RunHeader).status.state == "queued"  # type: ignore[union-attr]
        assert chart(app) == ""


async def test_another_run_replaces_the_first_wholly(here: Path, until: Wait) -> None:
    first, second = make_run(here / "runs", "first", steps=300), make_run(here / "runs", "second", steps=40, log="2\n")
    app = GptbenchApp(here / "runs", open_run=first, clock=lambda: NOW)
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: app.screen.query_one(PlateauPane).diagnosis)
        app.open_run(second)
        await until(pilot, lambda: "40/800" in app.screen.query_one(RunHeader).render().plain)
        await until(pilot, lambda: list(app.screen.query_one(LogView).lines) == ["2"])
        assert isinstance(app.screen, RunScreen) and app.screen.feed is not None
        assert app.screen.feed.run_dir == second


async def test_a_hidden_run_screen_reads_nothing(here: Path, until: Wait) -> None:
    run_dir = make_run(here / "runs", steps=300)
    app = GptbenchApp(here / "runs", open_run=run_dir, clock=lambda: NOW)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "val" in chart(app))
        screen = app.screen
        await pilot.press("4")
        assert isinstance(screen, RunScreen) and screen.feed is not None
        await pilot.pause(0.3)
        writer = EventWriter(run_dir)
        writer.write("eval", step=301, split="heldout", loss=9.8765, se=0.01, documents=3, tokens=5)
        writer.close()
        await pilot.pause(0.4)
        assert "9.877" not in screen.query_one("#loss", ChartView).text()
        await pilot.press("3")
        await until(pilot, lambda: "val 9.877" in chart(app))


async def test_zoom_cursor_and_axes_by_keys_and_mouse_and_zoom_survives_new_data(here: Path, until: Wait) -> None:
    run_dir = make_run(here / "runs", steps=700)
    app = GptbenchApp(here / "runs", open_run=run_dir, clock=lambda: NOW)
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: "val" in chart(app))
        screen = app.screen
        assert isinstance(screen, RunScreen)
        await pilot.press("plus", "plus")
        await until(pilot, lambda: "0 " not in chart(app).split("\n")[-1][:12])
        window = screen.view.window
        assert window is not None and 0 < window[0] < window[1] < 800
        writer = EventWriter(run_dir)
        writer.write(
            "step", time=NOW, step=701, loss=2.0, lr=1e-3, tokens=1, epoch=3.0, step_time=0.5, tokens_per_s=5.0
        )
        writer.close()
        await until(pilot, lambda: "701/800" in screen.query_one(RunHeader).render().plain)
        assert screen.view.window == window
        await pilot.press("greater_than_sign")
        assert screen.view.window is not None and screen.view.window[0] > window[0]
        await pilot.press("right")
        await until(pilot, lambda: "loss @ step" in chart(app))
        told = chart(app).split("\n")[0]
        await pilot.press("right", "right", "l")
        await until(pilot, lambda: chart(app).split("\n")[0] != told)
        await pilot.press("0")
        await until(pilot, lambda: "@" not in chart(app) and "800" in chart(app).split("\n")[-1])
        for axis in ("tokens", "epoch", "minutes"):
            await pilot.press("a")
            await until(pilot, lambda axis=axis: f"loss / {axis}" in chart(app))
        await pilot.press("a")
        await pilot.click("#loss", offset=(40, 10))
        await until(pilot, lambda: "loss @ step" in chart(app))
        loss = screen.query_one("#loss", ChartView)
        loss.post_message(ChartView.Wheel(loss, -1, 0.5, False))
        await until(pilot, lambda: screen.view.window is not None)


async def test_it_says_that_the_run_died_and_rings_if_asked(
    here: Path, until: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPTBENCH_NOTIFY", "1")
    run_dir = make_run(here / "runs", steps=300)
    process.write(run_dir, os.getpid())
    app = GptbenchApp(here / "runs", open_run=run_dir, clock=lambda: NOW)
    rung: list[bool] = []
    monkeypatch.setattr(app, "bell", lambda: rung.append(True))
    monkeypatch.delenv("TMUX", raising=False)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await until(pilot, lambda: "running" in app.screen.query_one(RunHeader).render().plain)
        written: list[str] = []
        monkeypatch.setattr(app._driver, "write", written.append)
        assert not rung
        writer = EventWriter(run_dir)
        writer.write("step", step=301, loss=math.nan, lr=1e-3, tokens=1, epoch=3.0, step_time=0.5)
        writer.close()
        await until(pilot, lambda: any("no number since step 301" in n.message for n in app._notifications))
        assert rung == [True] and any(text.startswith("\x1b]9;") and "step 301" in text for text in written)
        (run_dir / process.FILE_NAME).unlink()
        await until(pilot, lambda: any(n.message.endswith(": dead") for n in app._notifications))
        assert rung == [True, True] and written[-1].startswith("\x1b]777;notify;gptbench;")
        app.alert("from a file \x1b[31m\x07")
        assert written[-1].count("\x1b") == 1 and written[-1].count("\x07") == 1


async def test_the_grid_shows_what_the_run_reports_and_one_alone(here: Path, until: Wait) -> None:
    run_dir = make_run(here / "runs", steps=300)
    app = GptbenchApp(here / "runs", open_run=run_dir, clock=lambda: NOW)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "val" in chart(app))
        await pilot.press("m")
        await until(pilot, lambda: "MFU" in chart(app, "grid-mfu") and "memory" in chart(app, "grid-memory"))
        await until(pilot, lambda: not app.screen.query_one("#grid-gpu").display)
        await pilot.press("right_square_bracket", "right_square_bracket", "f")
        view = app.screen.query_one("#grid-grad_norm", ChartView)
        await until(pilot, lambda: view.region.height > 30 and view.text().count("\n") + 1 == view.size.height)
        await pilot.press("f", "m")
        await until(pilot, lambda: app.screen.query_one("#loss").region.height)


async def test_a_figure_that_is_reported_later_comes_into_the_grid(here: Path, until: Wait) -> None:
    run_dir = make_run(here / "runs", steps=0)  # an evaluation before the first step
    app = GptbenchApp(here / "runs", open_run=run_dir, clock=lambda: NOW)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "val" in chart(app))
        await pilot.press("m")
        rate = app.screen.query_one("#grid-lr", ChartView)
        await until(pilot, lambda: rate.has_class("-absent"))
        writer = EventWriter(run_dir)
        for step in (1, 2, 3):
            writer.write("step", step=step, loss=9.0, lr=1e-3, tokens=step, epoch=0.1, step_time=0.5)
        writer.close()
        await until(pilot, lambda: "learning rate" in rate.text() and rate.text().count("\n") + 1 == rate.size.height)
        assert app.screen.query_one("#grid-mfu", ChartView).has_class("-absent")  # which it does not report


def test_a_snapshot_does_not_change_when_the_history_grows_or_is_cut(here: Path) -> None:
    follower = Follower(make_run(here / "runs", steps=300))
    follower.poll()
    history = follower.history
    copied = snapshot(history)
    losses = copied.steps["loss"].copy()
    history.apply({"event": "resume", "step": 100})
    for step in range(101, 400):
        history.apply({"event": "step", "step": step, "loss": 0.0})
    assert len(copied.steps) == 300 and (copied.steps["loss"] == losses).all()
    assert copied.step == 300 and history.step == 399


DIAGNOSIS = {
    "verdict": "plateau",
    "why_verdict": "flat for [b]300[/b] steps",
    "tldr": "more data \x1b[31m",
    "causes": [
        {
            "id": "x", "title": "[red]less likely", "probability": 0.2, "for": [], "against": [{"text": "no"}],
            "missing": ["lr"], "fix": "", "confirmed": None,
        },
        {
            "id": "data_repetition", "title": "the same data", "probability": 0.86,
            "for": [{"text": "24 epochs", "figures": {}}], "against": [], "missing": [], "fix": "add shards",
            "predicted_gain": {"low": 0.1, "mid": 0.2, "high": 0.3}, "confirmed": True,
        },
        {"id": "capacity", "title": "too small", "probability": 0.01, "for": [], "against": [], "missing": []},
    ],
    "levers": [{"id": "l", "text": "a larger model", "gain_equal_tokens": {"low": 0.0, "mid": 0.1, "high": 0.2}}],
}  # fmt: skip


def test_the_pane_ranks_causes_and_shows_text_as_text() -> None:
    shown = "\n".join(line.plain for line in lines(DIAGNOSIS, 60))
    assert shown.index("the same data") < shown.index("[red]less likely")
    assert "86%" in shown and "+ 24 epochs" in shown and "− no" in shown and "? lr" in shown and "→ add shards" in shown
    assert "confirmed by experiment" in shown and "0.200 (0.100 to 0.300)" in shown and "a larger model" in shown
    assert "too small" not in shown and "\x1b" not in shown and "[b]300[/b]" in shown
    assert all(len(line.plain) <= 60 for line in lines(DIAGNOSIS, 60))
    assert verdict_line(DIAGNOSIS).plain == "plateau: the same data 86%"
    undecided = verdict_line({**DIAGNOSIS, "verdict": "not_enough_evidence"})
    assert undecided.plain == "not enough evidence; suspected: the same data 86%"
    assert verdict_line({**DIAGNOSIS, "causes": []}).plain == "plateau: flat for [b]300[/b] steps"


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [([], ["a"], 0), (["a", "b"], ["a", "b", "c"], 2), (["a", "b", "c"], ["b", "c", "d"], 2), (["a"], ["b"], 0)],
)
def test_a_growing_log_is_written_from_where_it_grew(old: list[str], new: list[str], same: int) -> None:
    assert _overlap(old, new) == same


async def test_samples_have_a_pane_and_the_machine_a_line(here: Path, until: Wait) -> None:
    run_dir = make_run(here / "runs", steps=100)
    app = GptbenchApp(here / "runs", open_run=run_dir, clock=lambda: NOW)
    async with app.run_test(size=(100, 24)) as pilot:
        await until(pilot, lambda: "val" in chart(app))
        screen = app.screen
        header, pane = screen.query_one(RunHeader), screen.query_one(SamplesPane)
        assert header.size.height == 2 and "samples" not in str(screen.query_one("#tabs", Static).content)
        process.write(run_dir, os.getpid())
        writer = EventWriter(run_dir)
        for step in (50, 100):
            writer.write("sample", step=step, prompt="Once upon", text=f" a\ntime \x1b[31m[red]{step}", index=0, seed=1)
        writer.write("sample", step="x", prompt=None, text=[1])
        writer.write("system", gpu_utilisation=97.0, gpu_power=312.4, memory_used=41 << 30, cpu_percent=103.0)
        writer.close()
        await until(pilot, lambda: "GPU 97%  312 W  card memory 41 GiB  CPU 103%" in header.render().plain)
        await until(pilot, lambda: "samples" in str(screen.query_one("#tabs", Static).content))
        await until(pilot, lambda: header.size.height == 3)
        await pilot.press("left_square_bracket")
        await until(pilot, lambda: screen.focused is pane)
        shown = str(pane.query_one(Static).content).split("\n")
        assert shown == [
            "step 100", "▸ Once upon a time ␛[31m[red]100", "", "step 50", "▸ Once upon a time ␛[31m[red]50"
        ]  # fmt: skip


async def test_the_log_is_searched(here: Path, until: Wait) -> None:
    log = "".join(f"step {i} loss 3.{i}\n\n" + ("[red] WARNING slow disk\n" if i % 40 == 7 else "") for i in range(100))
    run_dir = make_run(here / "runs", steps=5, log=log + "x" * 90 + "slow\n")
    app = GptbenchApp(here / "runs", open_run=run_dir, clock=lambda: NOW)
    async with app.run_test(size=(92, 24), notifications=True) as pilot:
        view = app.screen.query_one(LogView)
        await until(pilot, lambda: len(view.lines) > 100)
        tabs = app.screen.query_one("#tabs", Static)
        await pilot.press("slash", *"warn", "enter")
        await until(pilot, lambda: "log 1/3" in str(tabs.content) and app.screen.focused is view)
        first = view.lines.index("[red] WARNING slow disk")
        await until(pilot, lambda: view._row == first)
        assert view.scroll_offset.y <= first < view.scroll_offset.y + view.size.height
        assert any(s.style and s.style.reverse for s in view.render_line(first - view.scroll_offset.y))
        await pilot.press("N")
        await until(pilot, lambda: "log 3/3" in str(tabs.content))
        await pilot.press("n", "n")
        await until(pilot, lambda: "log 2/3" in str(tabs.content))
        with (run_dir / "engine.log").open("a") as file:
            file.write("one more warning\n")
        await until(pilot, lambda: view.lines[-1] == "one more warning")
        await pilot.press("n", "n")
        await until(pilot, lambda: "log 4/4" in str(tabs.content))
        view.search("xslow")  # broken by the wrap
        await until(pilot, lambda: "log 1/1" in str(tabs.content))
        await pilot.press("slash", "ctrl+a", "ctrl+k", *"nowhere", "enter")
        await until(pilot, lambda: any("nowhere" in n.message for n in app._notifications))
        assert "log " in str(tabs.content) and "/" not in str(tabs.content)


async def test_directory_and_summary_are_copied_and_kept_in_a_file(here: Path, until: Wait) -> None:
    run_dir = make_run(here / "runs", steps=100)
    app = GptbenchApp(here / "runs", clock=lambda: NOW)
    copied = remember.folder() / remember.COPIED_NAME
    async with app.run_test(size=(100, 24), notifications=True) as pilot:
        await until(pilot, lambda: app.screen.query(Table) and app.screen.query_one(Table).row_count)
        await pilot.press("y")
        await until(pilot, lambda: any(str(copied) in n.message for n in app._notifications))
        assert app.clipboard == str(run_dir) and copied.read_text() == f"{run_dir}\n"
        await pilot.press("Y")
        await until(pilot, lambda: copied.read_text().startswith("demo-1m-20250615-150000, dead, step 100/800, val "))
        await pilot.press("enter")
        await until(pilot, lambda: app.screen.query(RunHeader) and app.screen.query_one(RunHeader).status)
        await pilot.press("Y")
        assert app.clipboard.startswith("demo-1m-20250615-150000, dead, step 100/800, train ")
        await pilot.press("y")
        assert app.clipboard == str(run_dir)


async def test_how_far_a_probe_is_stands_on_the_screen_once(here: Path, until: Wait) -> None:
    run_dir = make_run(here / "runs", steps=600, max_steps=600, stop="finished")
    app = GptbenchApp(here / "runs", open_run=run_dir, clock=lambda: NOW)
    async with app.run_test(size=(80, 24)) as pilot:
        pane = app.screen.query_one(PlateauPane)
        await until(pilot, lambda: pane.diagnosis)
        app.screen.post_message(Probing(run_dir, "probe capacity: arm 2 of 4, 37%"))
        await until(pilot, lambda: "arm 2 of 4" in shown(app))
        assert shown(app).count("arm 2 of 4") == 1
        for _ in range(3):  # whichever pane is shown
            await pilot.press("right_square_bracket")
            assert shown(app).count("arm 2 of 4") == 1
        app.screen.post_message(Probing(run_dir, ""))
        await until(pilot, lambda: "arm 2 of 4" not in shown(app))
