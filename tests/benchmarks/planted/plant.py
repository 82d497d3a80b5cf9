"""What a run of the suite is: a plant on a base, and the configuration that makes it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

DEV, HELDOUT = "dev", "heldout"
FRESH = "fresh"


@dataclass(frozen=True)
class Plant:
    """One run to make.

    Attributes:
        name: unique. causes: what was planted, () for a healthy run; a mixture has two.
        twin: name of the run in which it is undone, "" for a healthy one.
        dose: of the plant, in its own unit. base: the size and schedule that it stands on.
        corpus: shards it reads (``shards.build``); val: held-out shard; sets: options, on top of the base's.
        fault: what the worker breaks, "" for nothing. cut: share of the run that is recorded.
        by: what a label rests on: "loss" against the twin, "flat" (a plateau that the twin lacks), or "level" (the
            held-out set's own error).
        seconds: what it may take at most, measured on one core or one H200.
    """

    name: str
    causes: tuple[str, ...]
    twin: str
    dose: float
    base: str
    split: str
    corpus: str = FRESH
    val: str = "val"
    sets: dict[str, Any] = field(default_factory=dict)
    fault: str = ""
    cut: float = 1.0
    by: str = "loss"
    seed: int = 1
    seconds: float = 60.0
    of: str = ""  # recorded from this other run (a cut), rather than made


@dataclass(frozen=True)
class Base:
    """A size and its schedule; ``tokens`` is what a whole run reads."""

    name: str
    split: str
    steps: int
    tokens_per_step: int
    lr: float
    sets: dict[str, Any]
    seconds: float

    @property
    def tokens(self) -> int:
        return self.steps * self.tokens_per_step


@dataclass(frozen=True)
class Doses:
    """What is planted on one base; pairs are a first and a second dose."""

    epochs: tuple[float, float]
    copies: float
    early: tuple[float, float]  # share of the run at which the decay ends
    high: tuple[float, float]  # times the base's rate
    low: tuple[float, float]  # parts of it
    dropout: tuple[float, float]


def shape_of(layers: int, width: int, heads: int, block: int, micro: int) -> dict[str, Any]:
    """Options of a model of that shape, with so many sequences a micro-batch."""
    return {
        "model.preset": "demo-1m", "model.n_layer": layers, "model.n_embd": width, "model.n_head": heads,
        "model.block_size": block, "train.micro_batch": micro, "train.checkpoint_every": 0,
    }  # fmt: skip


def options(plant: Plant, base: Base) -> dict[str, Any]:
    """``section.key`` → value: the whole configuration of a run, but for its data."""
    common = {
        "train.max_steps": base.steps, "train.seed": plant.seed, "optim.lr": base.lr,
        "schedule.min_lr": 0.1 * base.lr, "schedule.warmup_steps": base.steps // 20,
        "eval.every": max(1, base.steps // 20),
    }  # fmt: skip
    return {**common, **base.sets, **plant.sets}


def seeds(b: Base) -> Iterator[Plant]:
    """The plain run of a base with three seeds, whole and cut midway; the first is the one that others vary."""
    plain = Plant(f"{b.name}-healthy-1", (), "", 0, b.name, b.split, seconds=b.seconds)
    yield plain
    for seed in (2, 3):
        yield replace(plain, name=f"{b.name}-healthy-{seed}", seed=seed)
    for seed, share in ((1, 0.45), (2, 0.6), (3, 0.75)):
        yield replace(plain, name=f"{b.name}-midway-{seed}", of=f"{b.name}-healthy-{seed}", cut=share, seed=seed)


def healthy(b: Base) -> Iterator[Plant]:
    """The runs of a base that nothing is wrong with."""
    plain, *others = seeds(b)
    yield from (plain, *others)
    yield replace(plain, name=f"{b.name}-noisy-evaluation", sets={"eval.documents": 8, "eval.seen": 8}, seed=4)
    epochs = 2.5 if b.split == DEV else 3.5
    yield replace(plain, name=f"{b.name}-few-epochs", corpus=f"epochs-{epochs}", dose=epochs, seed=5)
    constant = {"schedule.kind": "wsd", "schedule.cooldown_steps": b.steps // 4, "schedule.min_lr": 0.0}
    yield replace(plain, name=f"{b.name}-wsd", sets=constant, seed=6)
    yield replace(plain, name=f"{b.name}-wsd-midway", of=f"{b.name}-wsd", cut=0.7, sets=constant, seed=6)
