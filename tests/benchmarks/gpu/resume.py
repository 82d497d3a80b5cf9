"""How exact a killed and resumed run is on this device: held against one never stopped, as that one is against a twin.

    python -m tests.benchmarks.gpu.resume SHARD [key=value …]

On a CPU all three are the same to the last bit (tested). On a GPU sums of gradients come in another order each time:
what the twin differs by is the tolerance that a resume is held to.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from engine import config
from engine.record import Past
from tests.benchmarks.gpu.common import DEVICE

STEPS, KILLED, KEPT = 60, 40, 30
CUDA = DEVICE.type == "cuda"
SETS = [
    f"model.preset={'gpt2-124m' if CUDA else 'demo-1m'}", "train.micro_batch=16" if CUDA else "train.micro_batch=1",
    f"train.max_steps={STEPS}", f"train.checkpoint_every={KEPT}", "schedule.warmup_steps=10", "eval.every=20",
    "eval.documents=50", "eval.seen=10", "eval.sample_every=0",
]  # fmt: skip


def losses(run_dir: Path) -> dict[int, float]:
    """Training loss by step; what a resume replaced is as it was the second time."""
    found = {}
    for line in (run_dir / "events.jsonl").read_text().splitlines():
        event = json.loads(line)
        if event["event"] == "step":
            found[event["step"]] = event["loss"]
    return found


def engine(run_dir: Path) -> subprocess.Popen[bytes]:
    """The engine at work on that run."""
    return subprocess.Popen([sys.executable, "-P", "-m", "engine", "train", str(run_dir)], stdout=subprocess.DEVNULL)


def whole(run_dir: Path, killed: bool) -> dict[int, float]:
    """Losses of a run to its end, killed on its way or not."""
    process = engine(run_dir)
    while killed and process.poll() is None:
        time.sleep(0.02)
        if (run_dir / "events.jsonl").exists() and Past(run_dir).steps >= KILLED:
            process.kill()
            process.wait()
            process, killed = engine(run_dir), False
    if process.wait():
        raise SystemExit(f"{run_dir.name}: the engine failed")
    return losses(run_dir)


def main() -> None:
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("whole", "twin", "killed"):
            run_dir = Path(folder) / name
            run_dir.mkdir()
            c = config.resolve(
                sets=[*SETS, *sys.argv[2:]], overrides={"data.paths": [str(Path(sys.argv[1]).resolve())]}
            )
            (run_dir / "config.toml").write_text(c.to_toml())
            found[name] = whole(run_dir, name == "killed")
    for name in ("twin", "killed"):
        far = [abs(found[name][step] - found["whole"][step]) for step in range(1, STEPS + 1)]
        print(
            f"{name}: losses differ by at most {max(far):.2g} nats, up to step {KEPT} by {max(far[:KEPT]):.2g}",
            flush=True,
        )


if __name__ == "__main__":
    main()
