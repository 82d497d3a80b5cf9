"""The wall clock jumps: under a run, between two starts of it, under a workbench. Only steps and losses count.

The system's clock is left alone: every program that a test starts reads the time from a module of the test's own.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine import process
from engine.events import FILE_NAME
from tests.engine.conftest import losses_of
from tests.faults.conftest import MakeRun
from tests.faults.programs import GPTBENCH, Terminal, engine, gptbench, wait_for
from tests.faults.runs import same
from tests.faults.tally import Tally
from tests.faults.test_torn import halve

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]
DAY = 86_400.0
JUMPS = {
    "an hour ahead": DAY / 24, "an hour back": -DAY / 24, "ten years ahead": 3650 * DAY, "ten years back": -3650 * DAY,
    "to 1970": 60 - time.time(),
}  # fmt: skip
KIND = "the clock jumps"

# Python imports it before anything else: the time of every program, ahead by what a file says now.
CLOCK = """
import os, time
now, now_ns, local, gm, written = time.time, time.time_ns, time.localtime, time.gmtime, time.strftime
def ahead():
    try:
        with open(os.environ["TEST_CLOCK"]) as file:
            return float(file.read() or 0)
    except (OSError, ValueError, KeyError):
        return 0.0
time.time = lambda: now() + ahead()
time.time_ns = lambda: now_ns() + int(ahead() * 1e9)
time.localtime = lambda at=None: local(time.time() if at is None else at)
time.gmtime = lambda at=None: gm(time.time() if at is None else at)
time.strftime = lambda form, at=None: written(form, time.localtime() if at is None else at)
"""


class Clock:
    """The time as the programs read it that are started with ``env``."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(CLOCK)
        self._file = folder / "ahead"
        self.env = {"PYTHONPATH": str(folder), "TEST_CLOCK": str(self._file)}
        self.jump(0)

    def jump(self, ahead: float) -> None:
        """Be so many seconds ahead of the system's clock from now on."""
        new = self._file.with_suffix(".new")
        new.write_text(str(ahead))
        new.replace(self._file)


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path / "clock")


def states(run: Path, clock: Clock) -> list[tuple[str, str]]:
    shown = json.loads(gptbench("runs", "--json", "--runs", run.parent, env=clock.env).ok())
    return [(r["name"], r["state"]) for r in shown]


@pytest.mark.parametrize("jump", JUMPS, ids=str)
def test_under_a_run(jump: str, clock: Clock, make_run: MakeRun, straight: Callable[..., Path], fault: Tally) -> None:
    """It jumps while the run trains, and again while it lies dead."""
    changes: dict[str, Any] = {"train__max_steps": 120, "eval__every": 20}
    run, unbroken = make_run(**changes), straight(**changes)
    with fault(f"{KIND}: under a run", f"{KIND}: between a kill and a resume", detail=jump):
        gptbench("resume", "run", "--runs", run.parent, env=clock.env).ok()
        wait_for(lambda: losses_of(run), "its first steps")
        clock.jump(JUMPS[jump])
        seen = len(losses_of(run))
        assert states(run, clock) == [("run", "running")]
        wait_for(lambda: len(losses_of(run)) > seen, "its going on")
        os.kill(int((process.read(run) or {})["pid"]), signal.SIGKILL)
        wait_for(lambda: not process.alive(run), "its death")
        assert states(run, clock) == [("run", "dead")]
        clock.jump(0)
        gptbench("resume", "run", "--wait", "--runs", run.parent, env=clock.env).ok()
        same(run, unbroken)
        clock.jump(JUMPS[jump])
        assert states(run, clock) == [("run", "finished")]
        assert "run" in gptbench("explain", "run", "--runs", run.parent, env=clock.env).ok()
        gptbench("export", "run", "--html", "--runs", run.parent, env=clock.env).ok()


def test_under_a_workbench(clock: Clock, make_run: MakeRun, straight: Callable[..., Path], fault: Tally) -> None:
    changes: dict[str, Any] = {"train__max_steps": 400, "eval__every": 50}
    run, unbroken = make_run("busy", **changes), straight(**changes)
    gptbench("resume", "busy", "--runs", run.parent, env=clock.env).ok()
    with Terminal([*GPTBENCH, "--runs", str(run.parent)], run.parent, clock.env) as terminal:
        terminal.wait_for("busy")
        terminal.press("\r")
        terminal.wait_for("loss")
        for jump, ahead in JUMPS.items():
            with fault(f"{KIND}: under a workbench", detail=jump):
                clock.jump(ahead)
                seen = len(losses_of(run))
                terminal.press("axe")  # another x axis, among them wall time; explain; export
                terminal.press("4")
                wait_for(lambda seen=seen: len(losses_of(run)) > seen or not process.alive(run), "its going on")
                terminal.press("3")
                assert terminal.process.poll() is None and "Traceback" not in terminal.text
        terminal.press("q")
        assert terminal.ended() == 0
    wait_for(lambda: not process.alive(run), "its end")
    same(run, unbroken)


@pytest.mark.parametrize("age", [-30 * DAY, -3000.0, 3000.0], ids=["a month ahead", "50 minutes ahead", "old"])
def test_files_of_another_clock(
    age: float, clock: Clock, straight: Callable[..., Path], tmp_path: Path, fault: Tally
) -> None:
    """A run that died on another host, whose clock was ahead: it is dead here too, and can be resumed."""
    unbroken = straight()
    run = halve(unbroken, tmp_path / "runs" / "run")
    (run / process.FILE_NAME).write_text(json.dumps({"pid": 4, "start_time": "x:1", "host": "elsewhere"}))
    at = time.time() - age
    os.utime(run / FILE_NAME, (at, at))
    with fault(f"{KIND}: between two hosts", detail=age):
        assert states(run, clock) == [("run", "dead")]
        done = engine(run)
        assert done.code == 0, done
        same(run, unbroken)


def test_names_of_runs(clock: Clock, shard: Path, tmp_path: Path, fault: Tally) -> None:
    """Runs made while the clock goes back again and again have names of their own."""
    runs, made = tmp_path / "runs", []
    for jump, ahead in JUMPS.items():
        with fault(f"{KIND}: while runs are made", detail=jump):
            clock.jump(ahead)
            words = ("train", shard, "--print-command", "--json", "--set", "model.preset=demo-1m", "--runs", runs)
            made += [json.loads(gptbench(*words, env=clock.env).ok())["run"] for _ in range(2)]
            assert len(set(made)) == len(made) == len(states(Path(made[0]), clock))
