"""A last line torn at any byte, by a writer that died: what stands before it counts, and a new writer goes on there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.events import FILE_NAME, EventReader, EventWriter
from tests.faults.programs import engine, gptbench
from tests.faults.runs import same
from tests.faults.tally import Tally
from tests.workbench.folders import make_run as make_told
from workbench.runs.follow import Follower
from workbench.runs.store import summarise

pytestmark = pytest.mark.timeout(900)
TORN = "torn last line of events"


def test_at_every_byte(tmp_path: Path, fault: Tally) -> None:
    """Of a step and of an evaluation: readers see what stood before; the next writer's events follow it."""
    run = make_told(tmp_path, steps=51)
    lines = (run / FILE_NAME).read_bytes().splitlines(keepends=True)
    ends = [max(i for i, line in enumerate(lines) if b'"%s"' % kind in line[:20]) for kind in (b"step", b"eval")]
    for end in ends:
        before = b"".join(lines[:end])
        told = list(EventReader(_file(run, before)).read())
        step = summarise(run).step
        for cut in range(1, len(lines[end])):
            with fault(TORN, detail=cut):
                path = _file(run, before + lines[end][:cut])
                assert list(EventReader(path).read()) == told and summarise(run).step == step
                follower = Follower(run)
                follower.poll()
                assert follower.history.version == len(told)
                with path.open("ab") as file:  # the writer lives, and was only seen half way
                    file.write(lines[end][cut:])
                follower.poll()
                assert follower.history.version == len(told) + 1
                _file(run, before + lines[end][:cut])
                writer = EventWriter(run)
                writer.write("warning", step=1, text="on")
                writer.close()
                assert list(EventReader(path).read())[:-1] == told and path.read_bytes().startswith(before)


@pytest.mark.slow
@pytest.mark.parametrize("cut", [1, 9, 60, -1])
def test_resumed_and_told_by_the_programs(
    cut: int, straight: Callable[..., Path], tmp_path: Path, fault: Tally
) -> None:
    unbroken, run = straight(), tmp_path / "runs" / "run"
    halve(unbroken, run)
    with (run / FILE_NAME).open("ab") as file, fault(f"{TORN}: seen by every command, resumed", detail=cut):
        file.write(b'{"event": "step", "time": 1792000000.5, "step": 11, "tokens": 704, "loss": 10.7}\n'[:cut])
        file.flush()
        shown = json.loads(gptbench("runs", "--json", "--runs", run.parent).ok())
        assert [(r["name"], r["step"], r["state"]) for r in shown] == [("run", 10, "dead")]
        gptbench("explain", "run", "--runs", run.parent).ok()
        gptbench("export", "run", "--runs", run.parent).ok()
        assert engine(run).code == 0
        same(run, unbroken)


def halve(unbroken: Path, run: Path) -> Path:
    """A copy of a run of 12 steps as a kill behind step 10 leaves it: its newest checkpoint is of step 9."""
    shutil.copytree(unbroken, run)
    shutil.rmtree(run / "checkpoints" / "step-00000012")
    events = (run / FILE_NAME).read_bytes().splitlines(keepends=True)
    last = next(i for i, line in enumerate(events) if b'"step": 11' in line)
    (run / FILE_NAME).write_bytes(b"".join(events[:last]))
    return run


def _file(run: Path, content: bytes) -> Path:
    path = run / FILE_NAME
    path.write_bytes(content)
    return path
