"""The workbench in a real pseudo-terminal of 160×50: first paint, opening long runs, live updates, keys, idle, memory.

Idle is measured three times: a run that ended, one that runs and is silent, and one that reports a step and the
machine's state every five seconds.

``python -m tests.benchmarks terminal``; STEPS=1000000 in the environment sets the long run's length, REPEATS=5 how
often what is short is measured. ``leet`` measures W&B LEET beside it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine import process
from tests.benchmarks._bars import at_most
from tests.benchmarks._watched import COLUMNS, LINES, Watched, opened, p95
from tests.workbench.folders import make_run

REPEATS = int(os.environ.get("REPEATS", "5"))
_IDLE = 20  # seconds
_START = "from pathlib import Path; import sys; from workbench.app import GptbenchApp; " + (
    "GptbenchApp(Path(sys.argv[1]), open_run=Path(sys.argv[2]) if len(sys.argv) > 2 else None).run()"
)
_TORCH = "import workbench.app, workbench.screens.run, sys; print('torch' in sys.modules)"


def workbench(*arguments: Path) -> list[str]:
    """The command line that opens a runs folder, and a run."""
    return [sys.executable, "-c", _START, *map(str, arguments)]


def main() -> None:
    """Print the figures."""
    steps = int(os.environ.get("STEPS", "1000000"))
    with scratch() as folder:
        print(f"{COLUMNS}×{LINES}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, medians of {REPEATS}")
        runs = folder / "runs"
        first_paint(runs)
        many(folder / "many", 1000)
        live(runs, make_run(runs, "short", steps=600, max_steps=100_000), 600)
        run_dir = make_run(folder / "long", "long", steps=50, max_steps=2 * steps)
        lengthen(run_dir, 51, steps)
        opening(folder / "long", run_dir, steps)
        growing(folder / "long", run_dir, live(folder / "long", run_dir, steps))


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for runs, with a cache of its own: the first opening is a first one."""
    folder = Path(tempfile.mkdtemp(prefix="gptbench-terminal-"))
    os.environ["GPTBENCH_CACHE"] = str(folder / "cache")
    os.environ["XDG_CONFIG_HOME"] = os.environ["XDG_STATE_HOME"] = str(folder / "home")  # nothing is remembered
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def first_paint(runs: Path) -> None:
    """From the start of the process until the first screen is painted."""
    times = []
    for _ in range(REPEATS):
        terminal = Watched(workbench(runs))
        terminal.read(20, b"gptbench")
        times.append(time.perf_counter() - terminal.began)
        terminal.close()
    torch = os.popen(f'{sys.executable} -c "{_TORCH}"').read().strip()
    print(
        f"first paint: {statistics.median(times):.2f} s {at_most(statistics.median(times), 0.7, ' s')}, torch: {torch}"
    )


def many(runs: Path, count: int) -> None:
    """From the start until a table of many runs is filled."""
    one = make_run(runs, "run-0000", steps=200, max_steps=400, stop="stopped")
    for n in range(1, count):
        shutil.copytree(one, runs / f"run-{n:04}")
    times = []
    for _ in range(REPEATS):
        terminal = Watched(workbench(runs))
        terminal.read(20, f"{count} runs".encode())
        times.append(time.perf_counter() - terminal.began)
        terminal.close()
    took = statistics.median(times)
    print(f"{count:,} runs listed {took:.2f} s after the start {at_most(took, 1, ' s')}", flush=True)
    process.write(one)
    terminal = Watched(workbench(runs))
    terminal.read(10)
    idle(terminal, f"{count:,} runs, one of them running")
    terminal.close()


def opening(runs: Path, run_dir: Path, steps: int) -> None:
    """A long run for the first time, then again: until a first look at it is shown, and until all of it is."""
    where = re.compile(f"step {steps:,}/")
    for what, again in (("first time", False), ("again", True)):
        for _ in range(REPEATS):
            if not again:
                shutil.rmtree(os.environ["GPTBENCH_CACHE"], ignore_errors=True)
            told = opened(
                workbench(runs, run_dir),
                [
                    lambda screen: bool(where.search(screen)) and "loss" in screen,
                    lambda screen: bool(where.search(screen)) and "first look" not in screen,
                ],
            )
            if told is None:
                print("opening long runs: not measured, it takes tmux")
                return
            print(f"run of {steps:,} steps, {what}: shown after {told[0]}; whole after {told[-1]}", flush=True)
            time.sleep(0.5)


