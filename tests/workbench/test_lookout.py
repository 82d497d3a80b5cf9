"""What becomes of runs is noticed and told, whichever screen is open and as loud as was asked for."""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path

import pytest
from textual.widgets import Static

from engine import process
from engine.events import EventWriter
from tests.workbench.conftest import Wait
from tests.workbench.folders import NOW, events, make_run
from workbench import remember
from workbench.app import GptbenchApp
from workbench.runs.best import best_val
from workbench.runs.history import History, stalled_for
from workbench.runs.store import list_runs, summarise
from workbench.screens.lookout import Lookout
from workbench.screens.system import gauges
from workbench.widgets.run_header import RunHeader
from workbench.widgets.system_pane import Gauge, SystemPane, line_of
from workbench.widgets.table import Table


def living(root: Path, name: str, steps: int = 100, *, ago: float = 0.0, evaluated: bool = False) -> Path:
    """A run whose process is this one, and whose newest step is ``ago`` seconds old."""
    run_dir = make_run(root, name, steps=1, max_steps=800)
    (run_dir / "events.jsonl").unlink()
    writer = EventWriter(run_dir)
    made = events(steps, 800, 1024, time.time() - ago - steps, overfit=False)
    writer.write_many([event for event in made if evaluated or event["event"] != "eval"])
    writer.close()
    process.write(run_dir, os.getpid())
    return run_dir


def told(root: Path, *, asked: bool = False) -> tuple[Lookout, list[str]]:
    said: list[str] = []
    return Lookout(root, 1.0, lambda text, wrong: said.append(text), lambda: asked, lambda: None, time.time), said


def test_what_ends_dies_stalls_or_loses_its_loss_is_told_once(tmp_path: Path) -> None:
    ends, dies, loses, hangs = (living(tmp_path, name) for name in ("ends", "dies", "loses", "hangs"))
    lookout, said = told(tmp_path)
    lookout.look()
    assert said == []  # as they were found
    writer = EventWriter(ends)
    writer.write("stop", step=100, reason="failed", text="")
    writer.close()
    for run in (ends, dies):
        (run / process.FILE_NAME).unlink()
    writer = EventWriter(loses)
    writer.write("step", step=101, loss=math.nan, lr=1e-3)
    writer.close()
    lines = (hangs / "events.jsonl").read_text().splitlines()
    old = [json.loads(line) | {"time": json.loads(line)["time"] - 4000} for line in lines]
    # The engine's thread goes on to say how busy the machine is.
    old.append({"event": "system", "time": time.time(), "cpu_percent": 0.0})
    (hangs / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in old))
    lookout.look()
    assert sorted(said) == [
        "dies: dead", "ends: failed", "hangs: stalled, nothing since step 100",
        "loses: the loss is no number since step 101",
    ]  # fmt: skip
    lookout.look()
    assert len(said) == 4


def test_a_run_that_goes_flat_is_told_of_if_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_dir = living(tmp_path, "flat", 300, evaluated=True)
    verdicts = iter(["improving", "plateau", "plateau"])
    monkeypatch.setattr("workbench.screens.lookout.EXPLAIN_EVERY", -1.0)

    def explain(directory: Path, history: History) -> dict[str, str]:
        (directory / "diagnosis.json").write_text(json.dumps(answer := {"verdict": next(verdicts)}))
        return answer

    monkeypatch.setattr("workbench.screens.lookout.explain", explain)
    silent, heard = told(tmp_path)
    silent.look()
    assert not heard and next(verdicts) == "improving"  # nobody asked: nothing is explained
    lookout, said = told(tmp_path, asked=True)
    lookout.look()
    lookout.look()
    assert said == ["flat: plateau"]  # and not again while no evaluation is new
    writer = EventWriter(run_dir)
    writer.write("eval", step=301, split="heldout", loss=2.0, se=0.01, documents=3, tokens=5)
    writer.close()
    lookout.look()
    assert said == ["flat: plateau"]


@pytest.mark.parametrize(
    ("silent", "pause", "stalled"), [(50, 1, False), (100, 1, True), (100, 40, False), (200, 40, True)]
)
def test_a_run_stalls_when_it_is_silent_for_longer_than_its_pauses(silent: float, pause: float, stalled: bool) -> None:
    steps = [{"event": "step", "step": n, "time": 1e9 + n, "loss": 3.0, "step_time": 1.0} for n in range(1, 50)]
    last = 1e9 + 49 + pause  # an evaluation, or a checkpoint, between
    history = History.of([*steps, {"event": "step", "step": 50, "time": last, "loss": 3.0, "step_time": 1.0}])
    assert (stalled_for(history, last + silent) > 0) is stalled
    history.apply({"event": "system", "time": last + silent - 1})
    assert (stalled_for(history, last + silent) > 0) is stalled
    history.apply({"event": "checkpoint", "step": 50, "time": last + silent - 1})
    assert stalled_for(history, last + silent) == 0


def test_before_the_first_step_a_run_may_take_long() -> None:
    history = History.of([{"event": "start", "time": 1e9}, {"event": "phase", "time": 1e9 + 5, "name": "pack"}])
    assert stalled_for(history, 1e9 + 900) == 0 and stalled_for(history, 1e9 + 9000) > 0


