"""A GPU that dies under a run: its error surfaces in one line, the last good checkpoint is named, the run resumes.

There is no GPU here: the error is raised where CUDA raises it, at some call of the step, while weights are copied or as
the model is moved there, in the engine that the real command starts.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from engine.config import resolve
from engine.events import FILE_NAME
from tests.engine.conftest import events_of
from tests.faults.conftest import MakeRun
from tests.faults.programs import engine, gptbench
from tests.faults.runs import same, whole
from tests.faults.tally import Tally

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]
KIND = "a dead GPU"

# Python imports it before anything else: in an engine, a call of torch that fails from the n-th time on.
DYING = """
import os, sys
if sys.orig_argv[-3:-1] == ["engine", "train"]:
    import torch
    kind, place, n, text = os.environ["TEST_DYING"].split("|")
    places = {"step": (torch.Tensor, "backward"), "copy": (torch.Tensor, "cpu"), "build": (torch.nn.Module, "to")}
    owner, name = places[place]
    original, calls = getattr(owner, name), [0]
    def call(*args, **kwargs):
        calls[0] += 1
        if calls[0] >= int(n):  # once it is dead, it stays so
            raise getattr(torch, kind, RuntimeError)(text + "\\nCUDA kernel errors might be reported later")
        return original(*args, **kwargs)
    setattr(owner, name, call)
"""
ERRORS = {
    "access": ("AcceleratorError", "step", 1, "CUDA error: an illegal memory access was encountered"),
    "launch": ("AcceleratorError", "step", 8, "CUDA error: unspecified launch failure"),
    "ECC": ("AcceleratorError", "copy", 30, "CUDA error: uncorrectable ECC error encountered"),
    "assert": ("AcceleratorError", "step", 11, "CUDA error: device-side assert triggered"),
    "cuBLAS": ("RuntimeError", "step", 5, "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx`"),
}


@pytest.fixture
def dying(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """The environment of programs whose device dies so."""
    (tmp_path / "dying").mkdir()
    (tmp_path / "dying/sitecustomize.py").write_text(DYING)
    return lambda *how: {"PYTHONPATH": str(tmp_path / "dying"), "TEST_DYING": "|".join(map(str, how))}


def failed(run: Path, env: dict[str, str], *texts: str) -> str:
    """The run fails under the real command: one line, which names the newest whole checkpoint; told everywhere."""
    done = gptbench("resume", run.name, "--wait", "--runs", run.parent, env=env)
    progress = [line for line in done.err.splitlines(keepends=True) if line.startswith("step ")]
    line = replace(done, err=done.err.removeprefix("".join(progress))).one_line(*texts, "then resume the run")
    kept = sorted((run / "checkpoints").glob("step-*"))
    assert (f"is checkpoints/{kept[-1].name};" if kept else "no checkpoint was written yet;") in line, line
    stop = events_of(run)[-1]
    assert stop["event"] == "stop" and stop["reason"] == "failed" and stop["text"] in line
    log = (run / "engine.log").read_text()
    assert log.rstrip().endswith(stop["text"]) and "Traceback" not in log
    (listed,) = json.loads(gptbench("runs", "--json", "--runs", run.parent).ok())
    assert listed["state"] == "failed"
    whole(run)
    return line


@pytest.mark.parametrize("name", ERRORS)
def test_a_dead_device(
    name: str, dying: Callable[..., dict[str, str]], make_run: MakeRun, straight: Callable[..., Path], fault: Tally
) -> None:
    *how, text = ERRORS[name]
    broken, unbroken = make_run(), straight()
    with fault(KIND, f"{KIND}: as dead at the resume", detail=name):
        failed(broken, dying(*how, text), text)
        failed(broken, dying("AcceleratorError", "build", 1, text), text)
        assert engine(broken).code == 0
        same(broken, unbroken)


def test_a_device_that_is_gone(
    dying: Callable[..., dict[str, str]], make_run: MakeRun, straight: Callable[..., Path], fault: Tally
) -> None:
    """What was trained on a card does not go on, unasked, on the CPU of ``train.device`` auto."""
    broken, unbroken = make_run(), straight()
    *how, text = ERRORS["launch"]
    with fault(f"{KIND}: gone at the resume"):
        failed(broken, dying(*how, text), text)
        events, config = broken / FILE_NAME, broken / "config.toml"
        events.write_text(
            events.read_text().replace('"device": "cpu", "device_name": "', '"device": "cuda", "device_name": "NVIDIA ')
        )
        config.write_text(resolve(config, overrides={"train.device": "auto"}).to_toml())
        failed(broken, {"CUDA_VISIBLE_DEVICES": ""}, "trained on NVIDIA", 'train.device = "cpu"')
        config.write_text(resolve(config, overrides={"train.device": "cpu"}).to_toml())
        assert engine(broken).code == 0
        same(broken, unbroken)
