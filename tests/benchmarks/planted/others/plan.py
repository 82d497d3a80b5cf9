"""Which runs of other trainers are made: nanoGPT of two sizes, one of them for development, and Hugging Face's Trainer.

Options carry the trainer's own names. nanoGPT's tokens are GPT-2's; the Trainer's runs are of a size for a CPU. A label
is judged as in the rest of the suite (``labels.stands``), from the held-out losses that the log prints.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from tests.benchmarks.planted.plant import DEV, HELDOUT, Base, Doses, Plant, seeds

SUBSET = "others"
ENCODINGS = {
    "nano12": ("gpt2", 50304),
    "nano26": ("gpt2", 50304),
    "nano0": ("planted-4k", 4096),
    "hf": ("planted-4k", 4096),
}  # with rows of the model
# Batch, context, and evaluation: 20 batches of each split.
_NANO = {"gradient_accumulation_steps": 1, "dropout": 0.0, "bias": False, "weight_decay": 0.1, "grad_clip": 1.0,
         "beta2": 0.95, "eval_iters": 20, "log_interval": 5, "compile": False}  # fmt: skip
BASES = (
    Base("nano12", DEV, 1000, 32 * 512, 1.5e-3,
         _NANO | {"batch_size": 32, "block_size": 512, "n_layer": 6, "n_head": 6, "n_embd": 192}, 20),
    Base("nano26", HELDOUT, 1000, 32 * 384, 1e-3,
         _NANO | {"batch_size": 32, "block_size": 384, "n_layer": 8, "n_head": 5, "n_embd": 320, "eval_iters": 12}, 20),
    Base("nano0", HELDOUT, 400, 16 * 64, 5e-3,
         _NANO | {"batch_size": 16, "block_size": 64, "n_layer": 2, "n_head": 4, "n_embd": 48, "eval_iters": 8,
                  "device": "cpu", "dtype": "float32"}, 40),
    Base("hf", HELDOUT, 350, 32 * 64, 3e-3,
         {"per_device_train_batch_size": 32, "n_positions": 64, "n_layer": 3, "n_head": 4, "n_embd": 64,
          "dropout": 0.0, "weight_decay": 0.1, "max_grad_norm": 1.0, "logging_steps": 5, "lr_scheduler_type": "linear"},
         26),
)  # fmt: skip


@dataclass(frozen=True)
class _Doses(Doses):
    """What else is planted on one base."""

    broken: tuple[str, ...]  # corpora
    fault: str
    dead: float
    unstable: float
    still: float  # times the base's rate, never annealed
    shifted: str
    tiny: int  # tokens of the held-out file
    few: tuple[int, int, float]  # sequences, context and times the rate of the small batch
    large: int  # times the batch
    small: tuple[int, int]  # layers and width of too small a model


DOSES = {
    "nano12": _Doses((30.0, 12.0), 24.0, (0.2, 0.4), (15.0, 40.0), (15.0, 50.0), (0.5, 0.3), ("scrambled", "unigram"),
                    "identity", 0.4, 20.0, 2.5, "prose", 1500, (1, 256, 2.0), 24, (1, 16)),
    "nano26": _Doses((45.0, 18.0), 36.0, (0.28, 0.5), (25.0, 60.0), (25.0, 80.0), (0.4, 0.6),
                    ("scrambled-within", "zeros"), "offset-3", 0.55, 30.0, 6.0, "standards", 1000, (1, 128, 8.0), 16,
                    (2, 24)),
    # Made after the first scoring of the two above; a rate still high is one that suits, never annealed.
    "nano0": _Doses((34.0, 22.0), 30.0, (0.24, 0.33), (20.0, 45.0), (20.0, 60.0), (0.45, 0.35), ("scrambled",), "",
                   0.48, 30.0, 2.0, "prose", 1200, (1, 32, 6.0), 20, (1, 12)),
}  # fmt: skip


def plants(base: str) -> list[Plant]:
    """Every run on a base, in the order in which they are made."""
    b = next(b for b in BASES if b.name == base)
    return list(_hf(b) if base == "hf" else _nanogpt(b, DOSES[base]))


def all_plants() -> list[Plant]:
    """Every run of every base."""
    return [p for b in BASES for p in plants(b.name)]


def options(plant: Plant) -> dict[str, Any]:
    """The trainer's options of a run, but for its data."""
    b = next(b for b in BASES if b.name == plant.base)
    if b.name == "hf":
        common = {"learning_rate": b.lr, "max_steps": b.steps, "warmup_steps": b.steps // 20,
                  "eval_steps": b.steps // 20, "seed": plant.seed}  # fmt: skip
    else:
        common = {"learning_rate": b.lr, "min_lr": 0.1 * b.lr, "max_iters": b.steps, "lr_decay_iters": b.steps,
                  "warmup_iters": b.steps // 20, "eval_interval": b.steps // 20}  # fmt: skip
    return common | b.sets | plant.sets


def _plant(b: Base, name: str, causes: tuple[str, ...], dose: float, **more: Any) -> Plant:
    more = {"twin": f"{b.name}-healthy-1", "seconds": b.seconds, **more}
    return Plant(f"{b.name}-{name}", causes, dose=dose, base=b.name, split=b.split, **more)


def _healthy(b: Base, noisy: dict[str, Any], epochs: float) -> Iterator[Plant]:
    plain, *others = seeds(b)
    yield from (plain, *others)
    yield replace(plain, name=f"{b.name}-noisy-evaluation", sets=noisy, seed=4)
    yield replace(plain, name=f"{b.name}-few-epochs", corpus=f"epochs-{epochs}", dose=epochs, seed=5)


def _nanogpt(b: Base, d: _Doses) -> Iterator[Plant]:
    steps = b.steps

    def rate(times: float) -> dict[str, Any]:
        return {"learning_rate": times * b.lr, "min_lr": 0.1 * times * b.lr}

    def early(share: float) -> dict[str, Any]:
        return {"lr_decay_iters": int(share * steps), "min_lr": 1e-3 * b.lr}

    yield from _healthy(b, {"eval_iters": 2}, 2.5 if b.split == DEV else 3.5)
    constant = Plant(f"{b.name}-constant-midway", (), "", 0, b.name, b.split, cut=0.6, seed=6, seconds=b.seconds,
                     sets={"decay_lr": False})  # fmt: skip
    yield constant
    yield _plant(b, "repetition", ("data_repetition",), d.epochs[0], corpus=f"epochs-{d.epochs[0]}")
    yield _plant(b, "duplicates", ("duplicates",), d.copies, corpus=f"copies-{d.copies}")
    yield _plant(b, "decayed-early", ("lr_decayed_early",), d.early[0], sets=early(d.early[0]))
    yield _plant(b, "lr-high", ("lr_too_high",), d.high[0], sets=rate(d.high[0]))
    yield _plant(b, "lr-low", ("lr_too_low",), d.low[0], sets=rate(1 / d.low[0]))
    yield _plant(b, "dropout", ("over_regularised",), d.dropout[0], sets={"dropout": d.dropout[0]})
    for corpus in d.broken:
        yield _plant(b, corpus, ("data_broken",), 1, corpus=corpus, val=f"val-{corpus}",
                     by="implausible" if corpus == "zeros" else "loss")  # fmt: skip
    if d.fault:
        yield _plant(b, d.fault, ("data_broken",), 1, fault=d.fault,
                     by="implausible" if d.fault == "identity" else "loss")  # fmt: skip
    yield _plant(b, "dead", ("dead_gradients",), d.dead, fault=f"dead-{int(d.dead * steps)}", by="flat")
    unstable = {"learning_rate": d.unstable * b.lr, "grad_clip": 0.0, "warmup_iters": 2, "decay_lr": False}
    yield _plant(b, "unstable", ("instability",), d.unstable, sets=unstable)
    high = {"learning_rate": d.still * b.lr}
    undone = f"{b.name}-still-high-undone"
    yield _plant(b, "still-high-undone", (), 0, sets=high | {"min_lr": 0.0}, twin="", seed=8)
    yield _plant(b, "still-high", ("lr_still_high",), d.still, sets=high | {"decay_lr": False}, twin=undone)
    without = f"without-{d.shifted}"
    undone = f"{b.name}-shift-undone"
    yield _plant(b, "shift-undone", (), 0, corpus=without, val=f"val-{without}", twin="", seed=7)
    yield _plant(b, "shift", ("val_shift",), 1, corpus=without, val=f"val-{d.shifted}", twin=undone)
    yield _plant(b, "tiny", ("val_tiny",), d.tiny, by="level", val=f"val-first-{d.tiny}")
    sequences, context, times = d.few
    many = 5000 if b.tokens > 1e7 else 1600
    small = {"batch_size": sequences, "block_size": context, "max_iters": many, "lr_decay_iters": many,
             "warmup_iters": many // 20, "eval_interval": many // 20, "log_interval": 25,
             "eval_iters": 120, **rate(times)}  # fmt: skip
    fewer = many // 16
    undone = f"{b.name}-small-batch-undone"
    yield _plant(b, "small-batch-undone", (), 0, twin="", seed=9, seconds=10, sets=small | {
        "batch_size": 16 * sequences, "max_iters": fewer, "lr_decay_iters": fewer, "warmup_iters": fewer // 20,
        "eval_interval": fewer // 20, "log_interval": 2, "eval_iters": 120 // 16})  # fmt: skip
    yield _plant(b, "small-batch", ("batch_too_small",), 16, sets=small, twin=undone, seconds=50)
    few = steps // d.large
    yield _plant(b, "large-batch", ("batch_too_large",), d.large, sets={
        "gradient_accumulation_steps": d.large, "max_iters": few, "lr_decay_iters": few,
        "warmup_iters": max(2, few // 20), "eval_interval": max(1, few // 20), "log_interval": 1,
        "learning_rate": 2 * b.lr})  # fmt: skip
    layers, width = d.small
    yield _plant(b, "capacity", ("capacity",), width, sets={
        "n_layer": layers, "n_embd": width, "n_head": 1, "learning_rate": 6e-3, "min_lr": 6e-4})  # fmt: skip
    yield _plant(b, "mixture-repetition-shift", ("data_repetition", "val_shift"), d.epochs[0],
                 corpus=f"{without}/epochs-{d.epochs[0]}", val=f"val-{d.shifted}",
                 twin=f"{b.name}-shift-undone")  # fmt: skip
    yield _plant(b, "mixture-dropout-early", ("over_regularised", "lr_decayed_early"), d.dropout[0],
                 sets={"dropout": d.dropout[0], **early(d.early[0])})  # fmt: skip
    yield _plant(b, "repetition-2", ("data_repetition",), d.epochs[1], corpus=f"epochs-{d.epochs[1]}")
    yield _plant(b, "decayed-early-2", ("lr_decayed_early",), d.early[1], sets=early(d.early[1]))
    yield _plant(b, "lr-high-2", ("lr_too_high",), d.high[1], sets=rate(d.high[1]))
    yield _plant(b, "lr-low-2", ("lr_too_low",), d.low[1], sets=rate(1 / d.low[1]))
    yield _plant(b, "dropout-2", ("over_regularised",), d.dropout[1], sets={"dropout": d.dropout[1]})


def _hf(b: Base) -> Iterator[Plant]:
    steps = b.steps
    yield from _healthy(b, {"eval_windows": 24}, 3.0)
    yield _plant(b, "ordered", ("data_order",), 1, corpus="ordered", fault="ordered")
    yield _plant(b, "repetition", ("data_repetition",), 36, corpus="epochs-36.0")
    yield _plant(b, "dropout", ("over_regularised",), 0.45, sets={"dropout": 0.45})
    yield _plant(b, "lr-high", ("lr_too_high",), 30, sets={"learning_rate": 30 * b.lr})
    yield _plant(b, "lr-low", ("lr_too_low",), 40, sets={"learning_rate": b.lr / 40})
    yield _plant(b, "decayed-early", ("lr_decayed_early",), 0.35, sets={"decay_until": 0.35})
    yield _plant(b, "scrambled", ("data_broken",), 1, corpus="scrambled", val="val-scrambled")
    yield _plant(b, "dead", ("dead_gradients",), 0.45, fault=f"dead-{int(0.45 * steps)}", by="flat")
    unstable = {"learning_rate": 40 * b.lr, "max_grad_norm": 0.0, "warmup_steps": 2, "lr_scheduler_type": "constant"}
    yield _plant(b, "unstable", ("instability",), 40, sets=unstable)
    yield _plant(b, "shift-undone", (), 0, corpus="without-prose", val="val-without-prose", twin="", seed=7)
    yield _plant(b, "shift", ("val_shift",), 1, corpus="without-prose", val="val-prose", twin="hf-shift-undone")
    few = steps // 20
    yield _plant(b, "large-batch", ("batch_too_large",), 20, sets={
        "gradient_accumulation_steps": 20, "max_steps": few, "warmup_steps": 3, "eval_steps": max(1, few // 20),
        "logging_steps": 1, "learning_rate": 2 * b.lr})  # fmt: skip
    yield _plant(b, "duplicates", ("duplicates",), 28, corpus="copies-28.0")
