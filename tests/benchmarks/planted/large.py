"""The GPU subset: 12M and 30M parameters on GPT-2's vocabulary, 21M tokens each, a dozen at once on one card.

A table of doses, development and held-out apart; first those that the CPU subset is weak on, second doses last.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.benchmarks.planted.plant import DEV, HELDOUT, Base, Doses, Plant, healthy, shape_of

# Rotary positions: with learned ones the seeds of runs this short leave the unigram plateau at different moments.
# Two micro-batches a step, so that the gradient noise scale is measured every sixteenth.
_SETS = {"model.positions": "rotary", "train.device": "cuda", "train.grad_accum": 2, "eval.documents": 150,
         "eval.seen": 75, "eval.document_tokens": 1024, "eval.sample_every": 0, "train.system_every": 0,
         "data.shuffle_window": 0}  # fmt: skip
STEPS, STEP_TOKENS = 640, 32768
BASES = (
    Base("12m", DEV, STEPS, STEP_TOKENS, 2e-3, _SETS | shape_of(6, 192, 3, 512, 32), 8),
    Base("30m", HELDOUT, STEPS, STEP_TOKENS, 1.2e-3, _SETS | shape_of(6, 384, 6, 512, 32), 12),
)
LONG = 1.5  # steps of the runs that stay at a high rate, in those of the base


@dataclass(frozen=True)
class _Doses(Doses):
    """What else is planted on one base."""

    scrambled: str
    offset: int  # tokens between input and target; one is right
    unstable: float
    dead: float
    order: str
    shifted: str
    tiny: int
    micro: int  # sequences of the small batch
    small_rate: float  # times the base's
    still: float  # times the base's rate, never annealed
    accumulate: int  # micro-batches of the large batch
    widths: tuple[int, int]  # of too small a model: layers, width


_DOSES = {
    DEV: _Doses((30.0, 14.0), 24.0, (0.2, 0.35), (24.0, 8.0), (40.0, 12.0), (0.5, 0.3), "scrambled", 2, 40.0, 0.35,
                "ordered", "prose", 3, 4, 2.5, 4.0, 32, (1, 8)),
    HELDOUT: _Doses((50.0, 20.0), 40.0, (0.28, 0.45), (15.0, 32.0), (25.0, 80.0), (0.4, 0.6), "scrambled-within", 3,
                    25.0, 0.5, "ordered-twice", "standards", 4, 6, 2.0, 5.0, 24, (2, 16)),
}  # fmt: skip


def plants() -> Iterator[Plant]:
    """Every run, in the order in which they are made: what labels need first, then what is missed most."""
    whole = [list(healthy(base)) for base in BASES]
    for group in zip(*whole, strict=True):
        yield from group
    for kinds in (_first, _second):
        for group in zip(*(kinds(base) for base in BASES), strict=True):
            yield from group


def _plant(b: Base, name: str, causes: tuple[str, ...], dose: float, **more: Any) -> Plant:
    more = {"twin": f"{b.name}-healthy-1", "seconds": b.seconds, **more}
    return Plant(f"{b.name}-{name}", causes, dose=dose, base=b.name, split=b.split, **more)


def _first(b: Base) -> Iterator[Plant]:
    d, steps = _DOSES[b.split], b.steps
    micro = b.sets["train.micro_batch"] * b.sets["train.grad_accum"]
    many = steps * micro // d.micro  # the same tokens in as many steps as it takes
    few = {"train.micro_batch": d.micro, "train.grad_accum": 1, "train.max_steps": many, "eval.every": many // 20,
           "schedule.warmup_steps": many // 20, **_rate(b, d.small_rate)}  # fmt: skip
    # The batch alone is undone, not the rate: at both ends of the schedule.
    undone = f"{b.name}-small-batch-undone"
    yield _plant(b, "small-batch", ("batch_too_small",), micro / d.micro, sets=few, twin=undone, seconds=4 * b.seconds)
    yield _plant(b, "small-batch-undone", (), 0, sets=_rate(b, d.small_rate), twin="", seed=10)
    yield _plant(b, "scrambled", ("data_broken",), 1, corpus=d.scrambled, val=f"val-{d.scrambled}")
    yield _plant(b, "ordered", ("data_order",), 1, corpus=d.order, fault="ordered")
    yield _plant(b, "repetition", ("data_repetition",), d.epochs[0], corpus=f"epochs-{d.epochs[0]}")
    yield _plant(b, "decayed-early", ("lr_decayed_early",), d.early[0], sets=_early(b, d.early[0]))
    yield _plant(b, "dropout", ("over_regularised",), d.dropout[0], sets={"model.dropout": d.dropout[0]})
    yield _plant(b, "lr-high", ("lr_too_high",), d.high[0], sets=_rate(b, d.high[0]))
    yield _plant(b, "lr-low", ("lr_too_low",), d.low[0], sets=_rate(b, 1 / d.low[0]))
    # A few more tokens than the twin: the noise scale is first told at step 48.
    some = 26 * 64 // d.accumulate
    large = {"train.grad_accum": d.accumulate, "train.max_steps": some, "eval.every": max(1, some // 20),
             "schedule.warmup_steps": some // 16, "optim.lr": 2 * b.lr}  # fmt: skip
    yield _plant(b, "large-batch", ("batch_too_large",), d.accumulate / 2, sets=large, seconds=1.3 * b.seconds)
    layers, width = d.widths
    small = {"model.n_layer": layers, "model.n_embd": width, "model.n_head": 1, "optim.lr": 6e-3,
             "schedule.min_lr": 6e-4}  # fmt: skip
    yield _plant(b, "capacity", ("capacity",), width, sets=small, seconds=0.5 * b.seconds)
    yield _plant(b, "duplicates", ("duplicates",), d.copies, corpus=f"copies-{d.copies}")
    yield _plant(b, "unstable", ("instability",), d.unstable, by="flat",
                 sets={"optim.lr": d.unstable * b.lr, "optim.grad_clip": 0.0, "schedule.warmup_steps": 2,
                       "schedule.kind": "constant"})  # fmt: skip
    yield _plant(b, "dead", ("dead_gradients",), d.dead, fault=f"dead-{int(d.dead * steps)}", by="flat")
    without = f"without-{d.shifted}"
    undone = f"{b.name}-shift-undone"
    yield _plant(b, "shift-undone", (), 0, corpus=without, val=f"val-{without}", twin="", seed=7)
    yield _plant(b, "shift", ("val_shift",), 1, corpus=without, val=f"val-{d.shifted}", twin=undone)
    yield _plant(b, "tiny", ("val_tiny",), d.tiny, by="level",
                 sets={"eval.documents": d.tiny, "eval.document_tokens": 64})  # fmt: skip
    long = int(LONG * steps)
    high = {"schedule.kind": "constant", "optim.lr": d.still * b.lr, "train.max_steps": long, "eval.every": long // 20}
    annealed = high | {"schedule.kind": "wsd", "schedule.cooldown_steps": long // 4, "schedule.min_lr": 0.0}
    undone = f"{b.name}-still-high-undone"
    yield _plant(b, "still-high-undone", (), 0, sets=annealed, twin="", seed=8, seconds=LONG * b.seconds)
    yield _plant(
        b, "still-high", ("lr_still_high",), d.still, sets=high, by="flat", twin=undone, seconds=LONG * b.seconds
    )
    yield _plant(b, "mixture-repetition-shift", ("data_repetition", "val_shift"), d.epochs[0],
                 corpus=f"{without}/epochs-{d.epochs[0]}", val=f"val-{d.shifted}",
                 twin=f"{b.name}-shift-undone")  # fmt: skip
    yield _plant(b, "mixture-dropout-early", ("over_regularised", "lr_decayed_early"), d.dropout[0],
                 sets={"model.dropout": d.dropout[0], **_early(b, d.early[0])})  # fmt: skip


def _second(b: Base) -> Iterator[Plant]:
    """Other doses, and other ways to the same cause."""
    d = _DOSES[b.split]
    yield _plant(b, "offset", ("data_broken",), d.offset, fault=f"offset-{d.offset}")
    yield _plant(b, "repetition-2", ("data_repetition",), d.epochs[1], corpus=f"epochs-{d.epochs[1]}")
    yield _plant(b, "decayed-early-2", ("lr_decayed_early",), d.early[1], sets=_early(b, d.early[1]))
    yield _plant(b, "dropout-2", ("over_regularised",), d.dropout[1], sets={"model.dropout": d.dropout[1]})
    yield _plant(b, "lr-high-2", ("lr_too_high",), d.high[1], sets=_rate(b, d.high[1]))
    yield _plant(b, "lr-low-2", ("lr_too_low",), d.low[1], sets=_rate(b, 1 / d.low[1]))


def _early(b: Base, share: float) -> dict[str, Any]:
    return {"schedule.decay_steps": int(share * b.steps), "schedule.min_lr": 1e-3 * b.lr}


def _rate(b: Base, times: float) -> dict[str, Any]:
    return {"optim.lr": times * b.lr, "schedule.min_lr": 0.1 * times * b.lr}
