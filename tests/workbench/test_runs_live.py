"""Runs as a person has them: started, followed, stopped, resumed through the real command and the real engine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine import process
from tests.workbench.test_cli import GPTBENCH, gptbench
from workbench.errors import UserError
from workbench.runs import launch
from workbench.runs.follow import Follower
from workbench.runs.store import list_runs

TINY = [
    "model.n_layer=1",
    "model.n_head=2",
    "model.n_embd=16",
    "model.block_size=32",
    "train.micro_batch=2",
    "eval.every=20",
]


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    texts = [f"Document {i} tells of {i * 7 % 13} things, and of {i * 5 % 11} more. " * (1 + i % 5) for i in range(60)]
    pq.write_table(pa.table({"text": texts}), folder / "part.parquet")
    return folder / "part.parquet"


@pytest.fixture(autouse=True)
def no_engine_is_left(tmp_path: Path) -> Iterator[None]:
    """A failed test would leave its engine training for hours: runs outlive whoever started them."""
    yield
    for found in tmp_path.rglob("process.json"):
        if process.alive(found.parent):
            os.kill((process.read(found.parent) or {})["pid"], signal.SIGKILL)


def sets(*more: str) -> list[str]:
    return [word for text in (*TINY, *more) for word in ("--set", text)]


def wait_for_step(run_dir: Path, step: int, seconds: float = 90) -> Follower:
    follower, deadline = Follower(run_dir), time.monotonic() + seconds
    while follower.history.step < step:
        assert time.monotonic() < deadline and follower.state() == "running", follower.log_tail(5)
        follower.poll()
        time.sleep(0.05)
    return follower


def test_start_follow_stop_resume_finish(shard: Path, tmp_path: Path) -> None:
    started = gptbench("train", shard, *sets("train.max_steps=400"), "--runs", tmp_path, "--name", "life", "--json")
    assert started.returncode == 0, started.stderr
    run_dir = Path(json.loads(started.stdout)["run"])
    assert run_dir.parent == tmp_path and run_dir.stat().st_mode & 0o077 == 0
    follower = wait_for_step(run_dir, 5)
    assert list_runs(tmp_path)[0].state == "running"
    with pytest.raises(UserError, match="already running"):
        launch.resume(run_dir)

    stopped = gptbench("stop", run_dir.name, "--runs", tmp_path, "--json")
    assert stopped.returncode == 0 and json.loads(stopped.stdout)["state"] == "stopped"
    follower.poll()
    at = follower.history.step
    assert 5 <= at < 400 and list((run_dir / "checkpoints").glob("step-*"))
    assert gptbench("stop", run_dir, "--runs", tmp_path).returncode == 1

    resumed = gptbench("resume", "life", "--runs", tmp_path, "--wait")
    assert resumed.returncode == 0 and "finished at step 400" in resumed.stderr
    follower.poll()
    history = follower.history
    assert [int(e["step"]) for e in history.resumes] == [at]
    assert history.steps["step"].tolist() == list(range(1, 401)) and history.val["step"][-1] == 400
    listed = json.loads(gptbench("runs", "--json", "--runs", tmp_path).stdout)[0]
    assert (listed["state"], listed["step"], listed["max_steps"]) == ("finished", 400, 400)
    assert gptbench("resume", "life", "--runs", tmp_path).returncode == 1


def test_a_killed_engine_is_dead_and_resumes(shard: Path, tmp_path: Path) -> None:
    started = gptbench("train", shard, *sets("train.max_steps=10000", "train.checkpoint_every=10"), "--runs", tmp_path)
    run_dir = Path(started.stdout.strip())
    wait_for_step(run_dir, 15)
    pid = (process.read(run_dir) or {})["pid"]
    os.kill(pid, signal.SIGHUP)  # a lost terminal: the run goes on
    time.sleep(0.3)
    assert list_runs(tmp_path)[0].state == "running"
    os.kill(pid, signal.SIGKILL)
    assert launch.wait_for_end(run_dir, 10)
    assert list_runs(tmp_path)[0].state == "dead"
    launch.resume(run_dir)
    follower, deadline = wait_for_step(run_dir, 30), time.monotonic() + 90
    while not follower.history.resumes:  # it may have come further than 30 before it was killed
        assert time.monotonic() < deadline, follower.log_tail(5)
        follower.poll()
        time.sleep(0.05)
    assert launch.stop(run_dir, wait=60)


@pytest.mark.parametrize(
    ("number", "state", "said"),
    [(signal.SIGTERM, "stopped", "stopped at step "), (signal.SIGINT, "running", "left running: ")],
)
def test_what_a_signal_to_who_waits_does_to_the_run(
    number: signal.Signals, state: str, said: str, shard: Path, tmp_path: Path
) -> None:
    line = [*GPTBENCH, "train", str(shard), *sets("train.max_steps=100000"), "--runs", str(tmp_path), "--wait"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as waiting:
        assert waiting.stdout
        run_dir = Path(waiting.stdout.readline().strip())
        wait_for_step(run_dir, 5)
        waiting.send_signal(number)
        _, err = waiting.communicate(timeout=60)
    assert waiting.returncode == 0 and said in err.splitlines()[-1], err
    assert list_runs(tmp_path)[0].state == state
    if state == "stopped":
        assert list((run_dir / "checkpoints").glob("step-*"))


def test_a_run_that_fails_says_why(tmp_path: Path) -> None:
    bad = tmp_path / "bad.parquet"
    bad.write_bytes(b"PAR1 not really parquet")
    failed = gptbench("train", bad, *sets(), "--runs", tmp_path / "runs", "--wait")
    assert failed.returncode == 1 and "bad.parquet" in failed.stderr and "Traceback" not in failed.stderr
