"""The pid of an engine that died belongs to another process now: that one is not taken for it, and never signalled."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine import process
from tests.engine.conftest import losses_of
from tests.faults.conftest import MakeRun
from tests.faults.programs import gptbench, wait_for
from tests.faults.runs import same
from tests.faults.tally import Tally
from tests.faults.test_torn import halve

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]
LAST_PID = Path("/proc/sys/kernel/ns_last_pid")  # the next process gets the number behind it


@contextlib.contextmanager
def other(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process with the pid that ``process.json`` of a folder names. Where nobody but the kernel chooses pids
    (without root), the file is given that of the other process instead."""
    known = process.read(folder) or {}
    child = None
    time.sleep(0.05)  # start times are told in hundredths of a second
    for _ in range(50):
        with contextlib.suppress(OSError):
            LAST_PID.write_text(str(int(known["pid"]) - 1))
        child = subprocess.Popen(["sleep", "300"])
        if child.pid == known["pid"]:
            break
        child.kill()
        child.wait()
    else:
        child = subprocess.Popen(["sleep", "300"])
        (folder / process.FILE_NAME).write_text(json.dumps({**known, "pid": child.pid}))
    assert child is not None
    try:
        yield child
        assert child.poll() is None, "another process was killed"
    finally:
        child.kill()
        child.wait()


@pytest.mark.parametrize("number", range(3))
def test_an_engines(number: int, make_run: MakeRun, straight: Callable[..., Path], fault: Tally) -> None:
    changes = {"train__max_steps": 100, "eval__every": 20}
    run, unbroken = make_run(**changes), straight(**changes)
    runs = ("--runs", run.parent)
    gptbench("resume", "run", *runs).ok()
    wait_for(lambda: losses_of(run), "its first steps")
    os.kill(int((process.read(run) or {})["pid"]), signal.SIGKILL)
    wait_for(lambda: not process.alive(run), "its death")
    with fault("a recycled pid: an engine's", detail=number), other(run):
        assert [r["state"] for r in json.loads(gptbench("runs", "--json", *runs).ok())] == ["dead"]
        gptbench("stop", "run", *runs).one_line("not running", "dead")
        gptbench("resume", "run", "--wait", *runs).ok()
        same(run, unbroken)


def test_a_queues(tmp_path: Path, shard: Path, make_run: MakeRun, fault: Tally) -> None:
    waits = make_run("waits", train__max_steps=3)
    runs, folder = ("--runs", waits.parent), waits.parent / ".queue"
    folder.mkdir()
    (folder / "queue.json").write_text(json.dumps({"waiting": ["waits"], "refused": {}}))
    with subprocess.Popen(["sleep", "300"]) as dead:
        process.write(folder, dead.pid)
        dead.kill()
    with fault("a recycled pid: the queue's"), other(folder):
        gptbench("queue", "stop", *runs).one_line("no queue process")
        gptbench("queue", "start", *runs).ok()
        wait_for(lambda: losses_of(waits), "what waited")
        wait_for(lambda: not process.alive(waits), "its end")


SAID: list[dict[str, object]] = [
    {"start_time": None}, {"start_time": ""}, {"pid": None}, {"pid": -1}, {"pid": 0}, {"pid": 1}, {"pid": 2**70},
    {"pid": "1"}, {"pid": True}, {"pid": 1.5},
]  # fmt: skip


def test_process_files_that_tell_nothing(straight: Callable[..., Path], tmp_path: Path, fault: Tally) -> None:
    """Of engines that died before they could be looked at, or written by another hand."""
    unbroken = straight()
    runs = [halve(unbroken, tmp_path / "runs" / f"run-{number}") for number in range(len(SAID))]
    with subprocess.Popen(["sleep", "300"]) as dead:
        known = process.identity(dead.pid)
        dead.kill()
    for run, said in zip(runs, SAID, strict=True):
        (run / process.FILE_NAME).write_text(json.dumps({**known, **said}))
    root = ("--runs", tmp_path / "runs")
    states = {r["name"]: r["state"] for r in json.loads(gptbench("runs", "--json", *root).ok())}
    for run, said in zip(runs, SAID, strict=True):
        with fault("a recycled pid: process.json tells of none", detail=said):
            assert states[run.name] == "dead"
            gptbench("stop", run.name, *root).one_line("not running", "dead")
            gptbench("resume", run.name, "--wait", *root).ok()
            same(run, unbroken)
