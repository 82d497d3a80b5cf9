"""What the Run screen shows of a history: its charts and its figures. Pure functions, run off the event loop."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from engine.events import number
from workbench.plot import (
    BLUE,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    FloatArray,
    Limits,
    Mark,
    Row,
    Series,
    canvas,
    chart_rows,
    ema,
    span,
    steady,
)
from workbench.runs.history import Columns, History, stalled_for
from workbench.screens.x_axis import XAxis, horizon, marks, phases
from workbench.text import plain
from workbench.widgets.format import size
from workbench.widgets.run_header import RunStatus

__all__ = [
    "CLIP", "EARLY", "FIGURES", "Axes", "Request", "View", "draw", "horizon", "smoothed", "smoothing", "status", "told",
]  # fmt: skip

CLIP = 0.005  # share of the values that may lie outside an axis if they are far out
EARLY = 1 / 8  # the first part of a linear loss axis may lie above it, once twice as much has been trained
_RECENT = 50  # steps whose time predicts the rest
NO_SMOOTHING = -5


@dataclass(frozen=True)
class View:
    """How charts are looked at, all charts of a screen alike.

    Attributes:
        x: the x axis, one of ``x_axis.AXES``; log_x: logarithmic.
        smooth: doublings of the average's half-life; ``NO_SMOOTHING``: none.
        clip: leave far outliers outside the y axis.
        window: what is zoomed to, on the x axis; None: all.
        cursor: place on the x axis whose values are told; None: the newest.
        plateau: step since which the run is flat.
    """

    x: str = "step"
    log_x: bool = False
    smooth: int = 0
    clip: bool = True
    window: Limits | None = None
    cursor: float | None = None
    plateau: float | None = None


@dataclass(frozen=True)
class Figure:
    """A figure of one column of the steps, or of the system's events."""

    title: str
    column: str
    scale: float = 1.0
    system: bool = False
    smooth: bool = True
    from_zero: bool = True


FIGURES: dict[str, Figure | None] = {
    "loss": None,  # more than one column
    "lr": Figure("learning rate", "lr", smooth=False),  # a constant rate must look constant
    "grad_norm": Figure("grad norm", "grad_norm", from_zero=False),
    "speed": Figure("tokens/s", "tokens_per_s"),
    "mfu": Figure("MFU %", "mfu", 100.0),
    "memory": Figure("memory GiB", "memory", 2.0**-30, smooth=False),
    "gpu": Figure("GPU %", "gpu_utilisation", system=True, smooth=False),
    "power": Figure("GPU power W", "gpu_power", system=True, smooth=False),
}


@dataclass(frozen=True)
class Request:
    """Which chart is wanted, how large, and how."""

    figure: str  # of FIGURES
    width: int
    height: int
    log_y: bool = False
    view: View = View()


@dataclass
class Axes:
    """The axes a chart had last, so that they hold still (one a chart). ``shown``: x limits drawn; ``whole``: all."""

    y: Limits | None = None
    key: tuple[object, ...] = field(default=())
    shown: Limits = (0.0, 1.0)
    whole: Limits = (0.0, 1.0)


def draw(request: Request, history: History, axes: Axes) -> list[Row]:
    """Rows of the wanted chart, none while there is nothing to draw; ``axes`` is updated."""
    if not len(history.steps) and (request.figure != "loss" or not any(map(len, history.evals.values()))):
        return []
    view = request.view
    axis = XAxis.of(history, view.x)
    # A logarithmic axis begins where there is something: at the first step.
    first = float(axis.place(1.0)[0]) if view.log_x else 0.0
    axes.whole = (min(first, axis.end / 10), axis.end)
    axes.shown = axes.whole if view.window is None else view.window
    key = (request.log_y, view.window, view.clip, axis.name, view.log_x)
    if key != axes.key:
        axes.key, axes.y = key, None
    figure = FIGURES.get(request.figure)
    return _loss(request, history, axis, axes) if figure is None else _one(figure, request, history, axis, axes)


def smoothing(history: History) -> float:
    """Half-life of the train loss's average, in steps recorded: about a hundredth of the plan, 5 at least."""
    steps = len(history.steps)
    planned = steps * (history.max_steps or history.step) / max(1, history.step)
    return max(5.0, max(planned, steps) / 100)


