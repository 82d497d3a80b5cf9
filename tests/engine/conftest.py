"""A tiny corpus and tiny runs of it, in the test's own folders."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from data.packed import Pack, pack_shard
from engine import config
from engine.__main__ import main
from engine.events import EventReader

WORDS = ("the", "of", "a", "token", "step", "loss", "model", "train", "shard", "rate", "batch", "epoch", "weight")

MakeRun = Callable[..., Path]  # what the fixture make_run gives

# The smallest model that GPT-2's encoding allows.
TINY = {
    "model.n_layer": 1, "model.n_head": 2, "model.n_embd": 16, "model.block_size": 32, "model.vocab_size": 50304,
    "model.preset": "demo-1m", "train.micro_batch": 2, "train.max_steps": 12, "train.checkpoint_every": 5,
    "train.device": "cpu", "eval.every": 4, "eval.documents": 4, "eval.seen": 3, "schedule.warmup_steps": 2,
    "data.val_fraction": 0.1,
}  # fmt: skip


def texts_of(count: int, seed: int = 0, longest: int = 60) -> list[str]:
    """Distinct documents of random words."""
    r = random.Random(seed)
    return [f"{seed}-{i} " + " ".join(r.choices(WORDS, k=r.randint(1, longest))) for i in range(count)]


def write_shard(path: Path, texts: Sequence[str | None], column: str = "text") -> Path:
    """A parquet shard of those documents."""
    pq.write_table(pa.table({column: list(texts)}), path)
    return path


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packs that tests share."""
    return tmp_path_factory.mktemp("packs")


@pytest.fixture(scope="session")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shard of 60 documents."""
    return write_shard(tmp_path_factory.mktemp("shards") / "a.parquet", texts_of(60))


@pytest.fixture
def pack_of(tmp_path: Path) -> Callable[..., Pack]:
    """Pack a list of texts."""

    def build(texts: Sequence[str], name: str = "a") -> Pack:
        return pack_shard(write_shard(tmp_path / f"{name}.parquet", texts), cache=tmp_path / "cache")

    return build


@pytest.fixture
def make_run(tmp_path: Path, shard: Path, cache: Path) -> Callable[..., Path]:
    """A run directory with a tiny configuration; keyword ``section__key`` sets a value."""

    def build(name: str = "run", **changes: Any) -> Path:
        overrides = {**TINY, "data.paths": [str(shard)], "data.cache": str(cache)}
        overrides.update({key.replace("__", "."): value for key, value in changes.items()})
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.toml").write_text(config.resolve(overrides=overrides).to_toml())
        return folder

    return build


@pytest.fixture(autouse=True)
def _quiet_torch() -> Iterator[None]:
    """One thread and the same generator for every test; the engine's signal handlers do not outlive it."""
    import signal

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    threads = torch.get_num_threads()
    torch.manual_seed(0)
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    os.environ.pop("OMP_NUM_THREADS")
    for number, handler in before.items():
        signal.signal(number, handler)


def start(run_dir: Path) -> subprocess.Popen[str]:
    """The engine as a process of its own, one thread."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "engine", "train", str(run_dir)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def events_of(run_dir: Path) -> list[dict[str, Any]]:
    """All events of a run."""
    return list(EventReader(run_dir).read())


def losses_of(run_dir: Path) -> dict[int, float]:
    """Loss of each step, as it stands after resumes; the events must be in order."""
    found: dict[int, float] = {}
    for event in events_of(run_dir):
        if event["event"] == "resume":
            found = {s: loss for s, loss in found.items() if s <= event["step"]}
        elif event["event"] == "step":
            assert event["step"] == len(found) + 1, "a step is missing or told twice"
            found[event["step"]] = event["loss"]
    return found


def data_of(run_dir: Path) -> dict[str, Any]:
    """What ``data.json`` says."""
    value: dict[str, Any] = json.loads((run_dir / "data.json").read_text())
    return value


def train(run_dir: Path) -> int:
    """The engine, in this process."""
    return main(["train", str(run_dir)])


def kinds(run_dir: Path) -> list[str]:
    """Its events by name."""
    return [e["event"] for e in events_of(run_dir)]


def wait_for(condition: Callable[[], Any], of: subprocess.Popen[str]) -> None:
    """Wait until it holds, while that process lives."""
    end = time.monotonic() + 60
    while not condition():
        assert of.poll() is None, of.communicate()
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.03)


def rewrite(run: Path, **changes: Any) -> None:
    """Change a run's configuration; keyword ``section__key`` sets a value."""
    path = run / "config.toml"
    overrides = {key.replace("__", "."): value for key, value in changes.items()}
    path.write_text(config.resolve(path, overrides=overrides).to_toml())


def forget_the_end(run: Path) -> None:
    """As if the run had been killed before it could say that it had finished."""
    lines = (run / "events.jsonl").read_bytes().splitlines(keepends=True)
    assert b'"stop"' in lines[-1]
    (run / "events.jsonl").write_bytes(b"".join(lines[:-1]))
