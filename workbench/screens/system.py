"""What the system pane of the Run screen shows of a history: card, host, the step's time, and the disk."""

from __future__ import annotations

import contextlib
import math
import shutil
from pathlib import Path

import numpy as np

from engine import process
from engine.events import number
from workbench.runs.columns import FloatArray
from workbench.runs.history import History
from workbench.widgets.format import count, duration, share, size
from workbench.widgets.system_pane import Gauge

_RECENT = 50  # steps whose medians are told
_TREND = 40  # looks at the machine that are drawn
_COARSE = 1 << 28  # bytes of the disk below which nothing new is said


def gauges(history: History, run_dir: Path, state: str) -> tuple[Gauge, ...]:
    """What is known, in the order in which it is shown; what the run does not tell is left out."""
    found = [*_machine(history), *_step(history)]
    if saved := [c for c in history.checkpoints if math.isfinite(number(c, "step"))]:
        found.append(Gauge("checkpoints", f"{len(saved)}, the newest of step {number(saved[-1], 'step'):,.0f}"))
    with contextlib.suppress(OSError):
        disk = shutil.disk_usage(run_dir)
        free = disk.free // _COARSE * _COARSE
        found.append(Gauge("disk", f"{size(free)} free of {size(disk.total)}", 1 - free / disk.total, high=True))
    known = process.read(run_dir)
    if state == "running" and known is not None:
        found.append(Gauge("process", f"{known.get('pid')} on {known.get('host')}"))
    return tuple(found)


def _machine(history: History) -> list[Gauge]:
    """From the ``system`` events; of a run that ended, how it was at last."""
    event, looks, found = history.system, history.systems, list[Gauge]()

    def add(label: str, name: str, told: str, whole: float = math.nan) -> None:
        value = number(event, name)
        if math.isfinite(value):
            recent = tuple(looks[name][-_TREND:].tolist()) if name in looks.fields else ()
            shown = size(value) if told == "bytes" else told.format(value)
            found.append(Gauge(label, shown, value / whole, recent))

    card = math.isfinite(number(event, "gpu_utilisation"))
    add("GPU", "gpu_utilisation", "{:.0f}%", 100.0)
    add("power", "gpu_power", "{:.0f} W")
    add("temperature", "gpu_temperature", "{:.0f} °C")
    if card:  # without one, both are what the process holds
        add("card memory", "memory_used", "bytes")
    add("CPU", "cpu_percent", "{:.0f}% of a core")
    add("host memory", "memory_host", "bytes")
    return found


def _step(history: History) -> list[Gauge]:
    """From the newest steps: what one takes, how much of it waits for data, and what the model makes of the card."""
    steps = history.steps

    def recent(name: str) -> FloatArray:
        values = steps[name][-_RECENT:]
        return values[np.isfinite(values)]

    found = []
    if len(times := recent("step_time")):
        waits = recent("data_wait")
        waited = float(waits.sum() / times.sum()) if len(waits) == len(times) and times.sum() > 0 else math.nan
        median = float(np.median(times))
        told = duration(median) if median >= 60 else f"{median:.3g} s"
        found.append(Gauge("a step", told, recent=tuple(times[-_TREND:].tolist())))
        if math.isfinite(waited):
            found.append(Gauge("data wait", f"{waited:.1%} of it", waited, high=True))
    if len(speed := recent("tokens_per_s")):
        found.append(Gauge("tokens/s", count(float(np.median(speed))), recent=tuple(speed[-_TREND:].tolist())))
    if len(mfu := recent("mfu")):
        found.append(Gauge("MFU", share(float(np.median(mfu))), float(np.median(mfu))))
    if math.isfinite(memory := steps.last("memory")):
        found.append(Gauge("run's memory", size(memory)))
    return found
