"""What this machine trains on, found out without torch: its GPU by ``nvidia-smi``, else its CPU and memory."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

from engine.config import Config
from workbench.errors import UserError
from workbench.runs.slots import ask


@dataclass(frozen=True)
class Machine:
    """The device that ``train.device = "auto"`` takes. ``memory`` is in bytes, None if unknown."""

    kind: str  # cuda, mps or cpu
    name: str
    memory: int | None
    count: int = 1

    def shards(self, config: Config) -> int:
        """Into how many shards the processes of a run here cut its model; 1: each has a copy."""
        from engine.plan import shards_of

        return shards_of(config, self.memory if self.kind == "cuda" else None)


@functools.lru_cache
def machine(device: str = "auto") -> Machine:
    """The device that a run configured with ``train.device`` would use here."""
    if device.startswith(("auto", "cuda")) and (gpu := _nvidia()):
        return gpu
    if device in ("auto", "mps") and (platform.system(), platform.machine()) == ("Darwin", "arm64"):
        return Machine("mps", "Apple GPU", _ram())
    return Machine("cpu", _cpu_name(), _ram())


def refuse_if_too_large(config: Config) -> None:
    """Raise UserError if the planner's predicted peak memory is above what the device has.

    A prediction is within about 15%: only what exceeds the device by more than that is refused here; the rest is
    tried, and the engine says so if it runs out.
    """
    from engine.plan import memory_needed, remedy

    here = machine(config.train.device)
    shards = here.shards(config)
    needed = memory_needed(config, device=here.kind, shards=shards)
    if here.memory is not None and needed > 1.15 * here.memory:
        advice = remedy(config, here.memory, device=here.kind, shards=shards)
        raise UserError(
            f"this run needs about {needed / 2**30:.1f} GiB and {here.name} has {here.memory / 2**30:.1f} GiB: {advice}"
        )


def _nvidia() -> Machine | None:
    try:
        rows = [line.rpartition(",") for line in ask("--query-gpu=name,memory.total")]
        return Machine("cuda", rows[0][0].strip(), int(rows[0][2]) * 2**20, len(rows)) if rows else None
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def _ram() -> int | None:
    """Memory of the machine, or of the control group this process is in, whichever is less."""
    try:
        ram = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None
    try:
        return min(ram, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):
        return ram


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    return f"{model} ({os.cpu_count()} cores)"
