"""What events, the noise scale and norms cost: steps of one trainer with and without them, in turn, in one process.

    python -m tests.benchmarks.gpu.instrumentation SHARD [--pairs N] [key=value …]

A block of steps is taken as ``engine.train`` does, recording, and the next one bare: the same forward and backward
pass, clipping where configured, the same update, nothing read back. A block holds one measurement of the noise scale.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from pathlib import Path

import torch

from engine import config, device, optim, prepare
from engine.loader import Batches
from engine.noise import EVERY, EVERY_SPLIT
from engine.record import Past, Recorder
from engine.schedule import learning_rate
from engine.train import Pending, Trainer
from tests.benchmarks.gpu.common import DEVICE, synchronise

CUDA = DEVICE.type == "cuda"


def bare(trainer: Trainer, step: int) -> None:
    """A step without anything that only tells of it."""
    c = trainer.config
    accumulate = c.micro_batches(step)
    optim.set_rate(trainer.optimiser, learning_rate(c, step))
    for _ in range(accumulate):
        tokens, targets = next(trainer.batches)
        with trainer.device.autocast():
            loss = trainer.call(tokens, targets)
        (loss / accumulate).backward()
    if c.optim.grad_clip:
        torch.nn.utils.clip_grad_norm_(trainer.parameters, c.optim.grad_clip)
    trainer.optimiser.step()
    trainer.optimiser.zero_grad(set_to_none=True)


def block(trainer: Trainer, first: int, count: int, recording: bool) -> float:
    """Seconds of ``count`` steps from step ``first`` on."""
    synchronise()
    if CUDA:
        trainer.optimiser.found_inf = None  # type: ignore[attr-defined]
    trainer.mark = begin = time.perf_counter()
    pending: Pending | None = None
    for step in range(first, first + count):
        if not recording:
            bare(trainer, step)
            continue
        started, pending = pending, trainer._train(step)
        if started is not None:
            trainer._report(started)
    if pending is not None:
        trainer._report(pending)
    synchronise()
    return time.perf_counter() - begin


def measure(shard: Path, sets: list[str], pairs: int, folder: Path) -> tuple[float, float, float]:
    """Share of a bare step that recording costs, its standard error over pairs of blocks, and seconds a bare step."""
    tiny = ["model.preset=demo-1m", "train.micro_batch=2", "train.grad_accum=2"]
    wide = ["model.preset=seed-40m", "train.micro_batch=64"]
    c = config.resolve(
        sets=[*(wide if CUDA else tiny), "train.max_steps=1000000", "eval.documents=4", "eval.seen=0", *sets],
        overrides={"data.paths": [str(shard)]},
    )
    data = prepare.prepare(c, folder, cancelled=lambda: False)
    record = Recorder(folder)
    trainer = Trainer(c, folder, data, device.choose(c.train), record, Past(folder), lambda: False)
    trainer.build()
    if trainer.device.compiled:
        trainer.warm_up()
    count = EVERY_SPLIT if c.train.grad_accum == 1 else EVERY
    costs, base = [], []
    with (
        Batches(
            trainer.stream, position=0, batch=c.train.micro_batch, block=c.model.block_size, device=DEVICE
        ) as trainer.batches,
        trainer._watch(),
    ):
        step = 1
        block(trainer, step, 5, recording=True)
        block(trainer, step, 5, recording=False)
        for pair in range(pairs):
            seconds = {}
            for recording in (True, False) if pair % 2 else (False, True):
                seconds[recording] = block(trainer, step, count, recording)
                step += count
            costs.append(seconds[True] / seconds[False] - 1)
            base.append(seconds[False] / count)
    record.close()
    error = statistics.stdev(costs) / math.sqrt(pairs) if pairs > 1 else math.nan
    return statistics.mean(costs), error, statistics.mean(base)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shard", type=Path)
    parser.add_argument("sets", nargs="*")
    parser.add_argument("--pairs", type=int, default=6 if CUDA else 2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cost, error, base = measure(given.shard, given.sets, given.pairs, Path(folder))
    print(f"instrumentation: {cost:+.2%} ± {error:.2%} of a step of {base * 1e3:.2f} ms", flush=True)


if __name__ == "__main__":
    main()
