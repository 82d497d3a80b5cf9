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
    """From the ``system`` events; of a run that ended, how it was at last. Without a card, only the host is known."""
    event, found = history.system, list[Gauge]()

    def value(name: str) -> float:
        return number(event, name)

    def trend(name: str) -> tuple[float, ...]:
        return tuple(history.systems[name][-_TREND:].tolist())

    card = math.isfinite(value("gpu_utilisation"))
    if card:
        share_used = value("gpu_utilisation") / 100
        found.append(Gauge("GPU", share(share_used), share_used, trend("gpu_utilisation")))
    if math.isfinite(value("gpu_power")):
        heat = value("gpu_temperature")
        told = f"{value('gpu_power'):.0f} W" + (f" at {heat:.0f} °C" if math.isfinite(heat) else "")
        found.append(Gauge("power", told, recent=trend("gpu_power")))
    used = [(value("memory_used"), "of the card")] if card else []  # without one, it is the process's
    used.append((history.steps.last("memory"), "the run's"))
    if known := [f"{size(amount)} {what}" for amount, what in used if math.isfinite(amount)]:
        found.append(Gauge("memory", ", ".join(known), recent=trend("memory_used")))
    host = [f"CPU {value('cpu_percent'):.0f}%"] if math.isfinite(value("cpu_percent")) else []
    host += [f"memory {size(value('memory_host'))}"] if math.isfinite(value("memory_host")) else []
    if host:
        found.append(Gauge("host", ", ".join(host), recent=trend("cpu_percent")))
    return found


def _step(history: History) -> list[Gauge]:
    """From the newest steps: what one takes, how much of it waits for data, and what the model makes of the card."""

    def recent(name: str) -> FloatArray:
        values = history.steps[name][-_RECENT:]
        return values[np.isfinite(values)]

    found, times, waits = list[Gauge](), recent("step_time"), recent("data_wait")
    if len(times):
        median = float(np.median(times))
        told = duration(median) if median >= 60 else f"{median:.3g} s"
        if len(waits) == len(times) and times.sum() > 0:
            told += f", {float(waits.sum() / times.sum()):.1%} of it waiting for data"
        found.append(Gauge("a step", told, recent=tuple(times[-_TREND:].tolist())))
    if len(speed := recent("tokens_per_s")):
        mfu = float(np.median(recent("mfu"))) if len(recent("mfu")) else math.nan
        told = count(float(np.median(speed))) + (f", MFU {share(mfu)}" if math.isfinite(mfu) else "")
        found.append(Gauge("tokens/s", told, mfu, tuple(speed[-_TREND:].tolist())))
    return found
