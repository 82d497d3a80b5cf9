"""Run directories and shards as the engine and the sample builder leave them, with figures that never vary."""

from __future__ import annotations

import math
import os
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from engine.config import resolve
from engine.events import EventWriter

NOW = 1_750_000_000.0  # the frozen clock of screen tests


def make_run(
    root: Path,
    name: str = "demo-1m-20250615-150000",
    *,
    steps: int = 600,
    max_steps: int = 800,
    stop: str | None = None,
    age: float = 3600.0,
    log: str = "packed 2 shards\ncompiled in 0.0 s\n",
    overfit: bool = True,
) -> Path:
    """A run of ``steps`` steps whose held-out loss turns up where ``overfit``; not running."""
    run_dir = root / name
    run_dir.mkdir(parents=True)
    config = resolve(
        overrides={
            "model.preset": "demo-1m",
            "data.paths": [str(root / "shard.parquet")],
            "train.max_steps": max_steps,
            "train.micro_batch": 8,
        }
    )
    (run_dir / "config.toml").write_text(config.to_toml())
    (run_dir / "engine.log").write_text(log)
    os.utime(run_dir / "config.toml", (NOW - age, NOW - age))
    writer = EventWriter(run_dir)
    writer.write_many(events(steps, max_steps, config.tokens_per_step, NOW - age, overfit))
    if stop:
        writer.write("stop", time=NOW - age + steps, step=steps, reason=stop, text="")
    writer.close()
    return run_dir


def events(steps: int, max_steps: int, tokens_per_step: int, begin: float, overfit: bool) -> list[dict[str, object]]:
    """``start``, then steps and evaluations every 50, as the engine writes them."""
    noise = random.Random(0)
    out: list[dict[str, object]] = [
        {
            "event": "start", "time": begin, "schema": 1, "parameters": 3_416_384, "tokens_per_step": tokens_per_step,
            "max_steps": max_steps, "device": "cpu", "device_name": "test CPU", "flops_per_token": 2.0e7,
        }
    ]  # fmt: skip
    for step in range(steps + 1):
        level = 2.2 + 8.4 * math.exp(-step / 60)
        if step:
            out.append(
                {
                    "event": "step", "time": begin + step, "step": step, "tokens": step * tokens_per_step,
                    "epoch": step / 90, "loss": level - step * 8e-4 + noise.gauss(0, 0.08),
                    "lr": 3e-3 * min(1, step / 20) * (0.55 + 0.45 * math.cos(math.pi * step / max_steps)),
                    "grad_norm": 0.8, "clipped": 0, "step_time": 0.5, "data_wait": 0.001,
                    "tokens_per_s": 2 * tokens_per_step, "mfu": 0.21, "memory": 412 << 20,
                }
            )  # fmt: skip
        if step % 50 == 0:
            held_out = level + (1.2e-3 * max(0, step - 150) if overfit else 0.02)
            for split, loss in (("heldout", held_out), ("seen", level - step * 8e-4)):
                out.append(
                    {
                        "event": "eval", "time": begin + step, "step": step, "split": split, "loss": loss, "se": 0.021,
                        "documents": 60, "tokens": 40_000,
                    }
                )  # fmt: skip
    return out


def make_shard(path: Path, texts: list[str], *, row_group_size: int = 50) -> Path:
    """A parquet shard in FineWeb-edu's columns, as far as the screens read them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(
        {
            "text": pa.array(texts, pa.string()),
            "id": [f"doc-{i}" for i in range(len(texts))],
            "url": [f"https://example.org/{i}" for i in range(len(texts))],
        }
    )
    pq.write_table(table, path, row_group_size=row_group_size)
    return path