def _loss(request: Request, history: History, axis: XAxis, axes: Axes) -> list[Row]:
    steps, view = history.steps, request.view
    smooth = smoothed(steps["loss"], history, view)
    val, seen = ((axis.place(e["step"]), e["loss"], e["se"]) for e in (history.val, history.seen))
    curves = [(axis.rows, smooth), *((x, y) for x, y, _ in (val, seen))]
    # The axis is that of the averages and evaluations; the raw loss may reach beyond it. The steep beginning would
    # press the rest flat: it is left to the logarithmic axis, which shows everything.
    early = 0.0
    if view.window is None and view.clip and not request.log_y and not view.log_x:
        early = EARLY * axis.end if axis.at[-1] >= 2 * EARLY * axis.end else 0.0
    axes.y = steady(axes.y, _limits(curves, axes.shown, view, request.log_y, early))
    raw_x, raw_y = _envelope(steps, axis.rows, "loss")
    series = [
        Series(raw_x, raw_y, "", GREY),
        Series(axis.rows, smooth, told("train", axis.rows, smooth, view.cursor), SKY),
    ]
    if len(seen[0]):
        series.append(Series(seen[0], seen[1], told("seen", seen[0], seen[1], view.cursor), PURPLE, aside=True))
    style: Literal["both", "line"] = "both" if len(val[0]) < 40 else "line"
    series.append(Series(val[0], val[1], told("val", val[0], val[1], view.cursor), ORANGE, style, val[2]))
    return _chart("loss", series, request, history, axis, axes)


def _one(figure: Figure, request: Request, history: History, axis: XAxis, axes: Axes) -> list[Row]:
    view = request.view
    if figure.system:
        times, known = history.steps["time"], history.systems
        order = np.isfinite(times) & np.isfinite(axis.rows)
        if not order.any():
            return []
        # System events know the time alone; clocks may have been set back in between.
        x = np.interp(known["time"], np.maximum.accumulate(times[order]), axis.rows[order])
        y = raw_y = known[figure.column] * figure.scale
        raw_x = x
    else:
        x, y = axis.rows, history.steps[figure.column] * figure.scale
        raw_x, raw_y = _envelope(history.steps, x, figure.column)
        raw_y = raw_y * figure.scale
    if not np.isfinite(y).any():
        return []
    series = []
    if figure.smooth and view.smooth > NO_SMOOTHING:
        y = smoothed(y, history, view)
        series.append(Series(raw_x, raw_y, "", GREY))
    wanted = _limits([(x, y), (raw_x, raw_y)], axes.shown, view, request.log_y, 0.0)
    if figure.from_zero and not request.log_y and view.window is None:
        top = wanted[1] if figure.smooth and view.clip else 1.05 * float(np.nanmax(y))
        wanted = (0.0, top if top > 0 else 1.0)
    axes.y = steady(axes.y, wanted)
    value = told("", x, y, view.cursor).strip()
    series.append(Series(x, y, value if figure.column != "lr" or view.cursor is not None else "", SKY))
    return _chart(figure.title + _clipped(figure, history), series, request, history, axis, axes)


def _clipped(figure: Figure, history: History) -> str:
    """Behind the gradient's norm the share of steps that were clipped; "" where none was, or none is known."""
    if figure.column != "grad_norm":
        return ""
    clipped = history.steps["clipped"]
    known = clipped[np.isfinite(clipped)]
    return f", {known.mean():.0%} of steps clipped" if known.any() else ""


def _chart(title: str, series: list[Series], request: Request, history: History, axis: XAxis, axes: Axes) -> list[Row]:
    view, cells = request.view, canvas(request.width)[1]
    first_look = f", 1 step in {history.one_in}" if history.one_in > 1 else ""
    found = marks(history, axis, cells, view.plateau) if title == "loss" else []
    found += phases(history, axis) if title == "learning rate" else []
    if view.cursor is not None:
        found.append(Mark(view.cursor, "", BLUE))
        title += f" @ {axis.told(view.cursor)}"
    elif axis.name != "step":
        title += f" / {axis.unit}"
    return chart_rows(
        series,
        width=request.width,
        height=request.height,
        title=title + first_look,
        log_x=view.log_x,
        log_y=request.log_y,
        xlim=axes.shown,
        ylim=axes.y,
        marks=found,
    )


def smoothed(values: FloatArray, history: History, view: View) -> FloatArray:
    """Averaged over what was recorded, before anything is thinned."""
    return ema(values, 0.0 if view.smooth <= NO_SMOOTHING else smoothing(history) * 2.0**view.smooth)


