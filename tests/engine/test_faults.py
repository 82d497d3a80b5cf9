"""An engine killed at bad moments: nothing is lost, nothing told twice, and the losses are those of an unbroken run.

The short form kills it at chosen points inside the checkpoint's and the events' writing; ``make faults`` at every such
point, at twenty random moments, and on a disk that is really full.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.__main__ import main
from engine.checkpoint import Checkpoint, complete, newest
from engine.events import FILE_NAME
from tests.engine.conftest import events_of, losses_of, start

MakeRun = Callable[..., Path]

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


def standing(run: Path) -> Counter[tuple[Any, ...]]:
    """Steps, evaluations and checkpoints that stand once every resume has replaced what lay behind it."""
    found: list[tuple[Any, ...]] = []
    for e in events_of(run):
        if e["event"] == "resume":
            found = [key for key in found if key[1] <= e["step"]]
        elif e["event"] in ("step", "eval", "checkpoint"):
            found.append((e["event"], e["step"], e.get("split")))
    return Counter(found)


def same(run: Path, straight: Path) -> None:
    """The broken run tells, once each, what the unbroken one does, bit for bit."""
    assert losses_of(run) == losses_of(straight)
    assert standing(run) == standing(straight) and set(standing(run).values()) == {1}
    evals = [
        {(e["step"], e["split"]): (e["loss"], e["se"]) for e in events_of(r) if e["event"] == "eval"}
        for r in (run, straight)
    ]
    assert evals[0] == evals[1]
    assert [p.name for p in complete(run)] == [p.name for p in complete(straight)]
    assert all(isinstance(c, Checkpoint) for c in newest(run))
    assert not list((run / "checkpoints").glob(".*"))


def broken_run(make_run: MakeRun, name: str, steps: int = 24, **changes: Any) -> Path:
    return make_run(
        name, train__max_steps=steps, train__checkpoint_every=3, eval__every=5, model__dropout=0.2,
        train__keep_checkpoints=2, **changes,
    )  # fmt: skip


def die(run: Path, script: Path, point: str, n: int) -> None:
    """Run the engine until it kills itself, or has finished before it came to the point."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, str(script), str(run), point, str(n)], env=environment, capture_output=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize(
    "points",
    [("weights", "named", "event"), pytest.param((*POINTS, *POINTS[:2]), marks=pytest.mark.slow)],
    ids=["three points", "every point"],
)
def test_killed_while_it_writes(make_run: MakeRun, tmp_path: Path, points: tuple[str, ...]) -> None:
    script = tmp_path / "suicidal.py"
    script.write_text(SUICIDAL)
    steps = 6 * len(points) + 6  # each point is reached behind at most two checkpoints more
    straight, run = broken_run(make_run, "straight", steps), broken_run(make_run, "run", steps)
    assert main(["train", str(straight)]) == 0
    for point in points:
        die(run, script, point, n=2)
        for found in newest(run):  # what has a checkpoint's name is whole, at any moment
            assert isinstance(found, Checkpoint)
    assert main(["train", str(run)]) == 0
    same(run, straight)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_at_twenty_random_moments(make_run: MakeRun) -> None:
    changes: dict[str, Any] = {"model__dropout": 0.2, "train__max_steps": 400, "train__checkpoint_every": 4,
                               "eval__every": 10, "train__keep_checkpoints": 2}  # fmt: skip
    straight, run = make_run("straight", **changes), make_run("run", **changes)
    assert main(["train", str(straight)]) == 0
    seed = random.randrange(1 << 30)
    moments = random.Random(seed)
    print(f"seed {seed}")
    for _ in range(20):
        before = (run / FILE_NAME).stat().st_size if (run / FILE_NAME).exists() else 0
        engine = start(run)
        end = time.monotonic() + 60
        while not ((run / FILE_NAME).exists() and (run / FILE_NAME).stat().st_size > before):
            assert engine.poll() is None and time.monotonic() < end
            time.sleep(0.005)
        time.sleep(moments.random() * 0.6)
        engine.kill()
        engine.communicate()
        for found in newest(run):
            assert isinstance(found, Checkpoint)
    assert main(["train", str(run)]) == 0
    same(run, straight)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_disk_that_is_really_full(make_run: MakeRun, tmp_path: Path) -> None:
    """The run lies on a file system too small for its second checkpoint; with more room it resumes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=14m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no small disk can be mounted here")
    try:
        straight = broken_run(make_run, "straight", train__keep_best=False)
        run = disk / "run"
        run.mkdir()
        (run / "config.toml").write_text((straight / "config.toml").read_text())
        assert main(["train", str(straight)]) == 0
        assert main(["train", str(run)]) == 1
        stop = events_of(run)[-1]
        assert stop["reason"] == "failed" and "No space left on device" in stop["text"]
        assert [p.name for p in complete(run)] == ["step-00000003"]
        assert isinstance(next(newest(run)), Checkpoint)
        assert subprocess.run(["mount", "-o", "remount,size=200m", str(disk)], check=False).returncode == 0
        assert main(["train", str(run)]) == 0
        assert losses_of(run) == losses_of(straight)
    finally:
        subprocess.run(["umount", str(disk)], check=False)
