"""Start, stop and follow probes. The engine that carries one out is a process of its own, as a run's is."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.bounded import read_text
from engine import process
from workbench.atomic import write_atomically
from workbench.errors import UserError
from workbench.plateau.experiment import BUDGET, Experiment
from workbench.probes import arms
from workbench.probes.design import design
from workbench.probes.judge import arm_state, read_plan
from workbench.probes.site import FOLDER, RESULT, visit
from workbench.runs import launch

LOG_NAME = "engine.log"


@dataclass(frozen=True)
class Progress:
    """A probe under way: arms that are done, of how many, and the fraction of all their steps."""

    cause: str
    running: bool
    done: int
    arms: int
    fraction: float

    def __str__(self) -> str:
        what = f"arm {min(self.done + 1, self.arms)} of {self.arms}" if self.arms else "evaluating"
        return f"probe {self.cause}: {what}, {self.fraction:.0%}" + ("" if self.running else " (interrupted)")


def prepare(run_dir: Path, cause: str, experiment: Experiment, budget: float | None = None) -> dict[str, Any]:
    """The plan of a probe as written: one that was interrupted, unless another budget is asked for, or a new one.

    Raises:
        site.NoProbe: this run does not allow it.
        UserError: another probe of the run is under way, or the directory cannot be written.
    """
    if running(run_dir):
        raise UserError(
            f"{run_dir.name}: a probe is under way ({under_way(run_dir)}); gptbench probe RUN --stop ends it"
        )
    site = visit(run_dir)
    plan = read_plan(run_dir, cause)
    if plan is None or budget is not None or (run_dir / FOLDER / cause / RESULT).is_file():
        arms.make(run_dir, design(site, cause, experiment, BUDGET if budget is None else budget))
        plan = read_plan(run_dir, cause)
    if plan is None:
        raise UserError(f"{run_dir / FOLDER / cause}: the plan cannot be read")
    return plan


def start(run_dir: Path, cause: str) -> int:
    """Start the engine on a prepared probe, detached; returns its pid.

    Raises:
        UserError: it cannot be started.
    """
    folder = run_dir / FOLDER
    try:
        write_atomically(folder / "current", cause)
        with (folder / LOG_NAME).open("wb") as log:
            child = subprocess.Popen(
                [sys.executable, "-P", "-m", "engine", "probe", str(run_dir), cause],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder, env=launch.environment(),
                start_new_session=True,
            )  # fmt: skip
        process.write(folder, child.pid)
    except OSError as error:
        raise UserError(f"{folder}: cannot start the engine: {error.strerror}") from None
    launch.adopt(child)
    return child.pid


def stop(run_dir: Path, wait: float = 0.0) -> bool:
    """Ask the probe under way to stop behind its step; True once it has ended within ``wait`` seconds.

    Raises:
        UserError: none is under way here.
    """
    folder = run_dir / FOLDER
    if not running(run_dir):
        raise UserError(f"{run_dir.name}: no probe is under way")
    known = process.read(folder) or {}
    with contextlib.suppress(ProcessLookupError):
        os.kill(int(known["pid"]), signal.SIGTERM)
    return launch.wait_for_end(folder, wait)


def running(run_dir: Path) -> bool:
    """Whether a probe of the run is under way on this host."""
    launch.reap()
    return bool(process.alive(run_dir / FOLDER))


def current(run_dir: Path) -> str | None:
    """The cause of the probe that was started last, or None."""
    try:
        return read_text(run_dir / FOLDER / "current").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def under_way(run_dir: Path) -> Progress | None:
    """How far the newest probe is; None where there is none, or it has ended with a result."""
    cause = current(run_dir)
    plan = read_plan(run_dir, cause) if cause else None
    if cause is None or plan is None:
        return None
    living = running(run_dir)
    if not living and (run_dir / FOLDER / cause / RESULT).is_file():
        return None
    try:
        states = [(arm, arm_state(run_dir, arm)) for arm in plan["arms"]]
        begin = int(plan["step"])
        total = sum(int(arm["last"]) - begin for arm, _ in states)
        done = sum(max(0, s.step - begin) for _, s in states)
    except (KeyError, TypeError, ValueError):
        return None
    finished = sum(s.done for _, s in states)
    return Progress(cause, living, finished, len(states), min(1.0, done / total) if total else 0.0)


def failure(run_dir: Path) -> str:
    """What the engine said of a probe that it could not carry out; "" for one that is done or was stopped."""
    try:
        lines = (run_dir / FOLDER / LOG_NAME).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    last = next((line for line in reversed(lines) if line.strip()), "")
    ended = last == "done" or last.startswith(("stopped at step", "arm ", "step "))
    return "" if ended else last
