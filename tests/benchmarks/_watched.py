"""A program in a terminal that nobody looks at: how long it takes, how much it sends, what it costs."""

from __future__ import annotations

import fcntl
import itertools
import os
import pty
import select
import shlex
import shutil
import signal
import statistics
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

COLUMNS, LINES = 160, 50
_TICK = os.sysconf("SC_CLK_TCK")


class Watched:
    """A program as a child of a pseudo-terminal of 160×50."""

    def __init__(self, words: Sequence[str]) -> None:
        self.began = time.perf_counter()
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
            environment.pop("SSH_CONNECTION", None)
            os.execvpe(words[0], list(words), environment)
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

    def key_to_paint(self, key: bytes, seconds: float = 1.0) -> float:
        """Seconds from a key until something is painted; ``seconds`` at most."""
        self.read(0.02)
        os.write(self.fd, key)
        pressed = time.perf_counter()
        self.read(seconds, b"\x1b[")
        return time.perf_counter() - pressed

    def cpu(self) -> float:
        """Seconds of CPU that it and its children have taken so far."""
        return sum(cpu_of(pid) for pid in tree(self.pid))

    def memory(self) -> tuple[float, float]:
        """Resident memory of it and its children, now and at most, MiB."""
        return memory_of(tree(self.pid))

    def close(self) -> None:
        """End it."""
        pids = tree(self.pid)
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.fd)


_servers = itertools.count()


def opened(words: Sequence[str], stages: Sequence[Callable[[str], bool]], seconds: float = 180) -> list[str] | None:
    """Run a program in tmux until its screen fulfils one condition after the other; a text of time, CPU and memory for
    each. None where there is no tmux: to read a screen takes a terminal that understands what is written to it."""
    if shutil.which("tmux") is None:
        return None
    # A server of its own each time: the one before may still be ending.
    tmux = ["tmux", "-L", f"gptbench-bench-{os.getpid()}-{next(_servers)}", "-f", os.devnull]
    command = "exec " + " ".join(shlex.quote(word) for word in words)
    subprocess.run([*tmux, "start-server", ";", "set", "-g", "exit-empty", "off"], check=True)
    began = time.perf_counter()
    told = []
    try:
        subprocess.run(
            [*tmux, "new-session", "-d", "-x", str(COLUMNS), "-y", str(LINES), "sh", "-c", command], check=True
        )
        pid = int(_output([*tmux, "display-message", "-p", "#{pane_pid}"]))
        for stage in stages:
            while not stage(_output([*tmux, "capture-pane", "-p"])):
                if time.perf_counter() - began > seconds:
                    return [*told, f"not within {seconds:.0f} s"]
                time.sleep(0.03)
            pids = tree(pid)
            took, cpu = time.perf_counter() - began, sum(cpu_of(p) for p in pids)
            told.append(f"{took:.2f} s, {cpu:.2f} s of CPU, {memory_of(pids)[1]:.0f} MiB at most")
        return told
    finally:
        subprocess.run([*tmux, "kill-server"], check=False, capture_output=True)


def p95(values: Sequence[float]) -> float:
    """The 95th percentile."""
    return statistics.quantiles(values, n=20)[-1]


def tree(pid: int) -> list[int]:
    """A process and all its descendants."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents.setdefault(int(stat.read_text().rpartition(")")[2].split()[1]), []).append(int(stat.parent.name))
    found = [pid]
    for parent in found:
        found += parents.get(parent, [])
    return found


def cpu_of(pid: int) -> float:
    """Seconds of CPU of one process; 0 where it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICK


def memory_of(pids: Sequence[int]) -> tuple[float, float]:
    """Resident memory of processes, now and at most, MiB."""
    totals = {"VmRSS": 0, "VmHWM": 0}
    for pid in pids:
        with suppress(OSError):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                name, _, value = line.partition(":")
                if name in totals:
                    totals[name] += int(value.split()[0])
    return totals["VmRSS"] / 1024, totals["VmHWM"] / 1024


def _output(words: Sequence[str]) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout
