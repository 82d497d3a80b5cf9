"""Makes the suite's runs with the real engine: resumable, several at once, within a given time.

A run lies in ``WORK/runs/<plant>``; one that has stopped of itself is not made again, one that was interrupted goes on
from its checkpoint. What is done is recorded in ``OUT`` (``record.write``) each time.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from engine.config import resolve
from engine.events import EventReader
from tests.benchmarks.planted import plan, record, shards
from tests.benchmarks.planted.plan import Plant

PLUGIN = Path(__file__).parent / "plugin"
STOP_SECONDS = 20.0


def make(subset: str, work: Path, out: Path, jobs: int, budget: float, only: str = "", device: str = "") -> None:
    """Make what is missing of a subset, then record all that there is."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no run is left behind, going on alone
    work, deadline = work.absolute(), time.monotonic() + budget
    known = record.names(out, subset)
    todo = [p for p in plan.plants(subset) if not p.of and only in p.name and p.name not in known]
    running: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for p in todo:
            if ended(work / "runs" / p.name):
                continue
            while len(running) >= jobs and time.monotonic() < deadline:
                _reap(running)
                time.sleep(0.2)
            if time.monotonic() >= deadline:
                break
            running[p.name] = _start(p, subset, work, device)
        while running and time.monotonic() < deadline:
            _reap(running)
            time.sleep(0.2)
    finally:
        for process in running.values():
            process.send_signal(signal.SIGTERM)
        for process in running.values():
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
    record.write(subset, work / "runs", out)


def ended(run_dir: Path) -> bool:
    """Whether a run stopped of itself: finished, or failed as an unstable one does."""
    if not run_dir.is_dir():
        return False
    last = [e for e in EventReader(run_dir).read() if e["event"] in ("stop", "resume")]
    return bool(last) and record.of_itself(last[-1])


def _start(p: Plant, subset: str, work: Path, device: str) -> subprocess.Popen[bytes]:
    base = next(b for b in plan.BASES[subset] if b.name == p.base)
    sets = plan.options(p, base)
    if device:
        sets["train.device"] = device
    tokens = sets["train.max_steps"] * sets["train.micro_batch"] * sets["model.block_size"]
    folder, run_dir = work / "shards", work / "runs" / p.name
    # The CPU's small vocabulary splits words further.
    per_token = 2.6 if sets.get("data.encoding") == "planted-4k" else shards.CHARACTERS
    sets |= {
        "data.paths": [str(shards.build(p.corpus, tokens, folder, per_token))],
        "data.val_paths": [str(shards.build(p.val, 0, folder, per_token))],
        "data.cache": str(work / "packs"),
    }
    if not (run_dir / "config.toml").is_file():
        shutil.rmtree(run_dir, ignore_errors=True)
        run_dir.mkdir(parents=True)
        (run_dir / "config.toml").write_text(resolve(None, (), sets).to_toml())
    root = str(Path(__file__).resolve().parents[3])
    environment = {
        **os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([root, str(PLUGIN)]),
        "OMP_WAIT_POLICY": "passive",
    }  # fmt: skip
    print(f"{time.strftime('%H:%M:%S')} {p.name}", flush=True)
    with (run_dir / "engine.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.planted.worker", str(run_dir), p.fault],
            stdout=log, stderr=log, cwd=root, env=environment,
        )  # fmt: skip


def _reap(running: dict[str, subprocess.Popen[bytes]]) -> None:
    for name in [n for n, process in running.items() if process.poll() is not None]:
        code = running.pop(name).returncode
        print(f"{time.strftime('%H:%M:%S')} {name} ended with {code}", flush=True)
