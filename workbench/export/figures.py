"""The charts of a summary: each as text and as SVG."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from workbench import plot
from workbench.export.svg import HEIGHT, svg_chart
from workbench.plateau.diagnose import Diagnosis
from workbench.runs.history import History

_X = "steps"


@dataclass(frozen=True)
class Figure:
    """A chart. ``name`` ends its file's name, so it is a word of ours; ``lines``: its height as text."""

    name: str
    title: str
    series: tuple[plot.Series, ...]
    ylim: plot.Limits | None = None
    lines: int = 10

    def text(self) -> list[str]:
        """Lines of at most 76 cells, without colour."""
        title = f"{self.title} over {_X}"
        rows = plot.chart_rows(self.series, width=76, height=self.lines, title=title, ylim=self.ylim)
        return [line.rstrip() for line in plot.text_of(rows)]

    def svg(self) -> str:
        """A whole SVG document, or part of a page."""
        height = HEIGHT if self.lines > 12 else HEIGHT * 2 // 3
        return svg_chart(self.series, title=self.title, x_title=_X, height=height, ylim=self.ylim)


def figures(history: History, d: Diagnosis) -> Iterator[Figure]:
    """Loss, learning rate, gradient norm: those that the run tells of."""
    if (loss := _loss(history, d)) is not None:
        yield loss
    step = history.steps["step"]
    for name, title, column in (
        ("lr", "learning rate", "lr"),
        ("grad-norm", "gradient norm before clipping", "grad_norm"),
    ):
        values = history.steps[column]
        if np.isfinite(values).sum() >= 2:
            limits = plot.span(np.append(values, 0.0), clip=0.005, pad=0.05)
            yield Figure(name, title, (plot.Series(step.copy(), values.copy()),), (0.0, limits[1]))


def _loss(history: History, d: Diagnosis) -> Figure | None:
    series = []
    train, main = d.evidence.train, d.evidence.main
    for label, curve in (("train", train), ("held out", main if d.evidence.main_is_heldout else None)):
        if curve is not None and len(curve) >= 2:
            series.append(plot.Series(curve.step, curve.loss, label=label))
    seen = history.seen
    if len(seen) >= 2:
        series.append(plot.Series(seen["step"].copy(), seen["loss"].copy(), label="seen"))
    if not series:
        return None
    # From the end of the warm-up on: the fall from the initial loss would leave one row for all the rest.
    late = [c.between(d.evidence.warm, math.inf).loss for c in (main, train)]
    limits = plot.span(*late, pad=0.05) if len(late[0]) >= 2 else None
    return Figure("loss", "loss (nats per token)", tuple(series), limits, 18)
