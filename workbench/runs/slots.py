"""Which GPUs of this machine are free for a run, found out without torch. Without a GPU there is one slot, the CPU."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine import process

VARIABLE = "CUDA_VISIBLE_DEVICES"
CPU = "cpu"
_PATIENCE = 10.0  # seconds that nvidia-smi may take
_HELD = 0.2  # share of a GPU's memory above which somebody holds it: a desktop takes less, a training run more


@dataclass(frozen=True)
class Gpu:
    """A GPU as nvidia-smi lists it; memory in MiB, whatever process holds it."""

    index: str
    uuid: str
    memory_used: float
    memory_total: float


def gpus() -> list[Gpu] | None:
    """Every GPU of the machine, [] where there is no nvidia-smi, None if it gave no answer this time."""
    try:
        lines = ask("--query-gpu=index,uuid,memory.used,memory.total")
    except FileNotFoundError:
        return []
    except (OSError, subprocess.SubprocessError):
        return None
    return [gpu for line in lines if (gpu := _gpu(line))]


def in_use(found: Sequence[Gpu]) -> set[str]:
    """UUIDs of the GPUs that some process computes on, or holds memory of, whoever started it.

    In a container nvidia-smi lists no process of the host, so that the memory in use speaks too.
    """
    try:
        computing = {line.partition(",")[0].strip() for line in ask("--query-compute-apps=gpu_uuid,pid")}
    except (OSError, subprocess.SubprocessError):
        computing = set()
    return computing | {gpu.uuid for gpu in found if gpu.memory_used > _HELD * gpu.memory_total}


def visible(found: Sequence[Gpu], variable: str | None) -> list[str]:
    """The UUIDs that ``CUDA_VISIBLE_DEVICES`` lets a program see, in its order; all of them where it is not set.

    As CUDA does, what follows an entry that means no GPU is left out; indices are in the order of nvidia-smi.
    """
    if variable is None:
        return [gpu.uuid for gpu in found]
    seen: list[str] = []
    for word in (part.strip() for part in variable.split(",")):
        if word.startswith("MIG-"):  # a slice of a GPU: a slot of its own, that nvidia-smi does not list
            match = word
        else:
            match = next((g.uuid for g in found if word and (g.index == word or g.uuid.startswith(word))), "")
        if not match or match in seen:
            break
        seen.append(match)
    return seen


def slots() -> list[str]:
    """The slots of this process: the GPUs it sees, or the CPU alone."""
    return visible(gpus() or [], os.environ.get(VARIABLE)) or [CPU]


def counted(of: Sequence[str]) -> str:
    """Slots in words."""
    return "the one CPU slot" if list(of) == [CPU] else f"{len(of)} GPU{'s' if len(of) > 1 else ''}"


def held_by(run_dir: Path, processes: int, found: Sequence[Gpu], of: Sequence[str]) -> set[str]:
    """The slots that a running run holds: the first GPUs that its process was started with, one a process.

    Where its environment cannot be read (another person's, or no Linux) it is taken to see what this process sees.
    """
    if list(of) == [CPU]:
        return {CPU}
    return set(visible(found, _variable_of(run_dir))[:processes])


def environment(taken: Sequence[str]) -> Mapping[str, str]:
    """What an engine is told of the slots it was given."""
    return {} if list(taken) == [CPU] else {VARIABLE: ",".join(taken)}


def _variable_of(run_dir: Path) -> str | None:
    pid = (process.read(run_dir) or {}).get("pid")
    try:
        pairs = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return os.environ.get(VARIABLE)
    begin = f"{VARIABLE}=".encode()
    return next((os.fsdecode(pair[len(begin) :]) for pair in pairs if pair.startswith(begin)), None)


def _gpu(line: str) -> Gpu | None:
    fields = [field.strip() for field in line.split(",")]
    try:
        return Gpu(fields[0], fields[1], _number(fields[2]), _number(fields[3]))
    except IndexError:
        return None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:  # "[N/A]": a GPU that shares the machine's memory
        return 0.0


def ask(query: str) -> list[str]:
    """The rows that nvidia-smi answers with. Raises OSError or subprocess.SubprocessError."""
    command = ["nvidia-smi", query, "--format=csv,noheader,nounits"]
    asked = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=True)
    return [line for line in asked.stdout.splitlines() if line.strip()]
