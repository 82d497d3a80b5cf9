"""Every screen as a picture, at 80×24 and 120×36, dark and light.

What varies between machines is set fast: the clock, the device, sizes on disk (they depend on the parquet writer). So
are the diagnosis and the plan: their figures and words belong to the explainer and the planner, whose own tests hold
them, and the other tests of these screens use the real ones. After a wanted change:
``pytest tests/workbench/test_screens_snapshots.py --snapshot-update``, then look at the pictures.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widget import Widget
from textual.widgets import ContentSwitcher, Input, Static

from engine import process
from engine.events import EventWriter
from engine.plan import Plan
from tests.workbench.conftest import Wait
from tests.workbench.folders import NOW, make_run
from workbench.app import GptbenchApp
from workbench.probes.conduct import Progress
from workbench.runs.machine import Machine
from workbench.screens.feed import Probing
from workbench.screens.messages import Diagnosed
from workbench.screens.run import RunScreen
from workbench.widgets.branch_dialog import BranchDialog
from workbench.widgets.chart import ChartView
from workbench.widgets.document_view import DocumentView
from workbench.widgets.plateau_pane import PlateauPane
from workbench.widgets.preflight import Preflight
from workbench.widgets.run_header import RunHeader
from workbench.widgets.samples_pane import SamplesPane
from workbench.widgets.statistics_pane import StatisticsPane
from workbench.widgets.system_pane import SystemPane
from workbench.widgets.table import Table


@dataclass(frozen=True)
class Look:
    """How a screen is looked at."""

    size: tuple[int, int]
    theme: str


RUN = "demo-1m-20250615-150000"
Compare = Callable[..., bool]
Before = Callable[[Pilot[None]], Awaitable[None]]

LOOKS = [
    pytest.param(Look(size, theme), id=f"{size[0]}x{size[1]}-{theme}")
    for size in ((80, 24), (120, 36))
    for theme in ("textual-dark", "textual-light")
]

DIAGNOSIS: dict[str, Any] = {
    "verdict": "overfitting",
    "why_verdict": "held-out loss rose by 0.231 ± 0.016 since step 300 while the loss on seen documents fell by 0.170",
    "tldr": "Overfitting at 2.740: the same data too many times. Add shards.",
    "causes": [
        {
            "id": "data_repetition", "title": "The same data too many times", "probability": 0.94,
            "for": [{"text": "6.7 epochs over 90,000 unique tokens"}, {"text": "the gap to seen documents grows"}],
            "against": [], "missing": [], "fix": "Train on more unique text: at most about 4 epochs of it.",
            "predicted_gain": {"low": 0.2, "mid": 0.3, "high": 0.5}, "confirmed": None,
            "action": {"kind": "branch", "set": {"model.dropout": 0.1}, "from_step": 200},
            "probe": {"what": "the same steps on text that it has not seen", "cost_fraction": 0.04},
        },
        {
            "id": "capacity", "title": "The model is too small for these tokens", "probability": 0.08,
            "for": [], "against": [{"text": "the loss on seen documents still falls"}], "missing": [],
            "fix": "A larger model.",
        },
    ],
}  # fmt: skip

PLAN = Plan(
    parameters=12_300_000, tokens_per_step=8192, max_steps=2000, total_tokens=16_384_000, epochs=1417.9,
    memory=5 << 28, memory_available=16 << 30, seconds=4000.0, flops=1e15,
    warnings=["1417.9 epochs over 11,555 unique tokens: add shards or lower train.max_steps"],
)  # fmt: skip


DISK = shutil.disk_usage("/")._replace(total=1000 << 30, free=412 << 30)


async def settled(pilot: Pilot[None]) -> None:
    """Wait until the picture is the same in looks that follow one another: what is still under way would be in it."""
    last, same = None, 0
    for _ in range(400):
        await pilot.pause(0.06)
        strips = pilot.app.screen._compositor.render_strips()
        picture = [[(segment.text, segment.style) for segment in strip] for strip in strips]
        same = same + 1 if picture == last else 0
        last = picture
        if same >= 4:
            return
    raise AssertionError("the screen does not come to rest")


def same(compare: Compare, app: GptbenchApp, look: Look, before: Before | None = None) -> bool:
    """Whether the screen that ``before`` leads to looks as it did."""

    async def lead(pilot: Pilot[None]) -> None:
        pilot.app.theme = look.theme
        if before is not None:
            await before(pilot)
        for box in pilot.app.screen.query(Input):
            box.cursor_blink = False
        await settled(pilot)
        pilot.app.screen.refresh()  # a screen below a question may have changed since it was painted
        await settled(pilot)

    return compare(app, terminal_size=look.size, run_before=lead)


@pytest.fixture(autouse=True)
def _set_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.runs.machine.machine", lambda device="auto": Machine("cpu", "test CPU", 16 << 30))
    monkeypatch.setattr("engine.plan.plan", lambda config, **known: PLAN)
    monkeypatch.setattr("workbench.screens.shards_view.size", lambda value: "1 KiB")
    monkeypatch.setattr("workbench.widgets.statistics_pane.size", lambda value: "1 KiB")
    monkeypatch.setattr(
        RunScreen, "_diagnose", lambda self, message: self.post_message(Diagnosed(message.run_dir, DIAGNOSIS))
    )


@pytest.mark.parametrize("look", LOOKS)
def test_runs(snap_compare: Compare, runs: Path, until: Wait, look: Look) -> None:
    async def before(pilot: Pilot[None]) -> None:
        table = pilot.app.screen.query_one(Table)
        await until(pilot, lambda: table.row_count == 3 and table.has_focus)

    assert same(snap_compare, GptbenchApp(runs, clock=lambda: NOW), look, before)


@pytest.mark.parametrize("look", LOOKS)
def test_compare(snap_compare: Compare, runs: Path, until: Wait, look: Look) -> None:
    async def before(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: pilot.app.screen.query_one(Table).row_count == 3)
        await pilot.press("space", "space", "c")
        view = pilot.app.screen.query_one("#compare-chart", ChartView)
        await until(pilot, lambda: "val loss" in view.text())
        await pilot.press("a", "left")
        await until(pilot, lambda: "tokens" in view.text())
        await pilot.press("left")
        await until(pilot, lambda: "@" in view.text())

    assert same(snap_compare, GptbenchApp(runs, clock=lambda: NOW), look, before)


@pytest.mark.parametrize("look", LOOKS)
def test_runs_when_there_are_none(snap_compare: Compare, here: Path, until: Wait, look: Look) -> None:
    async def before(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: "no runs in" in str(pilot.app.screen.query_one("#empty", Static).content))

    assert same(snap_compare, GptbenchApp(here / "runs", clock=lambda: NOW), look, before)


@pytest.mark.parametrize("look", LOOKS)
def test_help(snap_compare: Compare, runs: Path, look: Look) -> None:
    async def before(pilot: Pilot[None]) -> None:
        await pilot.press("3", "question_mark")

    assert same(snap_compare, GptbenchApp(runs / "none", clock=lambda: NOW), look, before)


@pytest.mark.parametrize("look", LOOKS)
def test_runs_filtered_by_their_configuration(snap_compare: Compare, runs: Path, until: Wait, look: Look) -> None:
    async def before(pilot: Pilot[None]) -> None:
        table = pilot.app.screen.query_one(Table)
        await until(pilot, lambda: table.row_count == 3)
        await pilot.press("slash", *"lr>3e-4 and step>200", "enter")  # the table has the focus: no cursor blinks
        await until(pilot, lambda: table.row_count == 2 and table.has_focus)

    assert same(snap_compare, GptbenchApp(runs, clock=lambda: NOW), look, before)


@pytest.mark.parametrize("look", LOOKS)
def test_question_before_a_run_is_deleted(snap_compare: Compare, runs: Path, until: Wait, look: Look) -> None:
    async def before(pilot: Pilot[None]) -> None:
        table = pilot.app.screen.query_one(Table)
        await until(pilot, lambda: table.row_count == 3 and table.has_focus)
        await pilot.press("D")
        await until(pilot, lambda: len(pilot.app.screen_stack) > 1)
        await pilot.pause(0.2)

    assert same(snap_compare, GptbenchApp(runs, clock=lambda: NOW), look, before)


def run_drawn(until: Wait) -> Before:
    async def before(pilot: Pilot[None]) -> None:
        screen = pilot.app.screen
        await until(pilot, lambda: screen.query_one(PlateauPane).diagnosis)
        for view in screen.query(ChartView):
            await until(
                pilot, lambda view=view: not view.size.height or view.text().count("\n") + 1 == view.size.height
            )

    return before


def on_pane(until: Wait, kind: type[Widget], back: int) -> Before:
    """Drawn, with samples, and the focus on the pane so many before the first."""

    async def before(pilot: Pilot[None]) -> None:
        await run_drawn(until)(pilot)
        pane = pilot.app.screen.query_one(kind)
        await until(pilot, lambda: not pilot.app.screen.query_one(SamplesPane).has_class("-absent"))
        await pilot.press(*["left_square_bracket"] * back)
        await until(pilot, lambda: pilot.app.screen.focused is pane and pane.size.height)
        await run_drawn(until)(pilot)

    return before


def on_run(runs: Path) -> GptbenchApp:
    return GptbenchApp(runs, open_run=runs / RUN, clock=lambda: NOW)


def on_shards(shards: Path) -> GptbenchApp:
    return GptbenchApp(shards.parent / "runs", data_paths=[str(shards)])


async def listed(pilot: Pilot[None], until: Wait) -> None:
    """The shards are there."""
    await until(pilot, lambda: pilot.app.screen.query_one("#shards", Table).row_count == 3)


async def planned(pilot: Pilot[None], until: Wait) -> Static:
    """The Launch screen's plan on all shards, once they are counted."""
    await listed(pilot, until)
    await pilot.press("a", "l")
    sheet = pilot.app.screen.query_one(Preflight).query_one(Static)
    await until(pilot, lambda: "unique tokens" in str(sheet.content) and "counting" not in str(sheet.content))
    return sheet


