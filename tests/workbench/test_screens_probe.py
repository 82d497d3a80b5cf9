"""The Run screen acts on a cause: opens it, probes it with the real engine, applies its fix, branches the run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from textual.widgets import Input, Static

from tests.workbench.conftest import Wait
from tests.workbench.folders import NOW, make_run
from tests.workbench.probing import PLUGIN, library_texts, shard, train
from workbench.app import GptbenchApp
from workbench.probes import conduct
from workbench.screens.launch import LaunchScreen
from workbench.screens.runs import RunsScreen
from workbench.widgets.branch_dialog import BranchDialog
from workbench.widgets.plateau_pane import PlateauPane, lines
from workbench.widgets.prompt import Confirm
from workbench.widgets.run_header import RunHeader
from workbench.widgets.table import Table


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with far too much dropout."""
    base = tmp_path_factory.mktemp("acting")
    texts = shard(base / "a.parquet", library_texts(300))
    return train(base / "runs", "one", [texts], model__dropout=0.6, train__max_steps=200, data__cache=str(base / "c"))


@pytest.fixture
def run_dir(trained: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it in an empty folder; engines find the small encoding."""
    monkeypatch.setenv("PYTHONPATH", str(PLUGIN))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return Path(shutil.copytree(trained, here / "runs" / trained.name))


def sheet(app: GptbenchApp) -> str:
    return str(app.screen.query_one(PlateauPane).query_one(Static).content)


def go_to(app: GptbenchApp, cause: str) -> None:
    """Put the cursor on a cause, likely or not."""
    pane = app.screen.query_one(PlateauPane)
    assert pane.diagnosis is not None
    causes = [c | {"probability": 0.4} if c["id"] == cause else c for c in pane.diagnosis["causes"]]
    pane.cursor = cause
    pane.show({**pane.diagnosis, "causes": causes})


async def test_causes_open_one_by_one_and_stay_as_they_were(here: Path, until: Wait) -> None:
    run = make_run(here / "runs", steps=600, max_steps=600, stop="finished")
    app = GptbenchApp(here / "runs", open_run=run, clock=lambda: NOW)
    async with app.run_test(size=(80, 24)) as pilot:
        pane = app.screen.query_one(PlateauPane)
        await until(pilot, lambda: pane.diagnosis)
        first = pane.cursor
        assert pane.current is not None and "  + " in sheet(app)
        await pilot.press("enter")
        assert "  + " not in sheet(app)
        assert "overfitting" in str(app.screen.query_one("#verdict", Static).content)
        if len(pane._begins) > 1:
            await pilot.press("j", "enter")
            assert pane.cursor != first and sheet(app).count("▾") == 1
            await pilot.press("k")
        assert pane.cursor == first
        pane.show(pane.diagnosis)  # the next evaluation comes
        assert pane.cursor == first and "▸" in sheet(app)


def test_a_cause_says_what_its_keys_do() -> None:
    cause = {
        "id": "x", "title": "A cause", "probability": 0.9, "fix": "do it", "confirmed": None,
        "action": {"kind": "branch", "set": {}, "from_step": 3}, "probe": {"what": "that", "cost_fraction": 0.04},
    }  # fmt: skip
    shown = "\n".join(line.plain for line in lines({"causes": [cause]}, 60))
    assert "F branches it off" in shown and "p settles it: that (4.0% of the compute so far)" in shown
    refused = cause | {"probe": {"what": "that", "cost_fraction": 0.04, "refused": "no checkpoint"}}
    assert "no probe here: no checkpoint" in "\n".join(line.plain for line in lines({"causes": [refused]}, 60))
    none = cause | {"probe": None, "instead": "a larger model", "action": {"kind": "stop"}}
    shown = "\n".join(line.plain for line in lines({"causes": [none]}, 60))
    assert "no short experiment settles it: a larger model" in shown and "  F " not in shown
    closed = "\n".join(line.plain for line in lines({"causes": [cause | {"confirmed": False}]}, 60, "x", {"x"}))
    assert "✗ by experiment" in closed and "settles" not in closed


async def test_p_asks_with_the_cost_runs_the_probe_and_shows_what_it_settled(run_dir: Path, until: Wait) -> None:
    app = GptbenchApp(run_dir.parent, open_run=run_dir, clock=lambda: NOW)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        pane = app.screen.query_one(PlateauPane)
        await until(pilot, lambda: pane.diagnosis)
        go_to(app, "capacity")
        await pilot.press("p")
        assert any("no short experiment settles capacity" in n.message for n in app._notifications)
        go_to(app, "dead_gradients")
        await pilot.press("p")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        assert isinstance(app.screen, Confirm)
        question = app.screen.question
        assert "Settle dead_gradients by experiment?" in question and "% of the run's compute so far" in question
        await pilot.press("n")
        assert not (run_dir / "probes").exists()
        await pilot.press("p", "y")
        header = app.screen.query_one(RunHeader)
        await until(pilot, lambda: "probe dead_gradients: evaluating" in header.render().plain)
        assert "probe dead_gradients" not in sheet(app)  # the header says it, whichever pane is shown
        await pilot.press("p")  # again: whether to stop it, and no
        await until(pilot, lambda: isinstance(app.screen, Confirm) or not conduct.running(run_dir))
        if isinstance(app.screen, Confirm):
            await pilot.press("n")
        await until(
            pilot, lambda: any("dead_gradients: refuted by experiment" in n.message for n in app._notifications)
        )
        await until(pilot, lambda: "probe dead_gradients" not in header.render().plain)
        found = {c["id"]: c for c in (pane.diagnosis or {})["causes"]}
        assert found["dead_gradients"]["confirmed"] is False


async def test_fix_and_branch_ask_filled_in_and_start_what_was_confirmed(run_dir: Path, until: Wait) -> None:
    app = GptbenchApp(run_dir.parent, open_run=run_dir, clock=lambda: NOW)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        pane = app.screen.query_one(PlateauPane)
        await until(pilot, lambda: pane.diagnosis)
        go_to(app, "over_regularised")
        await pilot.press("F")
        await until(pilot, lambda: isinstance(app.screen, BranchDialog) and app.screen.is_mounted)
        sets = app.screen.query_one("#branch-sets", Input)
        assert app.screen.query_one("#branch-step", Input).value == "200"
        assert sets.value == "model.dropout=0 train.max_steps=240"  # a run that has ended gets more steps
        sets.value = "model.dropot=0"
        await pilot.press("ctrl+g")
        assert "did you mean model.dropout" in str(app.screen.query_one("#branch-wrong", Static).content)
        app.screen.query_one("#branch-step", Input).value = "150"
        await pilot.press("ctrl+g")
        assert "no checkpoint of step 150" in str(app.screen.query_one("#branch-wrong", Static).content)
        app.screen.query_one("#branch-step", Input).value = "100"
        sets.value = "model.dropout=0 train.max_steps=104"
        await pilot.press("enter")
        await until(pilot, lambda: app.run_dir != run_dir)
        made = app.run_dir
        assert made is not None and made.name.startswith("one-from-100-")
        header = app.screen.query_one(RunHeader)
        await until(pilot, lambda: "104/104" in header.render().plain and "finished" in header.render().plain)
        await pilot.press("4")
        await until(pilot, lambda: isinstance(app.screen, RunsScreen) and app.screen.query_one(Table).row_count == 2)
        app.screen.query_one(Table).go_to(str(run_dir))
        await pilot.press("b")
        await until(pilot, lambda: isinstance(app.screen, BranchDialog))
        assert isinstance(app.screen, BranchDialog) and app.screen.question == f"Branch of {run_dir.name}"
        await pilot.press("escape")
        assert isinstance(app.screen, RunsScreen)


async def test_a_fix_that_is_a_new_run_opens_launch_filled_in(run_dir: Path, until: Wait) -> None:
    app = GptbenchApp(run_dir.parent, open_run=run_dir, clock=lambda: NOW)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await until(pilot, lambda: app.screen.query_one(PlateauPane).diagnosis)
        go_to(app, "lr_too_high")
        await pilot.press("F")
        await until(pilot, lambda: isinstance(app.screen, LaunchScreen))
        assert isinstance(app.screen, LaunchScreen)
        changes = app.screen.options.changes
        assert changes["optim.lr"] == pytest.approx(1e-3) and changes["model.dropout"] == 0.6
        assert changes["model.n_layer"] == 1 and len(app.selected) == 1
        config = app.screen.options.config(app.selected)
        assert config.optim.lr == pytest.approx(1e-3) and config.train.max_steps == 200


async def test_without_a_cause_or_a_run_the_keys_say_so(here: Path) -> None:
    app = GptbenchApp(here / "runs", clock=lambda: NOW)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await pilot.press("3", "p", "F", "b")
        assert sum("no run is open" in n.message for n in app._notifications) >= 1
        assert not isinstance(app.screen, (BranchDialog, Confirm))
