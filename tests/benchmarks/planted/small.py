"""The CPU subset: 0.03M to 0.5M parameters on a vocabulary of 4,096, one core and a minute or two each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.benchmarks.planted.plant import DEV, HELDOUT, Base, Plant, healthy, shape_of

# The gpt2 family leaves the unigram plateau at a random moment in runs this short: its seeds ended 0.2 nats apart.
_SETS = {"model.family": "modern", "model.vocab_size": 4096, "data.encoding": "planted-4k",
         "train.device": "cpu", "eval.documents": 32, "eval.seen": 24, "eval.document_tokens": 256}  # fmt: skip
BASES = (
    Base("s", DEV, 300, 2048, 1e-2, _SETS | shape_of(2, 48, 4, 128, 16), 60),
    Base("m", HELDOUT, 240, 2048, 8e-3, _SETS | shape_of(4, 64, 4, 128, 16), 90),
)


def plants() -> Iterator[Plant]:
    """Every run, in the order in which they are made: what others are compared with comes first."""
    for base in BASES:
        yield from healthy(base)
    # Turn by turn, so that a generator that is cut short has something of every kind.
    for group in zip(*(_planted(base) for base in BASES), strict=True):
        yield from group
    yield from _capacity()


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


def _capacity() -> Iterator[Plant]:
    """Too small a model needs tens of tokens per parameter before it goes flat: a size and length of its own."""
    first, steps, lr = BASES[0], 1600, 1e-2
    common = {"train.max_steps": steps, "eval.every": steps // 20, "schedule.warmup_steps": steps // 20}

    def shape(*size: int) -> dict[str, Any]:
        return dict(zip(("model.n_layer", "model.n_embd", "model.n_head"), size, strict=True))

    yield Plant("xs-capacity-undone", (), "", 0, first.name, DEV, "fresh-long", sets=common | shape(2, 48, 4), seed=9,
                seconds=5 * first.seconds)  # fmt: skip
    sets = common | shape(1, 6, 1) | {"optim.lr": lr, "schedule.min_lr": lr / 10}
    yield Plant("xs-capacity", ("capacity",), "xs-capacity-undone", 1, first.name, DEV, "fresh-long", sets=sets,
                seconds=3 * first.seconds)  # fmt: skip
