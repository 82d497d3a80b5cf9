"""Several runs in one chart, and side by side in figures and configuration. Pure functions, run off the event loop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from engine.events import number
from workbench.plot import BLUE, PALETTE, FloatArray, Mark, Row, Series, chart_rows, span, steady
from workbench.runs.history import History
from workbench.runs.query import configuration
from workbench.runs.store import read_verdict, state_of
from workbench.screens.figures import CLIP, EARLY, Axes, View, smoothed, told
from workbench.screens.x_axis import XAxis, seconds
from workbench.text import plain
from workbench.widgets.format import UNKNOWN, count, duration, loss, rate

MEASURES = {
    "val": "val loss", "train": "train loss", "lr": "learning rate", "grad_norm": "grad norm",
    "tokens_per_s": "tokens/s",
}  # fmt: skip
_SHORTEST = 6  # cells of a run's name in the legend; with fewer, its colour must do


@dataclass(frozen=True)
class Compared:
    """A run in the comparison. ``colour``: its place in ``plot.PALETTE``, which it keeps."""

    run_dir: Path
    colour: int
    history: History


@dataclass(frozen=True)
class Overlay:
    """Which chart is wanted, how large, and how."""

    measure: str  # of MEASURES
    width: int
    height: int
    log_y: bool = False
    view: View = field(default_factory=View)


def aligned(runs: Sequence[Compared], name: str) -> list[XAxis | None]:
    """The axis ``name`` of each run, in one unit for all; None for a run that does not tell its place on it."""
    took = [seconds(run.history) for run in runs] if name == "time" else []
    longest = max((float(np.nanmax(rows)) for rows in took if rows is not None), default=0.0)
    axes = [XAxis.of(run.history, name, longest) for run in runs]
    return [axis if axis.name == name else None for axis in axes]


def draw(wanted: Overlay, runs: Sequence[Compared], axes: Axes) -> list[Row]:
    """Rows of the chart; ``axes`` is updated."""
    view = wanted.view
    placed = aligned(runs, view.x)
    known = [axis for axis in placed if axis is not None]
    end = max((axis.end for axis in known), default=1.0)
    first = min((float(axis.place(1.0)[0]) for axis in known), default=0.0) if view.log_x else 0.0
    axes.whole = (min(first, end / 10), end)
    axes.shown = axes.whole if view.window is None else view.window
    key = (wanted.measure, wanted.log_y, view.window, view.clip, view.x, view.log_x)
    if key != axes.key:
        axes.key, axes.y = key, None
    curves = [_curve(wanted.measure, run.history, axis, view) for run, axis in zip(runs, placed, strict=True)]
    read = [y[_counts(x, axes, view, wanted.log_y)] for x, y in curves]
    axes.y = steady(axes.y, span(*read, clip=CLIP if view.clip else 0.0, log=wanted.log_y))
    title, marks = f"{MEASURES[wanted.measure]} / {known[0].unit if known else view.x}", []
    if view.cursor is not None and known:
        title = f"{MEASURES[wanted.measure]} @ {known[0].told(view.cursor)}"
        marks.append(Mark(view.cursor, "", BLUE))
    room = (wanted.width - len(title)) // max(1, len(runs)) - 11
    series = []
    for run, (x, y) in zip(runs, curves, strict=True):
        name = plain(run.run_dir.name)
        name = name if len(name) <= room else name[: room - 1] + "…" if room >= _SHORTEST else ""
        value = told("", x, y, view.cursor).strip() if len(x) else "?"
        series.append(Series(x, y, f"{name} {value}".strip(), PALETTE[run.colour % len(PALETTE)]))
    return chart_rows(
        series, width=wanted.width, height=wanted.height, title=title, log_x=view.log_x, log_y=wanted.log_y,
        xlim=axes.shown, ylim=axes.y, marks=marks,
    )  # fmt: skip


def _curve(measure: str, history: History, axis: XAxis | None, view: View) -> tuple[FloatArray, FloatArray]:
    if axis is None:
        return np.empty(0), np.empty(0)
    if measure == "val":
        return axis.place(history.val["step"]), history.val["loss"]
    values = history.steps["loss" if measure == "train" else measure]
    # The rate is never averaged: a constant one must look constant.
    return axis.rows, values if measure == "lr" else smoothed(values, history, view)


def _counts(x: FloatArray, axes: Axes, view: View, log_y: bool) -> FloatArray:
    """Whether each point has a say in the y axis: what is zoomed to; else all but the steep beginning, which would
    press the rest flat. Of a run much shorter than the axis its second half has one."""
    low, high = (axes.shown[0], axes.shown[1]) if view.window is not None else (-math.inf, math.inf)
    if view.window is None and view.clip and not log_y and not view.log_x and np.isfinite(x).any():
        low = min(EARLY * axes.whole[1], float(np.nanmax(x)) / 2)
    return np.asarray((x >= low) & (x <= high))


def side_by_side(runs: Sequence[Compared], name: str = "step") -> dict[str, list[str]]:
    """Figures of each run, then the options in which their configurations differ: name → a cell a run. ``name``: the
    x axis on which their held-out losses are held against each other, at the last place that all have reached."""
    rows: dict[str, list[str]] = {}
    for run in runs:
        for label, value in _figures(run).items():
            rows.setdefault(label, []).append(value)
    placed = aligned(runs, name)
    curves = [_curve("val", run.history, axis, View()) for run, axis in zip(runs, placed, strict=True)]
    reached = [float(np.nanmax(x)) for x, y in curves if np.isfinite(x[np.isfinite(y)]).any()]
    if len(reached) == len(runs) and min(reached) > 0:
        where = next(axis.told(min(reached)) for axis in placed if axis is not None)
        rows[f"val at {where}"] = [loss(_at(x, y, min(reached))) for x, y in curves]
    configurations = [
        {f"{s}.{k}": str(v) for s, options in configuration(run.run_dir).items() if isinstance(options, dict)
         for k, v in options.items()}
        for run in runs
    ]  # fmt: skip
    for key in sorted(set().union(*configurations)):
        values = [c.get(key, UNKNOWN) for c in configurations]
        if len(set(values)) > 1:
            rows[key] = values
    return rows


def _figures(run: Compared) -> dict[str, str]:
    history = run.history
    losses = history.val["loss"][np.isfinite(history.val["loss"])]
    speed = history.steps["tokens_per_s"][np.isfinite(history.steps["tokens_per_s"])]
    epochs, rates = history.steps.last("epoch"), history.steps["lr"]
    return {
        "state": state_of(run.run_dir, history),
        "step": f"{history.step:,}" + (f"/{history.max_steps:,}" if history.max_steps else ""),
        "val loss": loss(history.val.last("loss")),
        "best val loss": loss(float(losses.min()) if len(losses) else None),
        "verdict": plain((read_verdict(run.run_dir) or UNKNOWN).replace("_", " ")),
        "parameters": count(number(history.start, "parameters")),
        "tokens": count(history.steps.last("tokens")),
        "epochs": UNKNOWN if math.isnan(epochs) else f"{epochs:.2f}",
        "tokens/s (median)": count(float(np.median(speed)) if len(speed) else None),
        "highest lr": rate(float(np.nanmax(rates)) if np.isfinite(rates).any() else None),
        "wall time": duration(history.last_time - number(history.start, "time")),
        "device": plain(history.start.get("device_name") or UNKNOWN),
    }


def _at(x: FloatArray, y: FloatArray, place: float) -> float:
    """A curve's value there, between its points."""
    known = np.isfinite(x) & np.isfinite(y)
    return float(np.interp(place, x[known], y[known])) if known.any() else math.nan
