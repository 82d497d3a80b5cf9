"""An engine killed at bad moments: nothing is lost, nothing told twice, and the losses are those of an unbroken run."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.events import FILE_NAME
from tests.faults.conftest import MakeRun
from tests.faults.programs import ENGINE, engine, run, started
from tests.faults.runs import said, same, whole
from tests.faults.tally import Tally

pytestmark = pytest.mark.timeout(900)
RANDOM, STARTING = "SIGKILL of the engine: at a random moment", "SIGKILL of the engine: while it starts"
WRITING, POINT = "SIGKILL of the engine: inside a checkpoint's writing", "SIGKILL of the engine: at a chosen point"
KILLS = {"train__max_steps": 180, "eval__every": 10}

# The engine, which kills itself at a point of its n-th checkpoint, or in the middle of its n-th writing of events.
SUICIDAL = """
import os, signal, sys
from pathlib import Path
from engine import checkpoint, events
from engine.__main__ import main
run, point, n = sys.argv[1], sys.argv[2], int(sys.argv[3])
def killing(module, name, at, when):
    original, calls = getattr(module, name), [0]
    def call(*args, **kwargs):
        calls[0] += 1
        if calls[0] == at and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **kwargs)
        if calls[0] == at and when == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    setattr(module, name, call)
def torn(self, found, calls=[0]):
    calls[0] += 1
    data = b"".join(events.encode({"time": 0.0, **e}) for e in found)
    os.write(self._fd, data if calls[0] < n else data[: len(data) // 2])
    if calls[0] == n:
        os.kill(os.getpid(), signal.SIGKILL)
if point == "weights":
    killing(checkpoint, "save_file", 2 * n - 1, "after")
elif point == "optimizer":
    killing(checkpoint, "save_file", 2 * n, "after")
elif point == "state":
    killing(checkpoint, "_force", 3 * n, "before")
elif point == "unnamed":
    killing(checkpoint, "_force_folder", 2 * n - 1, "after")
elif point == "named":
    killing(checkpoint, "_force_folder", 2 * n, "before")
elif point == "pruned":
    killing(checkpoint, "discard", n, "after")
elif point == "pruning":
    killing(checkpoint.shutil, "rmtree", 2 * n, "before")
elif point == "event":
    events.EventWriter.write_many = torn
sys.exit(main(["train", run]))
"""
POINTS = ("weights", "optimizer", "state", "unnamed", "named", "pruning", "pruned", "event")


@pytest.mark.parametrize(
    "points",
    [("weights", "named", "event"), pytest.param((*POINTS, *POINTS[:2]), marks=pytest.mark.slow)],
    ids=["three points", "every point"],
)
def test_at_chosen_points(
    make_run: MakeRun, straight: Callable[..., Path], tmp_path: Path, points: tuple[str, ...], fault: Tally
) -> None:
    script = tmp_path / "suicidal.py"
    script.write_text(SUICIDAL)
    changes: dict[str, Any] = {"train__max_steps": 6 * len(points) + 6, "eval__every": 5}
    unbroken, broken = straight(**changes), make_run(**changes)
    with fault(*[POINT] * len(points)):
        for point in points:
            done = run([sys.executable, str(script), str(broken), point, "2"])
            assert done.code == -signal.SIGKILL, done
            whole(broken)
        assert engine(broken).code == 0
        same(broken, unbroken)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_at_random_moments(make_run: MakeRun, straight: Callable[..., Path], seed: int, fault: Tally) -> None:
    """Seven kills in a row, each then resumed: three at random, three aimed at a checkpoint, one at the start-up."""
    moments, broken, kinds = random.Random(seed), make_run(**KILLS), []
    aims = [RANDOM, WRITING, RANDOM, STARTING, WRITING, RANDOM, WRITING]
    with fault.chain(kinds, f"seed {seed}"):
        for aim in aims:
            before = said(broken)
            process = started([*ENGINE, str(broken)])
            _wait(process, broken, aim, len(before), moments)
            if process.poll() is not None:
                break  # it had finished by then
            process.kill()
            process.wait()
            left = list((broken / "checkpoints").glob(".step-*"))
            kinds.append(WRITING if left else STARTING if aim == STARTING else RANDOM)
            assert said(broken).startswith(before), "an event was lost"
            whole(broken)
        assert engine(broken).code == 0
        same(broken, straight(**KILLS))


def _wait(process: subprocess.Popen[bytes], run_dir: Path, aim: str, size: int, moments: random.Random) -> None:
    """Until the moment of the kill."""
    if aim == STARTING:
        time.sleep(moments.random() * 2)
        return
    events, end = run_dir / FILE_NAME, time.monotonic() + 120
    while not (events.exists() and events.stat().st_size > size):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.005)
    if aim == RANDOM:
        time.sleep(moments.random() * 0.6)
        return
    for _ in range(moments.randrange(1, 5)):  # not always the first one
        while process.poll() is None and not _writes(run_dir):
            pass
        time.sleep(moments.random() * 0.01)
        if _writes(run_dir):
            return


def _writes(run_dir: Path) -> bool:
    try:
        return any(entry.name.startswith(".step-") for entry in os.scandir(run_dir / "checkpoints"))
    except OSError:
        return False
