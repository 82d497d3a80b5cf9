"""The workbench in a real pseudo-terminal of 160×50: first paint, opening long runs, live updates, keys, idle, memory.

``python -m tests.benchmarks terminal``; STEPS=1000000 in the environment sets the long run's length.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import shutil
import signal
import statistics
import struct
import sys
import tempfile
import termios
import time
from pathlib import Path

from tests.workbench.folders import make_run

COLUMNS, LINES = 160, 50
_TICK = os.sysconf("SC_CLK_TCK")
_START = "from pathlib import Path; import sys; from workbench.app import GptbenchApp; " + (
    "GptbenchApp(Path(sys.argv[1]), open_run=Path(sys.argv[2]) if len(sys.argv) > 2 else None).run()"
)


class Terminal:
    """The workbench as a child of a pseudo-terminal that nobody looks at."""

    def __init__(self, *arguments: str) -> None:
        self.began = time.perf_counter()
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
            environment.pop("SSH_CONNECTION", None)
            os.execve(sys.executable, [sys.executable, "-c", _START, *arguments], environment)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))

    def read(self, seconds: float, until: bytes | None = None) -> bytes:
        """What it writes within ``seconds``, or until ``until`` is among it."""
        out, end = b"", time.perf_counter() + seconds
        while (left := end - time.perf_counter()) > 0:
            if select.select([self.fd], [], [], left)[0]:
                try:
                    out += os.read(self.fd, 1 << 16)
                except OSError:
                    break
                if until is not None and until in out:
                    break
        return out

    def cpu(self) -> float:
        """Seconds of CPU that it has taken so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICK

    def memory(self) -> float:
        """Its largest memory so far, MiB."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024

    def close(self) -> None:
        """End it."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.fd)


def main() -> None:
    """Print the figures."""
    folder = Path(tempfile.mkdtemp(prefix="gptbench-terminal-"))
    os.environ["GPTBENCH_CACHE"] = str(folder / "cache")  # the first opening is a first one
    try:
        print(f"{COLUMNS}×{LINES}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
        runs = folder / "runs"
        terminal = Terminal(str(runs))
        terminal.read(20, b"gptbench")
        print(f"first paint: {time.perf_counter() - terminal.began:.2f} s (bar 0.7)")
        terminal.close()
        short = make_run(runs, "short", steps=600, max_steps=100_000)
        live(runs, short, 600)
        steps = int(os.environ.get("STEPS", "1000000"))
        long = make_run(folder / "long", "long", steps=50, max_steps=2 * steps)
        lengthen(long, 51, steps)
        opened(folder / "long", long, steps, "first time").close()
        live(folder / "long", long, steps)
    finally:
        shutil.rmtree(folder)


def opened(runs: Path, run_dir: Path, steps: int, what: str) -> Terminal:
    """Open a run and say how long it took until all of it was shown."""
    terminal = Terminal(str(runs), str(run_dir))
    terminal.read(60, f"step {steps:,}/".encode())
    seconds = time.perf_counter() - terminal.began
    bar = " (bar 1.5)" if steps >= 1_000_000 else ""
    print(
        f"run of {steps:,} steps, {what}: shown whole {seconds:.2f} s after the start{bar}, "
        f"{terminal.cpu():.2f} s of CPU, {terminal.memory():.0f} MiB",
        flush=True,
    )
    terminal.read(2)  # what was read is kept
    return terminal


def live(runs: Path, run_dir: Path, steps: int) -> None:
    """Open a run of ``steps`` steps, then press keys and let ten events a second arrive."""
    terminal = opened(runs, run_dir, steps, "kept" if steps > 100_000 else "first time")
    terminal.read(6)
    before, size = terminal.cpu(), len(terminal.read(5))
    print(f"  idle: {(terminal.cpu() - before) / 5:.1%} of a core (bar 1%), {size} bytes in 5 s")
    before, sent, began, looked, waits = terminal.cpu(), 0, time.perf_counter(), 0, []
    with (run_dir / "events.jsonl").open("a") as file:
        for n in range(100):
            file.write(step_line(steps + 1 + n))
            file.flush()
            sent += len(terminal.read(0.1))
            looked += 1
    seconds = time.perf_counter() - began
    updates = seconds / 0.5
    cpu = (terminal.cpu() - before) / updates * 1e3
    print(
        f"  live, {looked / seconds:.0f} events/s: {cpu:.1f} ms of CPU (bar 30) and "
        f"{sent / updates:.0f} bytes (bar 2500) an update (two a second)"
    )
    with (run_dir / "events.jsonl").open("a") as file:
        for n in range(40):
            file.write(step_line(steps + 101 + n))
            file.flush()
            terminal.read(0.05)
            os.write(terminal.fd, b"\t")  # the focus moves on: two panes are painted anew
            pressed = time.perf_counter()
            terminal.read(1, b"\x1b[")
            waits.append(time.perf_counter() - pressed)
    p95 = statistics.quantiles(waits, n=20)[-1]
    print(f"  key to paint: median {statistics.median(waits) * 1e3:.0f} ms, p95 {p95 * 1e3:.0f} ms (bar 50)")
    print(f"  memory: {terminal.memory():.0f} MiB at most", flush=True)
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


def step_line(step: int) -> str:
    """One step of a long run; the loss is noisy without a random number for each of a million."""
    noise = (step * 2654435761 % 1000) / 5000
    return (
        f'{{"event": "step", "time": {1.75e9 + step / 10}, "step": {step}, "tokens": {step * 8192}, '
        f'"epoch": {step / 90_000}, "loss": {3 + 100 / (step + 20) + noise}, "lr": 0.0006, '
        f'"grad_norm": {0.8 + noise}, "clipped": 0, "step_time": 0.1, "data_wait": 0.0001, '
        f'"tokens_per_s": {81920 + noise}, "mfu": 0.218, "memory": 432013312}}\n'
    )


if __name__ == "__main__":
    main()
