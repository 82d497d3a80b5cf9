"""Runs side by side: one chart of all, how each ended, and where their configurations differ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.screen import ModalScreen
from textual.widgets import Static

from workbench.plot import PALETTE, Limits, Row, Series, chart_rows, ema, span
from workbench.runs.follow import read_whole
from workbench.runs.history import History
from workbench.runs.query import configuration
from workbench.screens.figures import smoothing
from workbench.screens.x_axis import AXES, XAxis
from workbench.text import plain
from workbench.widgets.chart import ChartView
from workbench.widgets.format import UNKNOWN, count, duration, loss, rate
from workbench.widgets.table import Column, Table

MOST = len(PALETTE)  # runs that colours can tell apart
_FIGURES = ("val", "train", "lr", "grad_norm", "tokens_per_s")
_HELP = "a x axis  v figure  L log y  esc back"


class CompareScreen(ModalScreen[None]):
    """Compares run directories, in the order in which they were marked; a run keeps its colour."""

    BINDINGS = [
        Binding("escape,q,c", "dismiss", "back"),
        Binding("a", "x_axis", "x axis"),
        Binding("v", "figure", "figure"),
        Binding("L", "log_y", "log y"),
    ]
    DEFAULT_CSS = """
    CompareScreen { background: $background; layout: vertical; }
    CompareScreen #compare-chart { height: 1fr; padding: 0 1; }
    CompareScreen #compare-table { height: 1fr; border-top: hkey $foreground 20%; }
    CompareScreen #compare-keys { height: 1; padding: 0 1; background: $panel; }
    """

    def __init__(self, runs: Sequence[Path]) -> None:
        super().__init__()
        self.runs = list(runs)[:MOST]
        self.histories: list[History] = []
        self.x, self.figure, self.log_y = "step", "val", False

    def compose(self) -> ComposeResult:
        """Chart, table, keys."""
        yield ChartView(id="compare-chart", hint="reading the runs …")
        columns = [Column("what", "", 22), *(Column(str(i), run.name) for i, run in enumerate(self.runs))]
        yield Table(columns, id="compare-table")
        yield Static(_HELP, id="compare-keys", markup=False)

    def on_mount(self) -> None:
        """Read the runs."""
        self.query_one(Table).focus()
        self._read()

    @work(thread=True, group="compare", exit_on_error=False)
    def _read(self) -> None:
        histories = [read_whole(run) for run in self.runs]
        self.app.call_from_thread(self._have, histories)

    def _have(self, histories: list[History]) -> None:
        self.histories = histories
        rows = compare(self.runs, histories)
        self.query_one(Table).show({name: [Text(name, "bold"), *values] for name, values in rows.items()})
        self._draw()

    @on(ChartView.Resized)
    def _resized(self) -> None:
        self._draw()

    def _draw(self) -> None:
        view = self.query_one("#compare-chart", ChartView)
        if self.histories and view.size:
            names = [run.name for run in self.runs]
            view.show(
                overlay(names, self.histories, self.figure, self.x, self.log_y, view.size.width, view.size.height)
            )

    def action_x_axis(self) -> None:
        """The next x axis."""
        self.x = AXES[(AXES.index(self.x) + 1) % len(AXES)]
        self._draw()

    def action_figure(self) -> None:
        """The next figure."""
        self.figure = _FIGURES[(_FIGURES.index(self.figure) + 1) % len(_FIGURES)]
        self._draw()

    def action_log_y(self) -> None:
        """Toggle the logarithmic y axis."""
        self.log_y = not self.log_y
        self._draw()


def overlay(
    names: Sequence[str], histories: Sequence[History], figure: str, x: str, log_y: bool, width: int, height: int
) -> list[Row]:
    """One figure of several runs on one x axis: a colour a run, by its place in the list."""
    series, ends, ys = [], [1e-9], []
    for name, history, rgb in zip(names, histories, PALETTE, strict=False):
        axis = XAxis.of(history, x)
        if figure == "val":
            at, values = axis.place(history.val["step"]), history.val["loss"]
        else:
            column = "loss" if figure == "train" else figure
            at, values = axis.rows, history.steps[column]
            values = values if column == "lr" else ema(values, smoothing(history))
        if len(at) and np.isfinite(at).any():
            ends.append(float(np.nanmax(at)))
            ys.append(values[at >= ends[-1] / 10] if not log_y else values)
        series.append(Series(at, values, plain(name), rgb))
    title = {"val": "val loss", "train": "train loss", "lr": "learning rate"}.get(figure, figure.replace("_", " "))
    limits: Limits = span(*ys, clip=0.005, log=log_y) if ys else (0.0, 1.0)
    end = max(ends)
    return chart_rows(
        series, width=width, height=height, title=f"{title} / {x}", log_y=log_y, xlim=(0.0, end), ylim=limits
    )


def compare(runs: Sequence[Path], histories: Sequence[History]) -> dict[str, list[str]]:
    """Figures of each run, then the options in which their configurations differ: name → a cell a run."""
    rows: dict[str, list[str]] = {}
    for history in histories:
        losses = history.val["loss"][np.isfinite(history.val["loss"])]
        took = history.last_time - _number(history.start.get("time"))
        speed = history.steps["tokens_per_s"][np.isfinite(history.steps["tokens_per_s"])]
        for name, value in {
            "step": f"{history.step:,}" + (f"/{history.max_steps:,}" if history.max_steps else ""),
            "val loss": loss(history.val.last("loss")),
            "best val loss": loss(float(losses.min()) if len(losses) else None),
            "parameters": count(_number(history.start.get("parameters"))),
            "tokens": count(history.steps.last("tokens")),
            "epochs": UNKNOWN if math.isnan(e := history.steps.last("epoch")) else f"{e:.2f}",
            "tokens/s (median)": count(float(np.median(speed)) if len(speed) else None),
            "highest lr": rate(float(np.nanmax(lr)) if np.isfinite(lr := history.steps["lr"]).any() else None),
            "wall time": duration(took),
            "device": plain(history.start.get("device_name") or UNKNOWN),
        }.items():
            rows.setdefault(name, []).append(value)
    configurations = [
        {f"{s}.{k}": str(v) for s, options in configuration(run).items() if isinstance(options, dict)
         for k, v in options.items()}
        for run in runs
    ]  # fmt: skip
    for key in sorted(set().union(*configurations)):
        values = [c.get(key, UNKNOWN) for c in configurations]
        if len(set(values)) > 1:
            rows[key] = values
    return rows


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else math.nan
