"""What a person can get wrong, typed as ``gptbench train … --wait``: one clear line, an exit code, nothing lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine import config
from engine.checkpoint import complete
from tests.workbench.test_cli import GPTBENCH, gptbench

Train = Callable[..., subprocess.CompletedProcess[str]]
SETS = ("model.preset=demo-1m", "model.block_size=32", "train.max_steps=4", "train.checkpoint_every=2", "eval.every=0",
        "train.device=cpu", "train.micro_batch=2")  # fmt: skip


def write_shard(path: Path, word: str) -> None:
    """A shard of forty documents."""
    texts = [f"{word} {i} " + " ".join(["the", "loss", "falls"][: i % 3 + 1] * (i % 9 + 1)) for i in range(40)]
    pq.write_table(pa.table({"text": texts}), path)


@pytest.fixture
def train(tmp_path: Path) -> Train:
    """``gptbench train`` of a small model on a shard, to its end; more options behind."""
    write_shard(tmp_path / "a.parquet", "first")

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        sets = [word for text in (*SETS, f"data.cache={tmp_path}/cache", *more) for word in ("--set", text)]
        return gptbench("train", tmp_path / "a.parquet", "--runs", tmp_path / "runs", "--name", "r", "--wait", *sets)

    return run


def one_line(done: subprocess.CompletedProcess[str], *says: str) -> None:
    """It failed, and the last line alone says so."""
    assert done.returncode and "Traceback" not in done.stderr + done.stdout
    assert [line for line in done.stderr.splitlines() if line.startswith("gptbench: ")] == done.stderr.splitlines()[-1:]
    assert all(text in done.stderr for text in says), done.stderr


@pytest.mark.parametrize(
    ("sets", "says"),
    [
        (["model.n_head=3"], ["model.n_embd 64 is not divisible by model.n_head 3"]),
        (["model.block_size=-1"], ["model.block_size must be above 0"]),
        (["model.positions=rotary", "model.n_head=64"], ["rotary positions need an even head size"]),
        (["train.micro_batch=1048576"], ["GiB", "set train.micro_batch=", " and train.grad_accum="]),
        (["model.n_layer=64", "model.n_embd=65536"], ["even a micro-batch of 1 takes", "choose a smaller model"]),
    ],
)
def test_impossible_before_anything_is_made(train: Train, tmp_path: Path, sets: list[str], says: list[str]) -> None:
    one_line(train(*sets), *says)
    assert not (tmp_path / "runs").exists()


def test_a_vocabulary_smaller_than_the_tokens(train: Train) -> None:
    one_line(train("model.vocab_size=50000"), "smaller than the 50257 tokens", "set model.vocab_size=50304")


def test_shards_and_configurations_that_changed_lose_nothing(train: Train, tmp_path: Path) -> None:
    done = train()
    assert done.returncode == 0 and "bits/byte" in done.stderr
    (run,) = (tmp_path / "runs").iterdir()
    path, before = run / "config.toml", [p.name for p in complete(run)]
    more = {"train.max_steps": 6, "schedule.decay_steps": 4}
    path.write_text(config.resolve(path, overrides=more).to_toml())
    again = ("resume", "r", "--runs", tmp_path / "runs", "--wait")
    write_shard(tmp_path / "a.parquet", "other")
    one_line(gptbench(*again), "a.parquet: the shard has changed since the run began")
    write_shard(tmp_path / "a.parquet", "first")
    good = path.read_text()
    path.write_text(config.resolve(path, overrides={"model.n_layer": 2}).to_toml())
    one_line(gptbench(*again), "a checkpoint of another configuration: model.n_layer was 4, is 2; restore config.toml")
    path.write_text(good)
    assert [p.name for p in complete(run)] == before
    assert "finished at step 6" in gptbench(*again).stderr


def test_a_killed_engine_is_said_to_be_one(train: Train, tmp_path: Path) -> None:
    assert train().returncode == 0
    (run,) = (tmp_path / "runs").iterdir()
    path = run / "config.toml"
    more = {"train.max_steps": 100_000, "schedule.decay_steps": 4, "train.checkpoint_every": 0}
    path.write_text(config.resolve(path, overrides=more).to_toml())
    line = [*GPTBENCH, "resume", "r", "--runs", str(tmp_path / "runs"), "--wait"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as waiting:
        end = time.monotonic() + 60
        while '"step": 5,' not in (run / "events.jsonl").read_text():
            assert time.monotonic() < end and waiting.poll() is None
            time.sleep(0.1)
        os.kill(json.loads((run / "process.json").read_text())["pid"], signal.SIGKILL)
        out, err = waiting.communicate(timeout=60)
    said = subprocess.CompletedProcess(line, waiting.returncode, out, err)
    one_line(said, "died without a word", f"gptbench resume {run.name} goes on from its newest checkpoint")
    assert [p.name for p in complete(run)] == ["step-00000004", "step-00000002"]
