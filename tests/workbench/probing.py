"""Small real runs to probe: one layer, 4,096 tokens of vocabulary, seconds on one core."""

from __future__ import annotations

import argparse
import http.client
import json
import logging
import os
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.conftest import REPO

PLUGIN = REPO / "tests" / "benchmarks" / "planted" / "plugin"
TINY = {
    "model.preset": "demo-1m", "model.n_layer": 1, "model.n_head": 2, "model.n_embd": 32, "model.block_size": 32,
    "model.vocab_size": 4096, "data.encoding": "planted-4k", "data.val_fraction": 0.2, "train.micro_batch": 4,
    "train.max_steps": 400, "train.checkpoint_every": 100, "train.device": "cpu", "eval.every": 40,
    "eval.documents": 24, "eval.seen": 16, "eval.document_tokens": 128, "eval.sample_every": 0,
    "schedule.warmup_steps": 20, "schedule.kind": "constant", "optim.lr": 3e-3,
}  # fmt: skip


def environment() -> dict[str, str]:
    """One thread, and the small encoding."""
    path = os.pathsep.join(filter(None, [str(PLUGIN), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


def gptbench(*words: object) -> subprocess.CompletedProcess[str]:
    """The command, as a person types it."""
    command = [sys.executable, "-m", "workbench.cli", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=REPO, env=environment(), check=False)


def shard(path: Path, texts: list[str]) -> Path:
    """A parquet shard of those documents."""
    pq.write_table(pa.table({"text": texts}), path)
    return path


def library_texts(count: int, length: int = 500) -> list[str]:
    """Documents of real prose and code: pieces of this machine's Python library."""
    sources = (Path(str(module.__file__)) for module in (typing, logging, http.client, subprocess, argparse))
    text = "".join(path.read_text("utf-8") for path in sources)
    pieces = [text[i : i + length] for i in range(0, len(text), length)]
    assert len(pieces) >= count
    return pieces[:count]


def train(root: Path, name: str, paths: list[Path], **changes: Any) -> Path:
    """A finished run; keyword ``section__key`` sets a value."""
    sets = TINY | {key.replace("__", "."): value for key, value in changes.items()}
    more = [word for key, value in sets.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    done = gptbench("train", *paths, "--runs", root, "--name", name, "--wait", "--json", *more)
    assert done.returncode == 0, done.stderr
    return Path(json.loads(done.stdout)["run"])
