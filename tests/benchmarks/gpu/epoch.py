"""One epoch of the corpus: the engine, nanoGPT and modded-nanogpt's train_gpt_simple, judged by one evaluator.

    python -m tests.benchmarks.gpu.epoch SHARDS [--nanogpt FOLDER] [--simple FILE] [--run name:key=value,key=value …]

Trains on all shards of the folder but the last, evaluates over all of the last. Both others are brought along, never
part of this project. Times are of training alone; compilation is reported beside them.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine import config
from engine.model import IGNORE
from tests.benchmarks.gpu.common import DEVICE, Judge, Ours, autocast, concatenated, documents, synchronise

TINY = DEVICE.type != "cuda"
BLOCK = 64 if TINY else 1024


class Race:
    """Trains step by step, evaluating now and then with the clock stopped."""

    def __init__(self, name: str, judge: Judge, every: int) -> None:
        self.name, self.judge, self.every = name, judge, every
        self.curve: list[dict[str, float]] = []

    def run(
        self, steps: int, tokens: int, step: Callable[[int], Tensor], summed: Callable[[Tensor, Tensor], Tensor],
        compile_seconds: float,
    ) -> dict[str, Any]:  # fmt: skip
        spent = 0.0
        judging = time.perf_counter()
        self.judge.loss(summed)
        judging = time.perf_counter() - judging  # compiles the evaluation
        for begin in range(0, steps, self.every):
            end = min(steps, begin + self.every)
            synchronise()
            mark = time.perf_counter()
            for number in range(begin + 1, end + 1):
                loss = step(number)
            synchronise()
            spent += time.perf_counter() - mark
            self.curve.append({"step": end, "seconds": spent, "loss": self.judge.loss(summed), "train": float(loss)})
        final = self.curve[-1]
        result = {
            "name": self.name, "steps": steps, "tokens": steps * tokens, "seconds": spent, "val": final["loss"],
            "tokens_per_s": steps * tokens / spent, "compile": compile_seconds, "first_evaluation": judging,
            "curve": self.curve,
        }  # fmt: skip
        print(json.dumps({k: v for k, v in result.items() if k != "curve"}), flush=True)
        print("   " + " ".join(f"{p['step']:.0f}:{p['loss']:.3f}@{p['seconds']:.1f}s" for p in self.curve), flush=True)
        return result


def reached(result: dict[str, Any], loss: float) -> float | None:
    """Seconds of training until the validation loss is down to ``loss``, linear between evaluations."""
    before = None
    for point in result["curve"]:
        if point["loss"] <= loss:
            if before is None:
                return float(point["seconds"])
            share = (before["loss"] - loss) / (before["loss"] - point["loss"])
            return float(before["seconds"] + share * (point["seconds"] - before["seconds"]))
        before = point
    return None


def ours(name: str, sets: list[str], docs: Any, judge: Judge, every: int) -> dict[str, Any]:
    """The engine over one epoch."""
    c = config.resolve(sets=[f"model.block_size={BLOCK}", *sets])
    steps = 6 if TINY else docs.total // c.tokens_per_step
    c = c.replace(train={"max_steps": steps})
    if c.schedule.kind == "wsd" and not c.schedule.cooldown_steps:
        c = c.replace(schedule={"cooldown_steps": int(0.7 * steps)})
    run = Ours(c, docs)
    seconds = run.warm_up()

    def summed(tokens: Tensor, targets: Tensor) -> Tensor:
        with autocast():
            return run.call(tokens, targets, per_token=True).sum()

    result = Race(name, judge, every * 65536 // c.tokens_per_step if not TINY else 3).run(
        steps, c.tokens_per_step, run.step, summed, seconds
    )
    run.batches.close()
    return result


def nanogpt(folder: Path, train: np.ndarray, judge: Judge, every: int) -> dict[str, Any]:
    """nanoGPT's model, optimiser and sampling, its GPT-2 124M, AdamW 1e-3 to 1e-4."""
    sys.path.insert(0, str(folder))
    from model import GPT, GPTConfig  # type: ignore[import-not-found]

    torch.manual_seed(1337)
    shape = {"n_layer": 2, "n_head": 2, "n_embd": 32} if TINY else {"n_layer": 12, "n_head": 12, "n_embd": 768}
    batch = 4 if TINY else 64
    model = GPT(GPTConfig(block_size=BLOCK, vocab_size=50304, dropout=0.0, bias=False, **shape)).to(DEVICE)
    optimiser = model.configure_optimizers(0.1, 1e-3, (0.9, 0.95), DEVICE.type)
    call = model if TINY else torch.compile(model)
    steps, warm = (6, 2) if TINY else (len(train) // (batch * BLOCK), 100)

    def get() -> tuple[Tensor, Tensor]:
        at = torch.randint(len(train) - BLOCK, (batch,))
        x = torch.stack([torch.from_numpy(train[i : i + BLOCK].astype(np.int64)) for i in at])
        y = torch.stack([torch.from_numpy(train[i + 1 : i + 1 + BLOCK].astype(np.int64)) for i in at])
        if TINY:
            return x, y
        return x.pin_memory().to(DEVICE, non_blocking=True), y.pin_memory().to(DEVICE, non_blocking=True)

    def step(number: int) -> Tensor:
        done = number - 1
        rate = 1e-3 * number / (warm + 1)
        if done >= warm:
            rate = 1e-4 + 0.5 * (1 + math.cos(math.pi * (done - warm) / (steps - warm))) * 9e-4
        for group in optimiser.param_groups:
            group["lr"] = rate
        with autocast():
            _, loss = call(*get())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        return loss.detach()

    def summed(tokens: Tensor, targets: Tensor) -> Tensor:
        with autocast():
            return call(tokens, targets)[1] * (targets != IGNORE).sum()

    begin = time.perf_counter()
    with autocast():
        call(*get())[1].backward()
    optimiser.zero_grad(set_to_none=True)
    synchronise()
    return Race("nanoGPT", judge, every).run(steps, batch * BLOCK, step, summed, time.perf_counter() - begin)


def simple(file: Path, train: np.ndarray, judge: Judge, every: int) -> dict[str, Any]:
    """modded-nanogpt's train_gpt_simple on one GPU, its learning rates halved, 65,536 tokens a step."""
    text = file.read_text()
    begin, end = text.index("class RMSNorm"), text.index("#                Setup")
    one = types.SimpleNamespace(get_world_size=lambda: 1, get_rank=lambda: 0, all_gather=lambda *_: None)
    space: dict[str, Any] = {"torch": torch, "nn": torch.nn, "F": torch.nn.functional, "Tensor": Tensor, "dist": one}
    exec(compile(text[begin:end].rstrip("#\n"), str(file), "exec"), space)
    layers, width, batch = (1, 128, 4) if TINY else (12, 768, 64)
    torch.manual_seed(1337)
    model = space["GPT"](vocab_size=50304, num_layers=layers, model_dim=width).to(DEVICE)
    for name, p in model.named_parameters():  # as in its section "Init"
        if name.endswith("weight"):
            zero, embed = "proj" in name, "embed" in name
            p.data.zero_() if zero else p.data.normal_() if embed else p.data.normal_(std=0.33**0.5 / p.size(-1) ** 0.5)
        elif name.endswith("bias"):
            p.data.zero_()
    adam = [
        {"params": [model.embed.weight], "lr": 0.35}, {"params": [model.proj.weight], "lr": 0.002},
        {"params": [p for p in model.parameters() if p.ndim < 2], "lr": 0.0075},
    ]  # fmt: skip
    first = torch.optim.AdamW(adam, betas=(0.8, 0.95), eps=1e-10, weight_decay=0.001, fused=True)
    second = space["Muon"]([p for p in model.blocks.parameters() if p.ndim >= 2], lr=0.0125, weight_decay=0.05)
    peaks = [(g, g["lr"]) for o in (first, second) for g in o.param_groups]
    steps = 6 if TINY else (len(train) - 1) // (batch * BLOCK)
    if not TINY:
        model.compile(dynamic=False)
    tokens = torch.from_numpy(train.astype(np.int32))

    def get(number: int) -> tuple[Tensor, Tensor]:
        at = (number - 1) * batch * BLOCK
        piece = tokens[at : at + batch * BLOCK + 1].to(DEVICE)
        return piece[:-1].view(batch, BLOCK), piece[1:].long().view(batch, BLOCK)

    def step(number: int) -> Tensor:
        loss = model(*get(number))
        loss.backward()
        progress = (number - 1) / steps
        for group, peak in peaks:
            group["lr"] = peak * (1.0 if progress < 0.3 else (1 - progress) / 0.7)
        first.step()
        second.step()
        model.zero_grad(set_to_none=True)
        return loss.detach() / (batch * BLOCK)

    def summed(tokens: Tensor, targets: Tensor) -> Tensor:
        return model(tokens.int(), torch.where(targets == IGNORE, -100, targets))

    begin_time = time.perf_counter()
    model(*get(1)).backward()
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    for o in (first, second):
        for g in o.param_groups:
            g["lr"] = 0.0
    second.step()  # compiles its update, with gradients and rates of zero
    second.state.clear()
    model.zero_grad(set_to_none=True)
    synchronise()
    return Race("train_gpt_simple", judge, every).run(
        steps, batch * BLOCK, step, summed, time.perf_counter() - begin_time
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shards", type=Path)
    parser.add_argument("--nanogpt", type=Path)
    parser.add_argument("--simple", type=Path)
    parser.add_argument("--run", action="append", default=[])
    parser.add_argument("--every", type=int, default=60)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    paths = sorted(given.shards.glob("*.parquet"))
    paths, last = ([paths[0]], paths[-1]) if TINY else (paths[:-1], paths[-1])
    docs = documents(paths)
    judge = Judge(documents([last]), BLOCK, 4 if TINY else 64, most=10 if TINY else None)
    print(f"{docs.total:,} training tokens; judged on {judge.count:,}", flush=True)
    results = []
    for text in given.run:
        name, _, sets = text.partition(":")
        results.append(ours(name, [s for s in sets.split(",") if s], docs, judge, given.every))
        torch._dynamo.reset()
        if not TINY:
            torch.cuda.empty_cache()
    if given.nanogpt or given.simple:
        train = concatenated(docs)
        for path, rival in ((given.simple, simple), (given.nanogpt, nanogpt)):
            if path:
                results.append(rival(path, train, judge, given.every))
                torch._dynamo.reset()
    anchor = next((r for r in results if r["name"] == "nanoGPT"), None)
    for r in results if anchor else []:
        seconds = reached(r, anchor["val"])
        print(
            f"{r['name']}: val {r['val']:.4f}, {r['seconds']:.1f} s (compile {r['compile']:.0f} s), "
            f"to nanoGPT's loss: {seconds}"
        )
    if given.out:
        given.out.write_text(json.dumps(results))


if __name__ == "__main__":
    main()
