"""The queue as a person has it: its own process, the real engine, and what it does when things go wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine import process
from engine.config import resolve
from tests.workbench.test_cli import gptbench
from tests.workbench.test_runs_live import sets
from workbench.errors import UserError
from workbench.runs import launch, manage, queue, slots
from workbench.runs.slots import CPU, Gpu
from workbench.runs.store import list_runs, state_of


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # the CPU slot, on every machine


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    texts = [f"Document {i} tells of {i * 7 % 13} things, and of {i * 5 % 11} more. " * (1 + i % 5) for i in range(60)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "part.parquet")
    return tmp_path / "part.parquet"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def wait_until(condition: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not come"
        time.sleep(0.05)


def made(root: Path, shard: Path, name: str) -> Path:
    return launch.create(resolve(None, [], {"data.paths": [str(shard)]}), root, name)


def occupy(run_dir: Path) -> None:
    """Let a run look started by hand: its process is this test's."""
    process.write(run_dir)
    assert state_of(run_dir) == "running"


def listed(root: Path) -> dict[str, list[dict[str, str]]]:
    shown = gptbench("queue", "--json", "--runs", root)
    assert shown.returncode == 0, shown.stderr
    answer: dict[str, list[dict[str, str]]] = json.loads(shown.stdout)
    return answer


def test_queued_runs_go_one_after_another_past_one_that_fails(shard: Path, root: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.parquet"
    bad.write_bytes(b"PAR1 not really parquet")
    tiny = sets("train.max_steps=6", "eval.every=6")
    runs = []
    for name, path in (("bad", bad), ("one", shard), ("two", shard)):
        added = gptbench("queue", "add", path, *tiny, "--runs", root, "--name", name, "--json")
        assert added.returncode == 0, added.stderr
        runs.append(Path(json.loads(added.stdout)["run"]))
    wait_until(lambda: not queue.read(root).waiting and not queue.running(root))
    assert [state_of(run) for run in runs] == ["failed", "finished", "finished"]
    times = [[json.loads(line)["time"] for line in (run / "events.jsonl").read_text().splitlines()] for run in runs[1:]]
    assert times[0][-1] <= times[1][0]  # the second began when the first had ended
    wait_until(lambda: queue.pid(root) is None)
    log = (root / ".queue" / "queue.log").read_text()
    assert "nothing waits any more" in log and "Traceback" not in log
    assert listed(root)["waiting"] == [] and {run.name for run in list_runs(root)} == {run.name for run in runs}


def test_the_queue_waits_for_the_slot_is_stopped_and_goes_on(shard: Path, root: Path) -> None:
    busy, first, second = (made(root, shard, name) for name in ("busy", "first", "second"))
    occupy(busy)
    assert [queue.add(root, first), queue.add(root, second)] == [1, 2]
    with pytest.raises(UserError, match="waits in the queue already"):
        queue.add(root, first)
    with pytest.raises(UserError, match="is running"):
        queue.add(root, busy)
    pid = queue.start(root)
    assert pid is not None and queue.start(root) == pid  # one process a folder
    assert os.getsid(pid) == pid  # of its own session
    again = [sys.executable, "-P", "-m", "workbench.runs.queue", str(root)]
    assert subprocess.run(again, env=launch.environment(), timeout=60, check=False).returncode == 0
    assert queue.pid(root) == pid
    answer = listed(root)
    assert [run["name"] for run in answer["waiting"]] == [first.name, second.name]
    assert answer["running"] == [{"name": busy.name, "slots": ["cpu"]}] and answer["pid"] == pid

    stopped = gptbench("queue", "stop", "--runs", root)
    assert stopped.returncode == 0 and "2 waiting" in stopped.stdout
    assert queue.pid(root) is None and gptbench("queue", "stop", "--runs", root).returncode == 1
    assert "queue start" in gptbench("queue", "--runs", root).stdout
    assert [state_of(run) for run in (busy, first, second)] == ["running", "queued", "queued"]

    first = manage.rename(first, "renamed")  # it keeps its place
    assert gptbench("queue", "start", "--runs", root).returncode == 0 and queue.pid(root) not in (None, pid)
    assert queue.read(root).waiting == ["renamed", second.name]
    manage.delete(second)
    removed = gptbench("queue", "remove", "rena", "--runs", root)
    assert removed.returncode == 0 and "renamed waits no more" in removed.stdout
    wait_until(lambda: queue.pid(root) is None)  # the deleted run is passed over; then nothing waits
    assert queue.read(root).waiting == [] and state_of(first) == "queued"
    assert gptbench("queue", "remove", "renamed", "--runs", root).returncode == 1


def test_a_queue_that_cannot_be_read_is_never_overwritten(shard: Path, root: Path) -> None:
    (root / ".queue").mkdir(parents=True)
    (root / ".queue" / "queue.json").write_text('{"waiting": [')
    refused = gptbench("queue", "add", shard, "--runs", root)
    assert refused.returncode == 1 and "queue.json" in refused.stderr and len(refused.stderr.splitlines()) == 1
    assert (root / ".queue" / "queue.json").read_text() == '{"waiting": [' and list_runs(root) == []


GPUS = [Gpu("0", "GPU-aa11", 500, 80_000), Gpu("1", "GPU-bb22", 40_000, 80_000), Gpu("2", "GPU-cc33", 0, 80_000)]


@pytest.mark.parametrize(
    ("variable", "seen"),
    [
        (None, ["GPU-aa11", "GPU-bb22", "GPU-cc33"]),
        ("", []),
        ("2,0", ["GPU-cc33", "GPU-aa11"]),
        ("GPU-bb, 2", ["GPU-bb22", "GPU-cc33"]),
        ("1,-1,2", ["GPU-bb22"]),
        ("MIG-5", ["MIG-5"]),
    ],
)
def test_the_gpus_that_a_program_sees(variable: str | None, seen: list[str]) -> None:
    assert slots.visible(GPUS, variable) == seen


def test_a_run_holds_the_gpus_that_its_process_was_started_with(shard: Path, root: Path) -> None:
    run_dir, env = made(root, shard, "held"), {**os.environ, "CUDA_VISIBLE_DEVICES": "2,0"}
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env=env) as child:
        process.write(run_dir, child.pid)
        every = [gpu.uuid for gpu in GPUS]
        if Path("/proc/self/environ").exists():
            wait_until(lambda: slots.held_by(run_dir, 1, GPUS, every) == {"GPU-cc33"})
            assert slots.held_by(run_dir, 2, GPUS, every) == {"GPU-cc33", "GPU-aa11"}
        assert slots.held_by(run_dir, 1, [], [CPU]) == {CPU}
        child.communicate(b"\n")
    assert slots.in_use(GPUS) >= {"GPU-bb22"}  # half its memory is held
    assert slots.environment(["GPU-cc33"]) == {"CUDA_VISIBLE_DEVICES": "GPU-cc33"} and slots.environment([CPU]) == {}