def busy(here: Path) -> Path:
    """A run that goes on, on a card, and writes samples."""
    run_dir = make_run(here / "runs", steps=400, age=405.0)
    process.write(run_dir, os.getpid())
    writer = EventWriter(run_dir)
    for step in (200, 400):
        said = ", " + "there was a small model " * 4
        at = NOW - 405 + step
        writer.write("sample", time=at, step=step, prompt="Once upon a time", text=said, index=0)
        writer.write("sample", time=at, step=step, prompt="The capital of", text=" France\nis Paris", index=1)
        writer.write("checkpoint", time=at, step=step, path=f"checkpoints/step-{step:08}")
    for n in range(40):
        writer.write(
            "system", time=NOW - 400 + 10 * n, gpu_utilisation=97.0 - n % 3, gpu_power=312.4 + 9 * (n % 7),
            gpu_temperature=64.0, memory_used=41 << 30, cpu_percent=131.0 - n % 5, memory_host=9 << 30,
        )  # fmt: skip
    writer.close()
    return run_dir


@pytest.mark.parametrize("look", LOOKS)
def test_run_with_its_machine(
    snap_compare: Compare, here: Path, until: Wait, look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = busy(here)
    monkeypatch.setattr("workbench.screens.system.shutil.disk_usage", lambda path: DISK)
    monkeypatch.setattr("workbench.screens.system.process.read", lambda path: {"pid": 4711, "host": "node-3"})

    app = GptbenchApp(here / "runs", open_run=run_dir, clock=lambda: NOW)
    assert same(snap_compare, app, look, on_pane(until, SystemPane, 2))


@pytest.mark.parametrize("look", LOOKS)
def test_run_that_stalls(snap_compare: Compare, here: Path, until: Wait, look: Look) -> None:
    run_dir = busy(here)

    app = GptbenchApp(here / "runs", open_run=run_dir, clock=lambda: NOW + 700)
    assert same(snap_compare, app, look, run_drawn(until))


@pytest.mark.parametrize("look", LOOKS)
def test_probe_under_way(snap_compare: Compare, runs: Path, until: Wait, look: Look) -> None:
    async def before(pilot: Pilot[None]) -> None:
        await run_drawn(until)(pilot)
        told = str(Progress("data_repetition", running=True, done=1, arms=4, fraction=0.37))
        pilot.app.screen.post_message(Probing(runs / RUN, told))
        await until(pilot, lambda: pilot.app.screen.query_one(RunHeader).probing)
        await run_drawn(until)(pilot)

    assert same(snap_compare, on_run(runs), look, before)


@pytest.mark.parametrize("look", LOOKS)
def test_branch_dialog(snap_compare: Compare, runs: Path, until: Wait, look: Look) -> None:
    async def before(pilot: Pilot[None]) -> None:
        await run_drawn(until)(pilot)
        dialog = BranchDialog(
            f"Branch of {RUN}", [600, 400, 200], lambda step, sets: "model.dropuot: no such option",
            ["model.dropuot=0.1"], 400,
        )  # fmt: skip
        pilot.app.push_screen(dialog)
        await until(pilot, lambda: pilot.app.screen is dialog)
        await pilot.press("enter")
        await until(pilot, lambda: "no such option" in str(dialog.query_one("#branch-wrong", Static).content))

    assert same(snap_compare, on_run(runs), look, before)


@pytest.mark.parametrize("look", LOOKS)
def test_run_with_samples(snap_compare: Compare, here: Path, until: Wait, look: Look) -> None:
    run_dir = busy(here)

    app = GptbenchApp(here / "runs", open_run=run_dir, clock=lambda: NOW)
    assert same(snap_compare, app, look, on_pane(until, SamplesPane, 1))


@pytest.mark.parametrize("look", LOOKS)
def test_run(snap_compare: Compare, runs: Path, until: Wait, look: Look) -> None:
    assert same(snap_compare, on_run(runs), look, run_drawn(until))


@pytest.mark.parametrize("look", LOOKS)
def test_charts(snap_compare: Compare, runs: Path, until: Wait, look: Look) -> None:
    async def before(pilot: Pilot[None]) -> None:
        await run_drawn(until)(pilot)
        await pilot.press("m")
        grid = pilot.app.screen.query_one("#grid")
        await until(pilot, lambda: not pilot.app.screen.query_one("#grid-power").display)
        for view in grid.query(ChartView):
            await until(pilot, lambda view=view: not view.display or view.text().count("\n") + 1 == view.size.height)

    assert same(snap_compare, on_run(runs), look, before)


@pytest.mark.parametrize("look", LOOKS)
def test_one_chart_alone(snap_compare: Compare, runs: Path, until: Wait, look: Look) -> None:
    async def before(pilot: Pilot[None]) -> None:
        await run_drawn(until)(pilot)
        await pilot.press("m", "f")
        chart = pilot.app.screen.query_one("#grid-loss", ChartView)
        await until(pilot, lambda: chart.size.width > 70 and chart.text().count("\n") + 1 == chart.size.height)
        await pilot.press("+", "h")
        await until(pilot, lambda: "@ step" in chart.text())

    assert same(snap_compare, on_run(runs), look, before)


@pytest.mark.parametrize("look", LOOKS)
def test_data_with_statistics(snap_compare: Compare, shards: Path, until: Wait, look: Look) -> None:
    async def before(pilot: Pilot[None]) -> None:
        await listed(pilot, until)
        await pilot.press("j", "space", "s")
        await until(pilot, lambda: pilot.app.screen.query_one(StatisticsPane).figures)

    assert same(snap_compare, on_shards(shards), look, before)


@pytest.mark.parametrize("look", LOOKS)
def test_document_as_tokens(snap_compare: Compare, shards: Path, until: Wait, look: Look) -> None:
    async def before(pilot: Pilot[None]) -> None:
        await listed(pilot, until)
        await pilot.press("j", "enter", "j", "j", "t")
        await until(pilot, lambda: pilot.app.screen.query_one(DocumentView)._pieces)

    assert same(snap_compare, on_shards(shards), look, before)


@pytest.mark.parametrize("look", LOOKS)
def test_launch(snap_compare: Compare, shards: Path, until: Wait, look: Look) -> None:
    async def before(pilot: Pilot[None]) -> None:
        await planned(pilot, until)

    assert same(snap_compare, on_shards(shards), look, before)


@pytest.mark.parametrize("look", LOOKS)
def test_launch_with_a_goal(snap_compare: Compare, shards: Path, until: Wait, look: Look) -> None:
    async def before(pilot: Pilot[None]) -> None:
        sheet = await planned(pilot, until)
        await pilot.press("t", *"3.2", "enter")
        await until(pilot, lambda: "goal 3.2" in str(sheet.content))

    assert same(snap_compare, on_shards(shards), look, before)


@pytest.mark.parametrize("key", ["x", "r"], ids=["sql", "recipe"])
@pytest.mark.parametrize("look", LOOKS)
def test_panes_of_the_data_screen(snap_compare: Compare, shards: Path, until: Wait, look: Look, key: str) -> None:
    async def before(pilot: Pilot[None]) -> None:
        await listed(pilot, until)
        await pilot.press("j", key)
        await until(pilot, lambda: pilot.app.screen.query_one(ContentSwitcher).current != "none")

    assert same(snap_compare, on_shards(shards), look, before)
