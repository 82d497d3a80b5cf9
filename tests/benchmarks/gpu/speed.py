"""Tokens per second, MFU and memory of training steps; nanoGPT beside them.

python -m tests.benchmarks.gpu.speed [--nanogpt FOLDER] [--profile] name:key=value,key=value …
"""

from __future__ import annotations

import argparse
import collections
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from engine import config, plan
from tests.benchmarks.gpu.common import DEVICE, Ours, autocast, synchronise

CUDA = DEVICE.type == "cuda"


def rate(step: Callable[[int], object], warm: int = 5, count: int = 30) -> float:
    """Seconds of a step."""
    warm, count = (warm, count) if CUDA else (1, 2)
    for i in range(warm):
        step(i + 1)
    synchronise()
    begin = time.perf_counter()
    for i in range(count):
        step(warm + i + 1)
    synchronise()
    return (time.perf_counter() - begin) / count


def fresh() -> None:
    """Forget what was compiled and allocated."""
    torch._dynamo.reset()
    if CUDA:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def profile(step: Callable[[int], object], rows: int = 22) -> None:
    """Milliseconds a step by kernel."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as p:
        for i in range(3):
            step(100 + i)
        synchronise()
    kinds: dict[str, float] = collections.defaultdict(float)
    names = {
        "attention": ("flash", "fmha", "cudnn", "sdpa"),
        "product": ("gemm", "nvjet", "cutlass"),
        "compiled": ("triton",),
    }
    events = sorted(p.key_averages(), key=lambda e: -e.self_device_time_total)
    for e in events:
        kind = next((k for k, v in names.items() if any(n in e.key.lower() for n in v)), "other")
        kinds[kind] += e.self_device_time_total / 3e3
    print("  ", {k: round(v, 2) for k, v in kinds.items()})
    for e in events[:rows]:
        print(f"   {e.self_device_time_total / 3e3:8.3f} ms x{e.count // 3:4d} {e.key[:110]}")


def nanogpt(folder: Path, name: str, batch: int, shape: dict[str, int]) -> None:
    """The same step with nanoGPT's model and optimiser."""
    sys.path.insert(0, str(folder))
    from model import GPT, GPTConfig  # type: ignore[import-not-found]

    fresh()
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=50304, dropout=0.0, bias=False, **shape)).to(DEVICE)
    optimiser = model.configure_optimizers(0.1, 1e-3, (0.9, 0.95), DEVICE.type)
    call = torch.compile(model) if CUDA else model
    tokens = torch.randint(0, 50257, (2, batch, shape["block_size"]), device=DEVICE)

    def step(number: int) -> Tensor:
        with autocast():
            _, loss = call(tokens[0], tokens[1])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        return loss

    seconds = rate(step)
    peak = torch.cuda.max_memory_allocated() if CUDA else 0
    print(
        f"nanoGPT {name}: {batch * shape['block_size'] / seconds / 1e3:.1f}k tok/s, {seconds * 1e3:.2f} ms, "
        f"peak {peak / 1e9:.2f} GB",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="*")
    parser.add_argument("--nanogpt", type=Path)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--memory", type=float, help="GB of the card that this process may use")
    given = parser.parse_args()
    if given.memory and CUDA:
        torch.cuda.set_per_process_memory_fraction(
            given.memory * 1e9 / torch.cuda.get_device_properties(0).total_memory
        )
    card = plan.peak_flops(torch.cuda.get_device_name()) if CUDA else None
    for text in given.runs:
        name, _, sets = text.partition(":")
        fresh()
        try:
            c = config.resolve(sets=[s for s in sets.split(",") if s])
            run = Ours(c, None)
            compiled = run.warm_up()
            seconds = rate(run.step)
            speed = c.tokens_per_step / seconds
            mfu = plan.flops_per_token(c.model) * speed / card if card else 0.0
            peak, predicted = (
                torch.cuda.max_memory_allocated() if CUDA else 0,
                plan.memory_needed(c, device=DEVICE.type),
            )
            print(
                f"{name}: {speed / 1e3:.1f}k tok/s, {seconds * 1e3:.2f} ms, MFU {mfu:.1%}, peak {peak / 1e9:.2f} GB, "
                f"predicted {predicted / 1e9:.2f} ({predicted / max(1, peak) - 1:+.0%}), compile {compiled:.0f} s",
                flush=True,
            )  # fmt: skip
            if given.profile and CUDA:
                profile(run.step)
        except Exception as error:  # the next one may do better
            print(f"{name}: {type(error).__name__}: {str(error)[:600]}", flush=True)
        run = None  # type: ignore[assignment]
    if given.nanogpt:
        tiny = {"block_size": 64, "n_layer": 1, "n_head": 2, "n_embd": 32}
        wide = {"block_size": 1024, "n_layer": 12, "n_head": 12, "n_embd": 768}
        nanogpt(given.nanogpt, "gpt2-124m", 64 if CUDA else 2, wide if CUDA else tiny)
        if CUDA:
            nanogpt(given.nanogpt, "seed-40m", 64, wide | {"n_head": 6, "n_embd": 384})


if __name__ == "__main__":
    main()
