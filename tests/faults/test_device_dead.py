"""A GPU that dies under a run: its error surfaces in one line, the last good checkpoint is named, the run resumes.

There is no GPU here: the error is raised where CUDA raises it, at some call of the step or while weights are copied.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.engine.conftest import events_of
from tests.faults.conftest import MakeRun
from tests.faults.programs import engine, gptbench, run
from tests.faults.runs import same, whole
from tests.faults.tally import Tally

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]
DYING = """
import sys, torch
from engine.__main__ import main
path, place, n, text = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
owner, name = {"backward": (torch.Tensor, "backward"), "copy": (torch.Tensor, "cpu")}[place]
original, calls = getattr(owner, name), [0]
def call(*args, **kwargs):
    calls[0] += 1
    if calls[0] >= n:  # once it is dead, it stays so
        raise torch.AcceleratorError(text + "\\nCUDA kernel errors might be reported asynchronously at some other call")
    return original(*args, **kwargs)
setattr(owner, name, call)
sys.exit(main(["train", path]))
"""
ERRORS = (
    "CUDA error: an illegal memory access was encountered", "CUDA error: unspecified launch failure",
    "CUDA error: uncorrectable ECC error encountered", "CUDA error: device-side assert triggered",
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "place", "n"),
    zip(ERRORS, ("backward", "backward", "copy", "backward"), (1, 8, 30, 11), strict=True),
    ids=("access", "launch", "ECC", "assert"),
)
def test_a_dead_device(
    text: str, place: str, n: int, make_run: MakeRun, straight: Callable[..., Path], tmp_path: Path, fault: Tally
) -> None:
    script = tmp_path / "dying.py"
    script.write_text(DYING)
    broken, unbroken = make_run(), straight()
    with fault("a dead GPU", detail=(text, place, n)):
        line = run([sys.executable, str(script), str(broken), place, str(n), text]).one_line(text, "resume")
        kept = sorted((broken / "checkpoints").glob("step-*"))
        assert kept[-1].name in line if kept else "no checkpoint" in line, line
        stop = events_of(broken)[-1]
        assert stop["reason"] == "failed" and stop["text"] == line
        whole(broken)
        assert (
            text in gptbench("export", "run", "--runs", broken.parent).ok()
            or "failed" in gptbench("runs", "--runs", broken.parent).ok()
        )
        assert engine(broken).code == 0
        same(broken, unbroken)
