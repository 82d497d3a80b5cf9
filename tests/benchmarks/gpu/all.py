"""Every figure of the engine's table, in two calls of at most ten minutes each.

    python -m tests.benchmarks.gpu.all speed --nanogpt FOLDER --shards FOLDER   throughput, memory, cost
    python -m tests.benchmarks.gpu.all epoch --nanogpt FOLDER --simple FILE --shards FOLDER   one epoch

Each part is a process of its own, so that none inherits another's memory or compiled code; what no longer fits into
``--seconds`` is left out and named. Ordered by what matters most. The folders of the others are brought along.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from tests.benchmarks.gpu.common import DEVICE

CUDA = DEVICE.type == "cuda"
TINY = "model.preset=demo-1m,model.n_layer=1,model.n_head=2,model.n_embd=16,model.block_size=16,train.micro_batch=1"
GPT2, SEED = "model.preset=gpt2-124m,train.micro_batch=64", "model.preset=seed-40m,train.micro_batch=64"

# Name, configuration, and the share of the card that the process may use in GB (0: all of it).
FP8, WIDE = "train.fp8_head=true", "model.preset=gpt2-350m,model.n_head=8,train.micro_batch=64"
RUNS: tuple[tuple[str, str, float], ...] = (
    ("gpt2-124m", GPT2, 0),
    ("gpt2-124m fp8 head", f"{GPT2},{FP8}", 0),
    ("seed-40m", SEED, 0),
    ("seed-40m fp8 head", f"{SEED},{FP8}", 0),
    ("gpt2-350m, heads of 128", WIDE, 0),
    ("gpt2-350m, heads of 128, fp8 head", f"{WIDE},{FP8}", 0),
    ("gpt2-124m in 12 GB", "model.preset=gpt2-124m,train.micro_batch=16", 12),
    ("modern-124m", "model.preset=modern-124m,train.micro_batch=64", 0),
    ("modern-124m document masks", "model.preset=modern-124m,train.micro_batch=64,model.document_mask=true", 0),
    ("gpt2-124m max-autotune", f"{GPT2},train.compile_mode=max-autotune-no-cudagraphs", 0),
    ("seed-40m cuda graphs", f"{SEED},train.compile_mode=reduce-overhead", 0),
    ("modern-350m", "model.preset=modern-350m,train.micro_batch=32", 0),
)


def parts(given: argparse.Namespace) -> list[tuple[str, list[str]]]:
    """The calls of a subcommand, each as its name and the arguments behind ``python -m``."""
    here = "tests.benchmarks.gpu"
    if given.what == "epoch":
        line = [
            f"{here}.epoch",
            str(given.shards),
            "--run",
            "modern-124m:model.preset=modern-124m,train.micro_batch=64",
        ]
        line += ["--nanogpt", str(given.nanogpt)] if given.nanogpt else []
        line += ["--simple", str(given.simple)] if given.simple else []
        return [("epoch", line)]
    found: list[tuple[str, list[str]]] = []
    if given.nanogpt:
        found.append(("nanoGPT", [f"{here}.speed", "--nanogpt", str(given.nanogpt)]))
    for name, sets, limit in RUNS:
        capped = ["--memory", str(limit)] if limit else []
        found.append((name, [f"{here}.speed", *capped, f"{name}:{sets if CUDA else TINY}"]))
    found.append(("muon", [f"{here}.muon"]))
    if given.shards:
        shard = sorted(given.shards.glob("*.parquet"))[0]
        found.insert(min(4, len(found)), ("instrumentation", [f"{here}.instrumentation", str(shard)]))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("speed", "epoch"))
    parser.add_argument("--nanogpt", type=Path)
    parser.add_argument("--simple", type=Path)
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=570.0)
    given = parser.parse_args()
    begin = time.monotonic()
    failed = 0
    for name, line in parts(given):
        left = given.seconds - (time.monotonic() - begin)
        if left < 30:
            print(f"{name}: left out, {left:.0f} s remain", flush=True)
            continue
        try:
            failed += subprocess.run([sys.executable, "-m", *line], timeout=left, check=False).returncode != 0
        except subprocess.TimeoutExpired:
            print(f"{name}: cut off after {left:.0f} s", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
