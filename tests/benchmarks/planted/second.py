"""A second CPU subset, all of it held out: AdamW in place of Muon, another size, other doses.

Made after the first scoring of the held-out GPU runs, when rules had been changed by what was missed there; no rule was
changed by these.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.benchmarks.planted.plant import HELDOUT, Base, Plant, healthy, shape_of

_SETS = {"model.family": "modern", "model.vocab_size": 4096, "data.encoding": "planted-4k", "optim.kind": "adamw",
         "train.device": "cpu", "eval.documents": 40, "eval.seen": 24, "eval.document_tokens": 256}  # fmt: skip
BASES = (Base("q", HELDOUT, 280, 2048, 4e-3, _SETS | shape_of(3, 56, 4, 128, 16), 80),)


def plants() -> Iterator[Plant]:
    """Every run, in the order in which they are made."""
    b = BASES[0]
    yield from healthy(b)

    def plant(name: str, causes: tuple[str, ...], dose: float, **more: Any) -> Plant:
        more = {"twin": "q-healthy-1", "seconds": b.seconds, **more}
        return Plant(f"q-{name}", causes, dose=dose, base=b.name, split=b.split, **more)

    def rate(times: float) -> dict[str, Any]:
        return {"optim.lr": times * b.lr, "schedule.min_lr": 0.1 * times * b.lr}

    def early(share: float) -> dict[str, Any]:
        return {"schedule.decay_steps": int(share * b.steps), "schedule.min_lr": 1e-3 * b.lr}

    yield plant("repetition", ("data_repetition",), 40, corpus="epochs-40.0")
    yield plant("duplicates", ("duplicates",), 28, corpus="copies-28.0")
    yield plant("decayed-early", ("lr_decayed_early",), 0.25, sets=early(0.25))
    yield plant("lr-high", ("lr_too_high",), 40, sets=rate(40))
    yield plant("lr-low", ("lr_too_low",), 35, sets=rate(1 / 35))
    yield plant("dropout", ("over_regularised",), 0.45, sets={"model.dropout": 0.45})
    yield plant("scrambled", ("data_broken",), 1, corpus="scrambled", val="val-scrambled")
    unstable = {"optim.lr": 60 * b.lr, "optim.grad_clip": 0.0, "schedule.warmup_steps": 2, "schedule.kind": "constant"}
    yield plant("unstable", ("instability",), 60, by="flat", sets=unstable)
    yield plant("dead", ("dead_gradients",), 0.42, fault=f"dead-{int(0.42 * b.steps)}", by="flat")
    yield plant("ordered", ("data_order",), 1, corpus="ordered", fault="ordered")
    yield plant("shift-undone", (), 0, corpus="without-prose", val="val-without-prose", twin="", seed=7)
    yield plant("shift", ("val_shift",), 1, corpus="without-prose", val="val-prose", twin="q-shift-undone")
    tiny = {"eval.documents": 4, "eval.document_tokens": 48}
    yield plant("tiny", ("val_tiny",), 4, by="level", sets=tiny)
    # All tokens in the thirtieth part of the steps.
    few = b.steps // 30
    large = {"train.micro_batch": 30 * b.sets["train.micro_batch"], "train.max_steps": 3 * few, "eval.every": 1,
             "schedule.warmup_steps": 2, "optim.lr": 2 * b.lr}  # fmt: skip
    yield plant("large-batch", ("batch_too_large",), 30, sets=large, seconds=3 * b.seconds)
    yield plant("decayed-early-2", ("lr_decayed_early",), 0.4, sets=early(0.4))
    yield plant("repetition-2", ("data_repetition",), 16, corpus="epochs-16.0")
    yield plant("lr-high-2", ("lr_too_high",), 20, sets=rate(20))
    yield plant("lr-low-2", ("lr_too_low",), 15, sets=rate(1 / 15))
    yield plant("dropout-2", ("over_regularised",), 0.3, sets={"model.dropout": 0.3})
    mixed = {"model.dropout": 0.35, **early(0.3)}
    yield plant("mixture-dropout-early", ("over_regularised", "lr_decayed_early"), 0.35, sets=mixed)
    steps = 1500
    common = {"train.max_steps": steps, "eval.every": steps // 20, "schedule.warmup_steps": steps // 20}
    yield plant("capacity-undone", (), 0, corpus="fresh-long", sets=common, twin="", seed=9, seconds=5 * b.seconds)
    small = {"model.n_layer": 1, "model.n_embd": 8, "model.n_head": 1}
    yield plant("capacity", ("capacity",), 8, corpus="fresh-long", sets=common | small, twin="q-capacity-undone",
                seconds=3 * b.seconds)  # fmt: skip