async def test_another_runs_end_is_told_on_every_screen_and_a_stalled_one_shows_it(here: Path, until: Wait) -> None:
    other, slow = living(here / "runs", "other"), living(here / "runs", "slow", ago=3000.0)
    app = GptbenchApp(here / "runs", open_run=slow)
    app.lookout.interval = 0.02
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await until(pilot, lambda: "nothing for" in app.screen.query_one(RunHeader).render().plain)
        await pilot.press("4")
        table = app.screen.query_one(Table)
        await until(pilot, lambda: table.row_count == 2)
        assert "stalled" in " ".join(table.get_row_at(row)[1].plain for row in range(2))
        await pilot.press("1")
        (other / process.FILE_NAME).unlink()
        await until(pilot, lambda: any(n.message == "other: dead" for n in app._notifications))
        await pilot.pause(0.5)
        assert sum(n.message == "other: dead" for n in app._notifications) == 1


async def test_how_loud_is_chosen_by_a_key_and_remembered(runs: Path, until: Wait) -> None:
    rung: list[str] = []
    app = GptbenchApp(runs, clock=lambda: NOW)
    app.alert = rung.append  # type: ignore[method-assign]
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        app.tell("first", wrong=False)
        assert rung == [] and app.notify_level == "here"
        await pilot.press("!")
        assert app.notify_level == "bell"
        app.tell("second", wrong=False)
        app.tell("second", wrong=False)
        assert rung == ["second"]
        titles = {command.title: command for command in app.get_system_commands(app.screen)}
        assert "now: bell" in titles["Notifications"].help
        titles["Notifications"].callback()
        await until(pilot, lambda: remember.load().get("notify") == "desktop")
    assert GptbenchApp(runs).notify_level == "desktop"


def test_the_best_loss_is_that_of_all_evaluations_but_those_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"

    def write(*made: dict[str, object]) -> None:
        with path.open("a") as file:
            file.writelines(json.dumps(event) + "\n" for event in made)

    def evaluation(step: int, loss: float | None, split: str = "heldout") -> dict[str, object]:
        return {"event": "eval", "time": 1.0, "step": step, "split": split, "loss": loss}

    assert best_val(path) == (None, True)
    write(*({"event": "step", "step": n, "pad": "x" * 900} for n in range(5000)))  # more than a block
    write(evaluation(10, 3.0), evaluation(20, 2.0), evaluation(30, 1.0), evaluation(30, 0.5, "seen"))
    assert best_val(path, deadline=0.0) == (None, False)
    assert best_val(path) == (1.0, True)
    write({"event": "resume", "step": 20}, evaluation(30, 2.5), evaluation(40, None))
    assert best_val(path) == (2.0, True)
    with path.open("a") as file:
        file.write('{"event": "eval", "step": 50, "split": "heldout", "lo')
    assert best_val(path) == (2.0, True)
    with path.open("a") as file:
        file.write('ss": 0.25}\n')
    assert best_val(path) == (0.25, True)
    path.write_text(json.dumps(evaluation(1, 9.0)) + "\n")
    assert best_val(path) == (9.0, True)


def test_what_is_not_searched_yet_is_searched_at_the_next_listing(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path)
    assert [run.best_val for run in list_runs(tmp_path, patience=-1.0)] == [None]
    assert [run.best_val for run in list_runs(tmp_path)] == [summarise(run_dir).best_val] != [None]


async def test_the_system_pane_tells_card_step_and_disk(here: Path, until: Wait) -> None:
    run_dir = living(here / "runs", "busy")
    writer = EventWriter(run_dir)
    for power in (300.0, 400.0):
        writer.write(
            "system",
            gpu_utilisation=97.0,
            gpu_power=power,
            gpu_temperature=64.0,
            memory_used=41 << 30,
            cpu_percent=88.0,
        )
    writer.close()
    app = GptbenchApp(here / "runs", open_run=run_dir)
    async with app.run_test(size=(80, 24)) as pilot:
        pane = app.screen.query_one(SystemPane)
        await until(pilot, lambda: pane.gauges)
        await pilot.press("left_square_bracket")
        await until(pilot, lambda: pane.region.height and app.screen.focused is pane)
        sheet = str(pane.query_one(Static).content)
        assert "97%" in sheet and "400 W at 64 °C  " in sheet and "41 GiB of the card" in sheet
        assert "of it waiting for data" in sheet and "MFU 21%" in sheet and f"{os.getpid()} on" in sheet
        assert "▁█" in sheet  # the power of both looks


def test_a_gauge_fits_its_width_and_shows_no_trend_of_what_stands_still(tmp_path: Path) -> None:
    gauge = Gauge("power", "612 W at 66 °C", math.nan, (600.0, 601.0, 600.0))
    for width in (20, 40, 80):
        assert line_of(gauge, width).cell_length <= width
    assert not set("▁▂▃▄▅▆▇█") & set(line_of(gauge, 80).plain)
    assert gauges(History(), tmp_path / "none", "dead") == ()
