"""The workbench killed, hung up, or its line gone: the run that it started goes on, and the next one finds it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from engine import process
from tests.engine.conftest import losses_of
from tests.faults.conftest import MakeRun
from tests.faults.programs import GPTBENCH, Terminal, gptbench, wait_for
from tests.faults.runs import same
from tests.faults.tally import Tally

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]
LONG = {"train__max_steps": 300, "eval__every": 50}


@pytest.mark.parametrize("how", ["SIGKILL", "SIGHUP", "SIGTERM", "its terminal gone"])
@pytest.mark.parametrize("number", range(3))
def test_the_workbench_gone(
    how: str, number: int, make_run: MakeRun, straight: Callable[..., Path], tmp_path: Path, fault: Tally
) -> None:
    run, unbroken = make_run(**LONG), straight(**LONG)
    with fault(f"the workbench gone: {how}", detail=number), _workbench(run, tmp_path) as terminal:
        _resumed(terminal, run)
        if number == 1:  # while it watches the run
            terminal.press("\r")
            terminal.wait_for("loss")
        if how == "its terminal gone":
            terminal.close()
        else:
            terminal.process.send_signal(getattr(signal, how))
        terminal.ended()
        before = len(losses_of(run))
        assert process.alive(run), "the run has ended"
        wait_for(lambda: len(losses_of(run)) > before, "its going on")
        if number == 2:
            with _workbench(run, tmp_path) as later:
                later.wait_for("run")
        else:
            assert "run" in gptbench("runs", "--runs", run.parent).ok()
        wait_for(lambda: not process.alive(run), "its end")
        same(run, unbroken)


@pytest.mark.parametrize("number", range(4))
def test_both_terminals_of_a_session_gone(
    number: int, make_run: MakeRun, straight: Callable[..., Path], tmp_path: Path, fault: Tally
) -> None:
    """Over SSH: one shows the workbench, in the other a command waits for the run; then the line drops."""
    run, unbroken = make_run(**LONG), straight(**LONG)
    with fault("both terminals of a session gone", detail=number):
        waits = [*GPTBENCH, "resume", "run", "--wait", "--runs", str(run.parent)]
        with Terminal(["sh", "-c", " ".join(waits)], tmp_path) as one, _workbench(run, tmp_path) as other:
            wait_for(lambda: process.alive(run), "its start")
            other.wait_for("run")
            if number % 2:
                wait_for(lambda: losses_of(run), "its first steps")
            one.close()
            other.close()
            one.ended()
            other.ended()
        assert process.alive(run), "the run has ended"
        wait_for(lambda: not process.alive(run), "its end")
        same(run, unbroken)


def _workbench(run: Path, cwd: Path) -> Terminal:
    return Terminal([*GPTBENCH, "--runs", str(run.parent)], cwd)


def _resumed(terminal: Terminal, run: Path) -> None:
    """The run, started by a key of the workbench."""
    terminal.wait_for("queued")
    terminal.press("r")
    wait_for(lambda: process.alive(run) and losses_of(run), "its first steps")
