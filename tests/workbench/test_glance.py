"""A first look at a long run: true, marked as a sample, and replaced by all of it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks.terminal import lengthen, step_line
from tests.workbench.conftest import Wait
from tests.workbench.folders import make_run
from workbench.app import GptbenchApp
from workbench.runs import follow, glance
from workbench.runs.follow import Follower, read_whole
from workbench.screens.figures import Axes, Request, draw
from workbench.widgets.chart import ChartView
from workbench.widgets.run_header import RunHeader

STEPS = 30_000


@pytest.fixture
def long(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of 30,000 steps, which counts as long here; step 12,345 was lost, a step is being written."""
    monkeypatch.setenv("GPTBENCH_CACHE", str(here / "cache"))
    monkeypatch.setattr(glance, "WORTH", 1 << 20)
    monkeypatch.setattr(glance, "_BLOCK", 1 << 20)
    monkeypatch.setattr(glance, "_SAMPLED", 1 << 18)
    run_dir = make_run(here / "runs", steps=50, max_steps=2 * STEPS)
    lengthen(run_dir, 51, 12_344)
    lost = {**json.loads(step_line(12_345)), "loss": None}
    with (run_dir / "events.jsonl").open("a") as file:
        file.write(json.dumps(lost) + "\n")
    lengthen(run_dir, 12_346, STEPS)
    with (run_dir / "events.jsonl").open("a") as file:
        file.write(step_line(STEPS + 1)[:100])
    return run_dir


def test_a_first_look_holds_every_event_but_steps_and_an_even_sample_of_these(long: Path) -> None:
    look, whole = Follower(long).glance(), read_whole(long)
    assert look is not None
    seen = look.history
    assert seen.step == whole.step == STEPS
    assert seen.start == whole.start and seen.max_steps == whole.max_steps
    np.testing.assert_array_equal(seen.val["loss"], whole.val["loss"])
    np.testing.assert_array_equal(seen.seen["step"], whole.seen["step"])
    assert seen.one_in > 10 and whole.one_in == 1
    assert len(whole.steps) / len(seen.steps) == pytest.approx(seen.one_in, rel=0.2)
    assert np.diff(seen.steps["step"]).max() < STEPS / 50  # no stretch of the run is left out
    assert 12_345 in seen.steps["step"] and math.isnan(seen.steps["loss"][seen.steps["step"] == 12_345][0])
    at = np.searchsorted(whole.steps["step"], seen.steps["step"])
    np.testing.assert_array_equal(seen.steps["loss"], whole.steps["loss"][at])  # each step it shows is one that was


def test_a_resume_in_the_middle_is_no_second_run(long: Path) -> None:
    with (long / "events.jsonl").open("a") as file:
        file.write("\n" + json.dumps({"event": "resume", "time": 1.8e9, "step": 20_000}) + "\n")
    lengthen(long, 20_001, 25_000)
    look = Follower(long).glance()
    assert look is not None and look.history.step == 25_000
    assert (np.diff(look.history.steps["step"]) > 0).all() and len(look.history.resumes) == 1


def test_short_runs_and_other_writers_lines_are_read_at_once(long: Path, here: Path) -> None:
    assert Follower(make_run(here / "runs", "short", steps=100)).glance() is None
    assert Follower(here / "runs" / "none").glance() is None
    other = make_run(here / "runs", "other", steps=0)
    with (other / "events.jsonl").open("a") as file:
        for step in range(1, 20_000):
            file.write(json.dumps({"step": step, "loss": 3.0, "event": "step", "padding": "x" * 40}) + "\n")
    assert Follower(other).glance() is None


def test_charts_say_that_they_show_a_sample(long: Path) -> None:
    look = Follower(long).glance()
    assert look is not None
    for history, said in ((look.history, True), (read_whole(long), False)):
        rows = draw(Request("loss", 100, 20), history, Axes())
        assert ("1 step in" in "".join(text for text, _ in rows[0])) == said


async def test_the_screen_says_that_it_is_a_first_look_until_all_is_read(
    long: Path, until: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    poll, held = Follower.poll, [True]
    monkeypatch.setattr(follow.Follower, "poll", lambda self, most=None: True if held[0] else poll(self, most))
    app = GptbenchApp(long.parent, open_run=long)
    async with app.run_test(size=(120, 36)) as pilot:
        header, chart = app.screen.query_one(RunHeader), app.screen.query_one("#loss", ChartView)
        await until(pilot, lambda: header.status and header.status.reading and "1 step in" in chart.text())
        assert header.status is not None and header.status.step == STEPS and "first look" in header.status.doing
        held[0] = False
        await until(pilot, lambda: header.status and not header.status.reading and "1 step in" not in chart.text())
        assert "first look" not in header.status.doing
