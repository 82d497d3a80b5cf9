"""Seconds from the command to the first step, phase by phase: the engine in a process of its own, cold and then warm.

    python -m tests.benchmarks.gpu.startup SHARD [--launch] [--profile FILE] [key=value …]

``--launch`` starts it as a person does, with ``gptbench train``, where that is installed; else the engine alone.
``--profile`` writes what Python functions a last, warm start spends its time in.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from engine import config
from tests.benchmarks.gpu.common import DEVICE

SIZE = "gpt2-124m" if DEVICE.type == "cuda" else "demo-1m"


def phases(run_dir: Path) -> tuple[dict[str, float], float | None]:
    """Seconds of each phase that the events report, and the time of the first step's event."""
    found, first = {}, None
    for line in (run_dir / "events.jsonl").read_text().splitlines():
        event = json.loads(line)
        if event["event"] == "phase":
            found[event["name"]] = round(event["seconds"], 2)
        elif event["event"] == "step" and first is None:
            first = event["time"]
    return found, first


def start(name: str, shard: Path, folder: Path, given: argparse.Namespace, python: list[str]) -> None:
    """One start, to the end of three steps; says what it took."""
    sets = [f"model.preset={SIZE}", "train.max_steps=3", "train.micro_batch=16", "eval.sample_every=0", *given.sets]
    begin = time.time()
    if given.launch:
        line = [sys.executable, "-P", "-m", "workbench.cli", "train", str(shard), "--runs", str(folder), "--wait"]
        done = subprocess.run([*line, *(part for s in sets for part in ("--set", s))], capture_output=True, text=True)
        run_dir = max(folder.iterdir(), key=lambda path: path.stat().st_mtime)
    else:
        run_dir = folder / name
        run_dir.mkdir()
        c = config.resolve(sets=sets, overrides={"data.paths": [str(shard)]})
        (run_dir / "config.toml").write_text(c.to_toml())
        begin = time.time()
        line = [sys.executable, "-P", *python, "-m", "engine", "train", str(run_dir)]
        done = subprocess.run(line, capture_output=True, text=True)
    if done.returncode:
        print(f"{name}: {done.stderr[-2000:]}", flush=True)
        return
    found, first = phases(run_dir)
    print(f"{name}: first step after {(first or 0) - begin:.1f} s, the end after {time.time() - begin:.1f} s: {found}")
    sys.stdout.flush()
    if "importtime" in python:
        slow = sorted((x for x in done.stderr.splitlines() if "|" in x and "self" not in x), key=_cumulative)
        print("\n".join(slow[-45:]), flush=True)


def _cumulative(line: str) -> int:
    return int(line.split("|")[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shard", type=Path)
    parser.add_argument("sets", nargs="*")
    parser.add_argument("--launch", action="store_true")
    parser.add_argument("--profile", type=Path)
    parser.add_argument("--imports", action="store_true", help="also what is imported, by time")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "compiled")
        os.environ["TRITON_CACHE_DIR"] = str(folder / "triton")
        runs = folder / "runs"
        runs.mkdir()
        for name in ("cold", "warm", "warm again"):
            start(name, given.shard.resolve(), runs, given, [])
        if given.imports:
            start("imports", given.shard.resolve(), runs, given, ["-X", "importtime"])
        if given.profile:
            start("profile", given.shard.resolve(), runs, given, ["-m", "cProfile", "-o", str(given.profile)])


if __name__ == "__main__":
    main()
