"""A run whose ``events.jsonl`` is a gigabyte: every program that reads it answers, in bounded memory.

What is read line by line is an eighth of that, which as much memory would not hold as Python objects either.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.events import FILE_NAME
from tests.faults.programs import GPTBENCH, Terminal, environment
from tests.faults.tally import Tally
from tests.workbench.folders import make_run as make_told

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]
GIB = 1 << 30
MOST = 300 << 20  # bytes that a program may have in memory at any time
STEP = (
    '{{"event": "step", "time": {time}.25, "step": {step}, "tokens": {tokens}, "epoch": 1.25, "loss": {loss:.4f}, '
    '"lr": 0.0003, "grad_norm": 0.81, "clipped": 0, "step_time": 0.5, "data_wait": 0.001, "tokens_per_s": 131072.0, '
    '"mfu": 0.31, "memory": 4294967296}}\n'
)
EVAL = (
    '{{"event": "eval", "time": 1750000000.25, "step": {step}, "split": "heldout", "loss": 3.25, "se": 0.0213, '
    '"documents": 60, "tokens": 40000}}\n'
)


def steps(path: Path) -> None:
    """Four million steps, as the engine writes them."""
    with path.open("a") as file:
        step = 601
        while file.tell() < GIB:
            told = range(step, step := step + 50_000)
            file.write(
                "".join(STEP.format(time=1_750_000_000 + s, step=s, tokens=s << 16, loss=3 + 400 / s) for s in told)
            )


def samples(path: Path) -> None:
    """Samples of a hundred kilobytes each."""
    line = json.dumps({"event": "sample", "time": 1.75e9, "step": 600, "prompt": "x", "text": "word " * 20_000}) + "\n"
    with path.open("a") as file:
        while file.tell() < GIB:
            file.write(line * 100)


def warnings(path: Path) -> None:
    """Five million warnings."""
    said = ({"event": "warning", "time": 1.75e9, "step": 600, "text": f"{i} " + "w" * 150} for i in range(10_000))
    block = "".join(json.dumps(event) + "\n" for event in said)
    with path.open("a") as file:
        while file.tell() < GIB:
            file.write(block)


def one_line(path: Path) -> None:
    """A last line that never ends."""
    with path.open("r+b") as file:
        file.seek(0, os.SEEK_END)
        file.write(b'{"event": "step", "loss": ')
        file.truncate(GIB)


def resumes(path: Path) -> None:
    """Nothing but resumes, then steps told again and again: nothing that is read at once."""
    block = "".join(json.dumps({"event": "resume", "time": 1.75e9, "step": 500}) + "\n" for _ in range(20_000))
    again = '{"event": "resume", "step": 500}\n' + STEP.format(time=1_750_000_000, step=501, tokens=1, loss=3.0) * 20
    with path.open("a") as file:
        while file.tell() < GIB // 16:
            file.write(block)
        while file.tell() < GIB // 8:
            file.write(again * 2_000)


def evaluations(path: Path) -> None:
    """Close to a million of them."""
    with path.open("a") as file:
        step = 700
        while file.tell() < GIB // 8:
            told = range(step, step := step + 50_000)
            file.write("".join(EVAL.format(step=s) for s in told))


KINDS: dict[str, Callable[[Path], None]] = {
    "steps": steps, "samples": samples, "warnings": warnings, "one endless line": one_line, "resumes": resumes,
    "evaluations": evaluations,
}  # fmt: skip


@pytest.fixture
def huge(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    run = make_told(tmp_path / "runs", "huge", steps=600)
    KINDS[request.param](run / FILE_NAME)
    yield run
    (run / FILE_NAME).unlink()


def peak(words: list[str]) -> tuple[subprocess.CompletedProcess[str], int]:
    """Run a command; what it said, and the most memory it had."""
    code = (
        "import resource, subprocess, sys; done = subprocess.run(sys.argv[1:]); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr); sys.exit(done.returncode)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    said, _, kilobytes = done.stderr.strip().rpartition("\n")
    done.stderr = said
    return done, int(kilobytes) << 10


@pytest.mark.parametrize("huge", KINDS, indirect=True, ids=str)
def test_a_gigabyte_of_events(huge: Path, request: pytest.FixtureRequest, tmp_path: Path, fault: Tally) -> None:
    kind = f"huge events.jsonl: {request.node.callspec.params['huge']}"
    runs = ["--runs", str(huge.parent)]
    for words in (["runs"], ["explain", "huge"], ["export", "huge", "--html"]):
        with fault(kind, detail=words):
            done, most = peak([*GPTBENCH, *words, *runs])
            assert done.returncode == 0 and not done.stderr, done
            print(f"{kind}: {' '.join(words)}: {most >> 20} MiB")
            assert most < MOST, f"{most >> 20} MiB"
    with fault(kind, detail="the workbench"), Terminal([*GPTBENCH, *runs], tmp_path) as terminal:
        terminal.wait_for("huge")
        terminal.press("\r")
        terminal.wait_for("loss")
        terminal.settle(3.0, 60)
        terminal.press("m")
        terminal.settle()
        status = Path(f"/proc/{terminal.process.pid}/status").read_text()
        most = int(status.partition("VmHWM:")[2].split()[0]) << 10
        print(f"{kind}: the workbench: {most >> 20} MiB")
        terminal.press("q")
        assert terminal.ended() == 0 and "Traceback" not in terminal.text
        assert most < MOST, f"{most >> 20} MiB"
