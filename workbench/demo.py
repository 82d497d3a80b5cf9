"""The demo: the main job on text that every machine has, in about two minutes on two CPU cores.

Shards of this Python's own standard library, a model small enough for a CPU, and few enough unique tokens that it runs
out of data: the plateau is real, and so is its explanation. The same verbs and functions as for any other run do the
work; only the shards and the configuration are chosen here.
"""

from __future__ import annotations

from pathlib import Path

from engine.config import Config, resolve

# Few unique tokens for the steps planned: the run passes over them some dozens of times.
UNIQUE_TOKENS = 16_000
NAME = "demo"

SETTINGS = (
    "model.preset=demo-1m",
    "train.max_steps=400",
    "train.micro_batch=4",
    "train.checkpoint_every=0",
    "eval.every=20",
    "data.val_fraction=0.2",
)


def folders(base: Path) -> tuple[Path, Path]:
    """The demo's shards folder and runs folder below ``base``."""
    return base / "shards", base / "runs"


def prepare(base: Path) -> list[Path]:
    """Build the demo's shards, unless they are there. Raises ShardError where the folder cannot be written."""
    from data.sample import build

    return build(folders(base)[0], max_tokens=UNIQUE_TOKENS)


def configuration(shards: list[Path]) -> Config:
    """The configuration of the demo's run."""
    return resolve(sets=SETTINGS, overrides={"data.paths": [str(path) for path in shards]})