def live(runs: Path, run_dir: Path, steps: int) -> int:
    """Open a run of ``steps`` steps, wait, let ten events a second arrive, press keys. The newest step."""
    terminal = Watched(workbench(runs, run_dir))
    terminal.read(8)
    print(f"run of {steps:,} steps, followed:")
    idle(terminal, "ended")
    process.write(run_dir)  # the run is this process
    steps = report(run_dir, steps)
    terminal.read(5)
    idle(terminal, "running, silent")
    steps = idle(terminal, "running, a step every 5 s", run_dir, steps)
    before, sent, began, looked = terminal.cpu(), 0, time.perf_counter(), 0
    with (run_dir / "events.jsonl").open("a") as file:
        for n in range(200):
            file.write(step_line(steps + 1 + n))
            file.flush()
            sent += len(terminal.read(0.1))
            looked += 1
    seconds = time.perf_counter() - began
    updates = seconds / 0.5
    cpu = (terminal.cpu() - before) / updates * 1e3
    print(
        f"  live, {looked / seconds:.0f} events/s, two updates a second: {cpu:.1f} ms of CPU {at_most(cpu, 30, ' ms')} "
        f"and {sent / updates:.0f} bytes {at_most(sent / updates, 2500)} an update"
    )
    waits = []
    with (run_dir / "events.jsonl").open("a") as file:
        for n in range(100):
            file.write(step_line(steps + 201 + n))
            file.flush()
            terminal.read(0.08)
            waits.append(terminal.key_to_paint(b"\t"))  # the focus moves on: two panes are painted anew
    slow = 1e3 * p95(waits)
    print(
        f"  key to paint: median {statistics.median(waits) * 1e3:.0f} ms, p95 {slow:.0f} ms {at_most(slow, 50, ' ms')}"
    )
    print("  memory: {:.0f} MiB, {:.0f} at most".format(*terminal.memory()), flush=True)
    terminal.close()
    return steps + 300


def idle(terminal: Watched, what: str, run_dir: Path | None = None, step: int = 0) -> int:
    """What 20 s cost in which nobody presses a key; to ``run_dir`` a step is added every five. The newest step."""
    before, sent = terminal.cpu(), 0
    for _ in range(_IDLE // 5):
        if run_dir is not None:
            step = report(run_dir, step)
        sent += len(terminal.read(5))
    share = (terminal.cpu() - before) / _IDLE
    print(f"  idle, {what}: {share:.2%} of a core {at_most(100 * share, 1, '%')}, {sent / _IDLE:.0f} bytes a second")
    return step


def report(run_dir: Path, step: int) -> int:
    """Append what an engine says now and then: a step, and the machine's state. The newest step."""
    now = time.time()
    machine = {"event": "system", "time": now, "cpu_percent": 90 + step % 9, "memory_host": 1 << 30}
    with (run_dir / "events.jsonl").open("a") as file:
        file.write(step_line(step + 1, now) + json.dumps(machine) + "\n")
    return step + 1


def growing(runs: Path, run_dir: Path, steps: int) -> None:
    """Follow a long run while it grows by two fifths: memory must not grow with it."""
    terminal = Watched(workbench(runs, run_dir))
    terminal.read(8)
    chunk = steps // 50
    lengthen(run_dir, steps + 1, steps + chunk)  # so much at once loads Arrow, 50 MiB: not of the run
    steps += chunk
    terminal.read(8)
    told = [terminal.memory()[0]]
    for part in range(20):
        lengthen(run_dir, steps + part * chunk + 1, steps + (part + 1) * chunk)
        terminal.read(2)
        told.append(terminal.memory()[0])
    print(
        f"memory of a run of {steps:,} steps: {told[0]:.0f} MiB; {20 * chunk:,} steps later: {told[-1]:.0f} MiB; "
        f"between: {min(told):.0f} to {max(told):.0f} MiB"
    )
    terminal.close()


def lengthen(run_dir: Path, first: int, last: int) -> None:
    """Append steps as the engine writes them, and an evaluation every thousand."""
    with (run_dir / "events.jsonl").open("a") as file:
        for step in range(first, last + 1):
            file.write(step_line(step))
            if step % 1000 == 0:
                loss = {"loss": 3.0 + 100 / step, "se": 0.01, "documents": 60, "tokens": 40_000}
                event = {"event": "eval", "time": 1.75e9 + step / 10, "step": step, "split": "heldout", **loss}
                file.write(json.dumps(event) + "\n")


def noise(step: int) -> float:
    """Of a step's loss, without a random number for each of a million."""
    return (step * 2654435761 % 1000) / 5000


def step_line(step: int, time: float | None = None) -> str:
    """One step of a long run, at its time or at another."""
    return (
        f'{{"event": "step", "time": {1.75e9 + step / 10 if time is None else time}, "step": {step}, '
        f'"tokens": {step * 8192}, "epoch": {step / 90_000}, "loss": {3 + 100 / (step + 20) + noise(step)}, '
        f'"lr": 0.0006, "grad_norm": {0.8 + noise(step)}, "clipped": 0, "step_time": 0.1, "data_wait": 0.0001, '
        f'"tokens_per_s": {81920 + noise(step)}, "mfu": 0.218, "memory": 432013312}}\n'
    )


if __name__ == "__main__":
    main()
