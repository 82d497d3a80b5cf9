"""Which process writes a run: an identity that survives a recycled pid and a changed clock. Torch-free."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data.bounded import read_json

FILE_NAME = "process.json"
LOCK = ".lock"


def start_time(pid: int) -> str | None:
    """When a process of this host was started, as an opaque text; None if there is no such process.

    On Linux: boot id and clock ticks since boot, untouched by a changed wall clock. Elsewhere ``ps``'s start time.
    """
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            return None
        if fields[0] in ("Z", "X"):  # ended, only not yet waited for
            return None
        return f"{_boot_id()}:{fields[19]}"
    shown = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return shown.stdout.strip() or None


def identity(pid: int | None = None) -> dict[str, Any]:
    """A process of this host (this one, if none is named), as ``process.json`` holds it."""
    pid = os.getpid() if pid is None else pid
    return {"pid": pid, "start_time": start_time(pid), "host": socket.gethostname()}


@contextmanager
def lock(run_dir: str | Path, patience: float = 0.0) -> Iterator[bool]:
    """Hold a run's lock, as its engine does while it lives, and whoever starts one until ``process.json`` says so.

    False where another process holds it for longer than ``patience`` seconds. On a file system without locks everybody
    gets it: there ``process.json`` alone tells. Raises OSError where the directory cannot be written.
    """
    end = time.monotonic() + patience
    with (Path(run_dir) / LOCK).open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < end:
                    time.sleep(0.05)
                    continue
                yield False
                return
            except OSError:
                pass
            yield True
            return


def write(run_dir: str | Path, pid: int | None = None) -> None:
    """Write ``process.json``, complete or not at all. Whoever starts an engine writes it too, with the child's pid."""
    path = Path(run_dir) / FILE_NAME
    # Two threads of a workbench may start runs at once, or resume the same one.
    temporary = path.with_name(f".{FILE_NAME}.{os.getpid()}.{threading.get_ident()}")
    temporary.write_text(json.dumps(identity(pid)))
    temporary.replace(path)


def read(run_dir: str | Path) -> dict[str, Any] | None:
    """What ``process.json`` says, or None where there is none or it cannot be read."""
    try:
        value = read_json(Path(run_dir) / FILE_NAME)
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def alive(run_dir: str | Path) -> bool | None:
    """Whether the run's process lives: True or False on this host, None if it runs on another host (unknown)."""
    process = read(run_dir)
    if process is None:
        return False
    if process.get("host") != socket.gethostname():
        return None
    pid = process.get("pid")
    began = start_time(pid) if isinstance(pid, int) and pid > 0 else None
    return began is not None and began == process.get("start_time")


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
