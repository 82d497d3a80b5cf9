"""Which runs the suite makes: each flat, or healthy, by construction, with the twin in which the plant is undone.

A subset ("cpu", "cuda") is a handful of bases (a size with its schedule and tokens) and, on each, the plants with
their doses. The same plant at another dose or on another base stands in the other split: the held-out runs differ
from those that rules and calibration were fitted on by dose and by size, never just by seed.
"""

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


def _options(layers: int, width: int, heads: int, block: int, micro: int) -> dict[str, Any]:
    return {
        "model.preset": "demo-1m", "model.n_layer": layers, "model.n_embd": width, "model.n_head": heads,
        "model.block_size": block, "train.micro_batch": micro, "train.checkpoint_every": 0,
    }  # fmt: skip


# The gpt2 family leaves the unigram plateau at a random moment in runs this short: its seeds ended 0.2 nats apart.
_SMALL = {"model.family": "modern", "model.vocab_size": 4096, "data.encoding": "planted-4k",
          "train.device": "cpu", "eval.documents": 32, "eval.seen": 24, "eval.document_tokens": 256}  # fmt: skip
_LARGE = {"train.device": "cuda", "train.compile": "off", "eval.documents": 200, "eval.seen": 100,
          "eval.document_tokens": 1024}  # fmt: skip
BASES = {
    "cpu": (
        Base("s", DEV, 300, 2048, 1e-2, _SMALL | _options(2, 48, 4, 128, 16), 60),
        Base("m", HELDOUT, 240, 2048, 8e-3, _SMALL | _options(4, 64, 4, 128, 16), 90),
    ),
    "cuda": (
        Base("11m", DEV, 1200, 32768, 2e-3, _LARGE | _options(6, 192, 4, 512, 64), 120),
        Base("16m", DEV, 1200, 32768, 1.5e-3, _LARGE | _options(6, 256, 4, 512, 64), 150),
        Base("30m", HELDOUT, 1200, 32768, 1e-3, _LARGE | _options(6, 384, 6, 512, 64), 240),
    ),
}


def plants(subset: str) -> list[Plant]:
    """Every run of a subset, in the order in which they are made: what others are compared with comes first."""
    bases = BASES[subset]
    found = [p for base in bases for p in _healthy(base)]
    kinds = [list(_planted(base)) for base in bases]
    # Turn by turn, so that a generator that is cut short has something of every kind.
    for group in zip(*kinds, strict=True):
        found += group
    found += list(_capacity(subset))
    assert len({p.name for p in found}) == len(found)
    return found


def options(plant: Plant, base: Base) -> dict[str, Any]:
    """``section.key`` → value: the whole configuration of a run, but for its data."""
    common = {
        "train.max_steps": base.steps, "train.seed": plant.seed, "optim.lr": base.lr,
        "schedule.min_lr": 0.1 * base.lr, "schedule.warmup_steps": base.steps // 20,
        "eval.every": max(1, base.steps // 20),
    }  # fmt: skip
    return {**common, **base.sets, **plant.sets}


def _healthy(b: Base) -> Iterator[Plant]:
    plain = Plant(f"{b.name}-healthy-1", (), "", 0, b.name, b.split, seconds=b.seconds)
    yield plain
    for seed in (2, 3):
        yield replace(plain, name=f"{b.name}-healthy-{seed}", seed=seed)
    for seed, share in ((1, 0.45), (2, 0.6), (3, 0.75)):
        yield replace(plain, name=f"{b.name}-midway-{seed}", of=f"{b.name}-healthy-{seed}", cut=share, seed=seed)
    yield replace(plain, name=f"{b.name}-noisy-evaluation", sets={"eval.documents": 8, "eval.seen": 8}, seed=4)
    epochs = 2.5 if b.split == DEV else 3.5
    yield replace(plain, name=f"{b.name}-few-epochs", corpus=f"epochs-{epochs}", dose=epochs, seed=5)
    constant = {"schedule.kind": "wsd", "schedule.cooldown_steps": b.steps // 4, "schedule.min_lr": 0.0}
    yield replace(plain, name=f"{b.name}-wsd", sets=constant, seed=6)
    yield replace(plain, name=f"{b.name}-wsd-midway", of=f"{b.name}-wsd", cut=0.7, sets=constant, seed=6)


def _planted(b: Base) -> Iterator[Plant]:
    """One plant of each kind on a base: the dose is the base's own, so dev and held-out differ in both."""
    dev = b.split == DEV
    whole, twin = b.steps, f"{b.name}-healthy-1"

    def plant(name: str, causes: tuple[str, ...], dose: float, **more: Any) -> Plant:
        more = {"twin": twin, "seconds": b.seconds, **more}
        return Plant(f"{b.name}-{name}", causes, dose=dose, base=b.name, split=b.split, **more)

    epochs = 30.0 if dev else 50.0
    yield plant("repetition", ("data_repetition",), epochs, corpus=f"epochs-{epochs}")
    yield plant("duplicates", ("duplicates",), epochs, corpus=f"copies-{epochs}")
    early = 0.2 if dev else 0.3
    yield plant("decayed-early", ("lr_decayed_early",), early,
                sets={"schedule.decay_steps": int(early * whole), "schedule.min_lr": 1e-3 * b.lr})  # fmt: skip
    high = 30.0 if dev else 15.0
    yield plant("lr-high", ("lr_too_high",), high, sets={"optim.lr": high * b.lr, "schedule.min_lr": 3 * b.lr})
    low = 60.0 if dev else 30.0
    yield plant("lr-low", ("lr_too_low",), low, sets={"optim.lr": b.lr / low, "schedule.min_lr": 0.1 * b.lr / low})
    dropout = 0.5 if dev else 0.4
    yield plant("dropout", ("over_regularised",), dropout, sets={"model.dropout": dropout})
    scrambled = "scrambled" if dev else "scrambled-within"
    yield plant("scrambled", ("data_broken",), 1 if dev else 0.5, corpus=scrambled, val=f"val-{scrambled}")
    lr = 100.0 if dev else 60.0
    yield plant("unstable", ("instability",), lr, by="flat",
                sets={"optim.lr": lr * b.lr, "optim.grad_clip": 0.0, "schedule.warmup_steps": 2,
                      "schedule.kind": "constant"})  # fmt: skip
    dead = 0.35 if dev else 0.5
    yield plant("dead", ("dead_gradients",), dead, fault=f"dead-{int(dead * whole)}", by="flat")
    yield plant("ordered", ("data_order",), 1, corpus="ordered" if dev else "ordered-twice", fault="ordered")
    shifted = "prose" if dev else "standards"
    yield plant("shift-undone", (), 0, corpus=f"without-{shifted}", val=f"val-without-{shifted}", twin="", seed=7)
    yield plant("shift", ("val_shift",), 1, corpus=f"without-{shifted}", val=f"val-{shifted}",
                twin=f"{b.name}-shift-undone")  # fmt: skip
    yield plant("tiny", ("val_tiny",), 3 if dev else 4, by="level",
                sets={"eval.documents": 3 if dev else 4, "eval.document_tokens": 64})  # fmt: skip
    rate = 4.0 if dev else 3.0
    # The same tokens in sixteen times as many steps.
    few = {"train.micro_batch": max(1, b.sets["train.micro_batch"] // 16), "train.max_steps": 16 * whole,
           "optim.lr": rate * b.lr, "schedule.kind": "constant", "schedule.warmup_steps": whole,
           "eval.every": 16 * whole // 20}  # fmt: skip
    yield plant("small-batch", ("batch_too_small",), 16, sets=few, by="loss", seconds=6 * b.seconds)
    long = {
        "schedule.kind": "constant",
        "optim.lr": 5 * b.lr,
        "train.max_steps": 3 * whole,
        "eval.every": 3 * whole // 20,
    }
    annealed = long | {"schedule.kind": "wsd", "schedule.cooldown_steps": 3 * whole // 4, "schedule.min_lr": 0.0}
    yield plant("still-high-undone", (), 0, sets=annealed, twin="", seed=8, seconds=3 * b.seconds)
    yield plant("still-high", ("lr_still_high",), 5, sets=long, by="flat", seconds=3 * b.seconds,
                twin=f"{b.name}-still-high-undone")  # fmt: skip
    yield plant("mixture-repetition-shift", ("data_repetition", "val_shift"), epochs,
                corpus=f"without-{shifted}/epochs-{epochs}", val=f"val-{shifted}",
                twin=f"{b.name}-shift-undone")  # fmt: skip
    yield plant("mixture-dropout-early", ("over_regularised", "lr_decayed_early"), dropout,
                sets={"model.dropout": dropout, "schedule.decay_steps": int(early * whole),
                      "schedule.min_lr": 1e-3 * b.lr})  # fmt: skip


# name → steps, tokens per step, rate, sizes (layers, width, heads) of the plant and of its twin, split.
_CAPACITY: dict[str, tuple[tuple[str, int, float, tuple[int, int, int], tuple[int, int, int], str], ...]] = {
    "cpu": (("xs", 1600, 1e-2, (1, 6, 1), (2, 48, 4), DEV),),
    "cuda": (
        ("0.3m", 1300, 6e-3, (1, 6, 1), (6, 192, 4), DEV),
        ("0.6m", 1300, 5e-3, (2, 12, 1), (6, 256, 4), HELDOUT),
    ),
}


def _capacity(subset: str) -> Iterator[Plant]:
    """Too small a model needs tens of tokens per parameter before it goes flat: sizes and lengths of its own."""
    first = BASES[subset][0]
    for name, steps, lr, small, large, split in _CAPACITY[subset]:
        common = {"train.max_steps": steps, "eval.every": steps // 20, "schedule.warmup_steps": steps // 20}

        def shape(size: tuple[int, int, int]) -> dict[str, Any]:
            return dict(zip(("model.n_layer", "model.n_embd", "model.n_head"), size, strict=True))

        undone = common | shape(large)
        yield Plant(f"{name}-capacity-undone", (), "", 0, first.name, split, "fresh-long", sets=undone, seed=9,
                    seconds=5 * first.seconds)  # fmt: skip
        planted = common | shape(small) | {"optim.lr": lr, "schedule.min_lr": lr / 10}
        yield Plant(f"{name}-capacity", ("capacity",), f"{name}-capacity-undone", 1, first.name, split, "fresh-long",
                    sets=planted, seconds=3 * first.seconds)  # fmt: skip
