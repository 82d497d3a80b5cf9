"""gptbench beside W&B LEET on the same synthetic run, both in a terminal of 160×50.

``python -m tests.benchmarks leet``; STEPS=100000 sets the run's length. LEET comes with the ``wandb`` wheel:
$GPTBENCH_WANDB names the ``wandb`` command, else the wheel is installed into an environment of its own in the user's
cache. LEET reads four figures a step, gptbench thirteen and the evaluations. What the two do not both have is not
compared: LEET has neither smoothing nor an explanation.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from tests.benchmarks._watched import Watched, opened, p95
from tests.benchmarks.terminal import lengthen, scratch, step_line, workbench
from tests.workbench.folders import make_run

VERSION = "wandb==0.31.0"
REPEATS = int(os.environ.get("REPEATS", "5"))
# Logs ``steps`` steps offline, then ten a second for ``seconds``; the same series as ``terminal.step_line``.
_LOG = """
import sys, time, wandb
steps, seconds, folder = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
settings = wandb.Settings(console="off", x_disable_stats=True, x_disable_meta=True, silent=True)
run = wandb.init(project="bench", dir=folder, mode="offline", settings=settings)
def log(step):
    noise = (step * 2654435761 % 1000) / 5000
    run.log({"loss": 3 + 100 / (step + 20) + noise, "lr": 0.0006, "grad_norm": 0.8 + noise,
             "tokens_per_s": 81920 + noise}, step=step)
for step in range(1, steps + 1):
    log(step)
print("written", flush=True)
end = time.monotonic() + seconds
while time.monotonic() < end:
    steps += 1
    log(steps)
    time.sleep(0.1)
run.finish()
"""


def main() -> None:
    """Print both, side by side."""
    wandb = command()
    if wandb is None:
        print("LEET: not measured: the wandb wheel cannot be installed here; $GPTBENCH_WANDB may name its command")
        return
    steps = int(os.environ.get("STEPS", "100000"))
    with scratch() as folder:
        ours = make_run(folder / "ours", "run", steps=50, max_steps=steps)
        lengthen(ours, 51, steps)
        subprocess.run([wandb.parent / "python", "-c", _LOG, str(steps), "0", str(folder)], check=True, env=offline())
        theirs = next((folder / "wandb").glob("offline-run-*/run-*.wandb"))
        print(f"run of {steps:,} steps, load {os.getloadavg()[0]:.1f}", flush=True)
        for _ in range(min(3, REPEATS)):
            told = opened([str(wandb), "leet", str(theirs)], [lambda screen: "Finished" in screen])
            mine = opened(
                workbench(folder / "ours", ours),
                [lambda screen: f"step {steps:,}/" in screen and "first look" not in screen],
            )
            print(f"  opened whole: LEET {told and told[0]}\n            gptbench {mine and mine[0]}", flush=True)
        short(wandb, folder)


def short(wandb: Path, folder: Path) -> None:
    """First paint, idle, live updates and keys on a run of 600 steps that grows by ten a second."""
    live = folder / "live"
    live.mkdir()
    ours = make_run(folder / "short", "run", steps=600, max_steps=100_000)
    logging = subprocess.Popen(
        [wandb.parent / "python", "-c", _LOG, "600", "45", str(live)], stdout=subprocess.PIPE, text=True, env=offline()
    )
    assert logging.stdout is not None and logging.stdout.readline()
    time.sleep(1)
    theirs = next((live / "wandb").glob("offline-run-*/run-*.wandb"))
    for name, words, key, mark in (
        ("LEET", [str(wandb), "leet", str(theirs)], b"\t", b"Metrics"),
        ("gptbench", workbench(folder / "short", ours), b"\t", b"gptbench"),
    ):
        if name == "gptbench":
            logging.wait()
        paints = []
        for _ in range(REPEATS):
            terminal = Watched(words)
            terminal.read(10, mark)
            paints.append(time.perf_counter() - terminal.began)
            terminal.close()
        terminal = Watched(words)
        terminal.read(6)
        before, sent, waits, written = terminal.cpu(), 0, [], 600
        for _ in range(100):
            written = step(ours, written) if name == "gptbench" else written
            sent += len(terminal.read(0.1))
        cpu = terminal.cpu() - before
        for _ in range(60):
            written = step(ours, written) if name == "gptbench" else written
            terminal.read(0.08)
            waits.append(terminal.key_to_paint(key))
        if name == "LEET":
            logging.wait()
        terminal.read(3)
        idle = terminal.cpu()
        terminal.read(10)
        idle = (terminal.cpu() - idle) / 10
        print(
            f"  {name:>8}: first paint {statistics.median(paints):.2f} s; live at 10 events/s {sent / 10 / 1e3:.2f} kB "
            f"and {100 * cpu:.0f} ms of CPU a second; key to paint median {1e3 * statistics.median(waits):.0f} ms, "
            f"p95 {1e3 * p95(waits):.0f} ms; idle {idle:.1%}; {terminal.memory()[1]:.0f} MiB at most",
            flush=True,
        )
        terminal.close()


def step(run_dir: Path, written: int) -> int:
    """Append one step; the number of the newest."""
    with (run_dir / "events.jsonl").open("a") as file:
        file.write(step_line(written + 1))
    return written + 1


def offline() -> dict[str, str]:
    """An environment in which wandb sends nothing anywhere."""
    return {**os.environ, "WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false"}


def command() -> Path | None:
    """The ``wandb`` command, installed if need be; None where it cannot be had."""
    os.environ.update(offline())
    if given := os.environ.get("GPTBENCH_WANDB"):
        return Path(given) if Path(given).is_file() else None
    import platformdirs

    place = Path(platformdirs.user_cache_path("gptbench", appauthor=False)) / "benchmarks" / VERSION
    if not (place / "bin" / "wandb").is_file():
        pip = [place / "bin" / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check", VERSION]
        for words in ([sys.executable, "-m", "venv", place], pip):
            if subprocess.run(words, check=False, stderr=subprocess.DEVNULL).returncode:
                return None
    return place / "bin" / "wandb"