def _envelope(steps: Columns, x: FloatArray, column: str) -> tuple[FloatArray, FloatArray]:
    """A column as it was recorded; where a row stands for several steps, the smallest and the largest of them."""
    if getattr(steps, "stride", 1) == 1 or f"{column}_min" not in steps.fields:
        return x, steps[column]
    return np.repeat(x, 2), np.stack([steps[f"{column}_min"], steps[f"{column}_max"]], axis=1).ravel()


def _limits(curves: list[tuple[FloatArray, FloatArray]], shown: Limits, view: View, log: bool, early: float) -> Limits:
    low = max(early, shown[0]) if view.window is not None or early else -math.inf
    high = shown[1] if view.window is not None else math.inf
    read = [y[(x >= low) & (x <= high)] for x, y in curves]
    return span(*read, clip=CLIP if view.clip else 0.0, log=log)


def told(name: str, x: FloatArray, y: FloatArray, cursor: float | None) -> str:
    """A curve's legend: its newest value, or the one nearest to the cursor."""
    known = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    if not len(known):
        return name
    at = known[-1] if cursor is None else known[np.argmin(np.abs(x[known] - cursor))]
    value = float(y[at])
    if abs(value) >= 1000:
        return f"{name} {value:,.0f}"
    return f"{name} {value:.3f}" if name or 0.01 <= abs(value) < 10 else f"{name} {value:.3g}"


def status(history: History, name: str, state: str, reading: float | None = None, now: float = math.nan) -> RunStatus:
    """The figures of the header; ``reading``: the share that is read of a run of which a first look is shown; ``now``:
    Unix seconds, by which it stalls."""
    steps, val = history.steps, history.val
    smooth = math.nan
    if len(steps):
        recent = steps["loss"][-2000:]
        average = ema(recent, smoothing(history))
        finite = average[np.isfinite(average)]
        smooth = float(finite[-1]) if len(finite) else math.nan
    times = steps["step_time"][-_RECENT:]
    times = times[np.isfinite(times)]
    eta = math.nan
    if len(times) and history.max_steps:
        eta = float(np.median(times)) * max(0, history.max_steps - history.step)
    speed = steps["tokens_per_s"][-_RECENT:]
    speed = speed[np.isfinite(speed)]
    finite_val = val["loss"][np.isfinite(val["loss"])]
    silent = stalled_for(history, now) if state == "running" and reading is None else 0.0
    return RunStatus(
        name=name,
        state=state,
        step=history.step,
        max_steps=history.max_steps,
        train_loss=smooth,
        val_loss=val.last("loss"),
        val_se=val.last("se"),
        bits_per_byte=val.last("bpb"),
        best_val=float(finite_val.min()) if len(finite_val) else math.nan,
        lr=steps.last("lr"),
        epoch=steps.last("epoch"),
        tokens_per_s=float(np.median(speed)) if len(speed) else math.nan,
        mfu=steps.last("mfu"),
        memory=steps.last("memory"),
        eta=eta,
        device=plain(history.start.get("device_name") or history.start.get("device") or ""),
        doing=_doing(history, state) if reading is None else _first_look(history, reading),
        reading=reading is not None,
        system=_system(history.system) if state == "running" else "",
        stalled=silent // 60 * 60,  # said anew each minute
        lost=bool(len(steps)) and not math.isfinite(steps.last("loss")),
    )


def _system(event: dict[str, Any]) -> str:
    """A ``system`` event as a line; what the machine does not tell is left out."""
    shown = (
        ("GPU", "gpu_utilisation", lambda v: f"{v:.0f}%"),
        ("", "gpu_power", lambda v: f"{v:.0f} W"),
        ("", "gpu_temperature", lambda v: f"{v:.0f} °C"),
        ("card memory", "memory_used", size),
        ("CPU", "cpu_percent", lambda v: f"{v:.0f}%"),
        ("host memory", "memory_host", size),
    )
    if not math.isfinite(number(event, "gpu_utilisation")):  # on a CPU both are the resident bytes
        event = {key: value for key, value in event.items() if key != "memory_used"}
    values = [(label, number(event, key), show) for label, key, show in shown]
    return "  ".join(f"{label} {show(value)}".strip() for label, value, show in values if math.isfinite(value))


def _first_look(history: History, reading: float) -> str:
    return f"a first look, 1 step in {history.one_in}; read so far {min(1.0, reading):.0%}"


def _doing(history: History, state: str) -> str:
    if history.stop is not None and state in ("failed", "stopped"):
        return plain(history.stop.get("text") or "")[:200]
    if state == "running" and not len(history.steps):
        phase = history.phases[-1].get("name") if history.phases else None
        return f"{plain(phase)} done, first step to come" if phase else "starting"
    return ""