SMI = """#!/bin/sh
case "$1" in
*compute-apps*) echo "GPU-b, 77";;
*) printf "0, GPU-a, 10, 80000\\n1, GPU-b, 10, 80000\\n2, GPU-c, 10, 80000\\n";;
esac
"""


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="reads a process's environment")
def test_a_run_gets_a_gpu_that_nobody_holds(
    shard: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three GPUs as nvidia-smi prints them (a script stands for it): one of a run by hand, one of another's process."""
    (tmp_path / "nvidia-smi").write_text(SMI)
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    of = slots.slots()
    assert of == ["GPU-a", "GPU-b", "GPU-c"]
    by_hand, first, second = (made(root, shard, name) for name in ("by-hand", "first", "second"))
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": "0"}
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env=env) as child:
        process.write(by_hand, child.pid)
        wait_until(lambda: slots.held_by(by_hand, 1, slots.gpus() or [], of) == {"GPU-a"})
        for run_dir in (first, second):
            queue.add(root, run_dir)
        try:
            assert queue.step(root, of) == 0.0 and queue.read(root).waiting == [second.name]
            assert queue.running(root) == {by_hand.name: {"GPU-a"}, first.name: {"GPU-c"}}
            assert queue.step(root, of) == queue.POLL_OTHERS  # GPU-b is free of runs, yet another computes on it
            assert queue.read(root).waiting == [second.name]
        finally:
            launch.stop(first, wait=60)
            child.communicate(b"\n")
    assert state_of(second) == "queued"
