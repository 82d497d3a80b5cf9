"""How fast this machine trains, by what its runs so far have reached: for devices whose peak no table has."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

from engine.events import number
from workbench.runs.machine import Machine
from workbench.runs.store import ends, is_run

_NEWEST = 30  # runs looked at


@dataclass(frozen=True)
class Pace:
    """FLOPs a second that training reached, and the run that did."""

    flops_per_second: float
    run: str


def pace(root: Path, here: Machine, parameters: int) -> Pace | None:
    """The pace of the run on this device whose model is nearest in size, of the newest; None where there is none."""
    try:
        folders = [Path(entry.path) for entry in os.scandir(root) if entry.is_dir() and is_run(Path(entry.path))]
        folders.sort(key=lambda folder: folder.stat().st_mtime, reverse=True)
    except OSError:
        return None
    found: list[tuple[float, Pace]] = []
    for folder in folders[:_NEWEST]:
        history = ends(folder)
        start, speed = history.start, history.steps.last("tokens_per_s")
        size, flops = number(start, "parameters"), number(start, "flops_per_token") * speed
        name = str(start.get("device_name") or "")
        if name and here.name.startswith(name) and start.get("device") == here.kind and flops > 0 and size > 0:
            found.append((abs(math.log(size / max(1, parameters))), Pace(flops, folder.name)))
    return min(found, key=lambda one: one[0])[1] if found else None
