"""Where a run computes: device, dtype, compilation, threads, memory, random number generators."""

from __future__ import annotations

import os
import platform
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from engine import config
from engine.config import ConfigError


@dataclass(frozen=True)
class Device:
    """A chosen device. ``dtype`` is that of the matrix products; ``memory`` its bytes in all, None if not known."""

    device: torch.device
    name: str
    dtype: torch.dtype
    compiled: bool
    memory: int | None

    @property
    def type(self) -> str:
        """``cuda``, ``mps`` or ``cpu``."""
        return self.device.type

    def autocast(self) -> AbstractContextManager[Any]:
        """Context in which matrix products are computed in ``dtype``; weights stay float32."""
        half = self.dtype == torch.bfloat16
        return torch.autocast(self.type, dtype=torch.bfloat16, enabled=half)

    def used(self) -> int:
        """Bytes in use: the peak of what was allocated on CUDA, the resident set on a CPU."""
        if self.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        if self.type == "mps":
            return torch.mps.driver_allocated_memory()
        return resident()

    def generators(self) -> dict[str, str]:
        """State of the random number generators, as hexadecimal text."""
        states = {"cpu": torch.get_rng_state()}
        if self.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(self.device)
        elif self.type == "mps":
            states["mps"] = torch.mps.get_rng_state()
        return {name: bytes(state.cpu().numpy()).hex() for name, state in states.items()}

    def set_generators(self, states: dict[str, str]) -> None:
        """Take in what ``generators`` gave, as far as this device has them."""
        for name, text in states.items():
            state = torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8)
            if name == "cpu":
                torch.set_rng_state(state)
            elif name == "cuda" and self.type == "cuda":
                torch.cuda.set_rng_state(state, self.device)
            elif name == "mps" and self.type == "mps":
                torch.mps.set_rng_state(state)


def choose(train: config.Train) -> Device:
    """The device that ``train`` asks for; on a CPU also sets torch's threads to the cores this process may use.

    Raises:
        ConfigError: no such device here.
    """
    device = _device(train.device)
    if device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32 where a product stays float32
        properties = torch.cuda.get_device_properties(device)
        name, memory = str(properties.name), int(properties.total_memory)
    else:
        name, memory = platform.machine() if device.type == "mps" else _processor(), physical_memory() or 0
    bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    auto = torch.bfloat16 if bf16 else torch.float32
    dtype = {"auto": auto, "bfloat16": torch.bfloat16, "float32": torch.float32}[train.dtype]
    compiled = train.compile == "on" or (train.compile == "auto" and device.type == "cuda")
    return Device(device, name, dtype, compiled, memory or None)


def _device(wanted: str) -> torch.device:
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(wanted)
    except RuntimeError:
        raise ConfigError(f"train.device {wanted!r} is not known; known: auto, cuda, cuda:1 …, mps, cpu") from None
    count = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available()), "cpu": 1}
    if device.type not in count:
        raise ConfigError(f"train.device {wanted!r} is not supported; known: auto, cuda, cuda:1 …, mps, cpu")
    if (device.index or 0) >= count[device.type]:
        raise ConfigError(f"train.device {wanted!r}: no such device here; set train.device=auto")
    return torch.device(device.type, device.index or 0) if device.type == "cuda" else device


def resident() -> int:
    """Resident memory of this process in bytes (elsewhere than on Linux: its peak)."""
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if platform.system() == "Darwin" else peak * 1024


def physical_memory() -> int | None:
    """Bytes of memory that this process may use: the machine's, or its control group's limit if that is lower."""
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        return min(total, int(limit)) if limit.isdigit() else total
    except OSError:
        return total


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or "CPU"
