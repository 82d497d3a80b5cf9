"""How charts are looked at, by keys and mouse: zoom, cursor, axes, smoothing, a grid of all or one alone.

All charts of the screen share one view, so that zoom and cursor are the same in each (terminalboard's linked cursor;
the wheel zooms about the pointer as in W&B LEET). What is zoomed to stays while data come.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from textual import on
from textual.app import ComposeResult
from textual.containers import Container
from textual.widget import Widget

from workbench.plot import Limits
from workbench.screens.base import WorkbenchScreen
from workbench.screens.feed import FigureDrawn, RunFeed
from workbench.screens.figures import FIGURES, NO_SMOOTHING, Request, View
from workbench.screens.x_axis import AXES
from workbench.widgets.chart import ChartView

_ZOOM = 0.6  # of the width that is left after zooming in once
_CLOSEST = 1e-4  # of the whole axis
_ROUGHEST, _SMOOTHEST = NO_SMOOTHING, 5
_LOG_FIGURES = ("loss", "grad_norm")


class ChartKeys(WorkbenchScreen):
    """A screen with charts; its ``feed`` draws them."""

    feed: RunFeed | None

    def __init__(self) -> None:
        super().__init__()
        self.view = View()
        self.log_y = False
        self._shown: Limits | None = None
        self._whole: Limits = (0.0, 1.0)

    def grid(self) -> ComposeResult:
        """All charts; hidden at first."""
        with Container(id="grid"):
            for name in FIGURES:
                yield ChartView(id=f"grid-{name}", hint="")

    def look(self, **changes: Any) -> None:
        """Change the view and draw again."""
        view = dataclasses.replace(self.view, **changes)
        if view != self.view:
            self.view = view
            self.want_all()
            self.layout_changed()

    def layout_changed(self) -> None:
        """Called after a change of how charts are looked at; subclasses may remember it."""

    def looks(self) -> dict[str, Any]:
        """How charts are looked at, as JSON; what belongs to one run (zoom, cursor) is left out."""
        view = self.view
        return {
            "x": view.x, "log_x": view.log_x, "smooth": view.smooth, "clip": view.clip, "log_y": self.log_y,
            "grid": self.has_class("-grid"), "alone": self._alone(),
        }  # fmt: skip

    def take_looks(self, known: Mapping[str, Any]) -> None:
        """Look as ``looks`` said; values of another kind are skipped: the file is anybody's."""
        flags = {name: known[name] for name in ("log_x", "clip") if isinstance(known.get(name), bool)}
        if known.get("x") in AXES:
            flags["x"] = known["x"]
        if type(smooth := known.get("smooth")) is int and _ROUGHEST <= smooth <= _SMOOTHEST:
            flags["smooth"] = smooth
        self.view = dataclasses.replace(self.view, **flags)
        self.log_y = known.get("log_y") is True
        if known.get("grid") is True:
            alone = next((name for name in FIGURES if name == known.get("alone")), None)
            self.add_class("-grid")
            self.set_class(alone is not None, "-full")
            chart = self.query_one(f"#grid-{alone or 'loss'}", ChartView)
            chart.set_class(alone is not None, "-alone")
            chart.focus()

    def _alone(self) -> str | None:
        """Name of the grid's chart that is alone on the screen."""
        if not (self.has_class("-grid") and self.has_class("-full")):
            return None
        return next((str(chart.id).removeprefix("grid-") for chart in self.query("ChartView.-alone")), None)

    def drawn(self, message: FigureDrawn) -> None:
        """Note what a chart shows; a figure that the run does not report leaves the grid."""
        self._shown, self._whole = message.shown, message.whole
        if message.name.startswith("grid-") and not message.rows and self._loss_is_drawn():
            self.query_one(f"#{message.name}", ChartView).add_class("-absent")

    def forget_charts(self) -> None:
        """Another run: empty charts, the whole of it."""
        self.view = dataclasses.replace(self.view, window=None, cursor=None, plateau=None)
        for chart in self.query(ChartView):
            chart.remove_class("-absent")
            chart.show([])

    def want(self, chart: ChartView) -> None:
        """Have a chart drawn as large as it is, or no longer if it is hidden."""
        if self.feed is None or chart.id is None:
            return
        hidden = any(isinstance(node, Widget) and not node.display for node in chart.ancestors_with_self)
        request = None
        if not hidden and chart.size:
            figure = chart.id.removeprefix("grid-")
            log_y = self.log_y and figure in _LOG_FIGURES
            request = Request(figure, chart.size.width, chart.size.height, log_y, self.view)
        self.feed.want(chart.id, request)

    def want_all(self) -> None:
        """As ``want``, for every chart."""
        for chart in self.query(ChartView):
            self.want(chart)

    @on(ChartView.Wheel)
    def _wheel(self, message: ChartView.Wheel) -> None:
        if message.across:
            self.action_pan(message.turns)
        elif self._shown is not None:
            self._zoom(message.turns, self._value(message.at))

    @on(ChartView.Pointed)
    def _pointed(self, message: ChartView.Pointed) -> None:
        if self._shown is not None:
            self.look(cursor=self._value(message.at))

    def action_charts(self) -> None:
        """All charts in a grid, or the panes."""
        grid = self.toggle_class("-grid").has_class("-grid")
        self.remove_class("-full", "-full-loss")
        self.query_one("#grid-loss" if grid else "#loss", ChartView).focus()
        self.call_after_refresh(self.want_all)
        self.layout_changed()

    def next_chart(self, direction: int) -> None:
        """Focus the next chart of the grid; alone if one is alone."""
        charts = [chart for chart in self.query_one("#grid").query(ChartView) if not chart.has_class("-absent")]
        here = next((i for i, chart in enumerate(charts) if chart is self._current()), 0)
        chosen = charts[(here + direction) % len(charts)]
        for chart in charts:
            chart.set_class(chart is chosen, "-alone")
        self.call_after_refresh(chosen.focus)
        self.call_after_refresh(self.want_all)
        self.layout_changed()

    def alone(self) -> None:
        """The focused chart of the grid alone, or all of them."""
        current = self._current()
        for chart in self.query_one("#grid").query(ChartView):
            chart.set_class(chart is current, "-alone")
        self.toggle_class("-full")
        self.call_after_refresh(self.want_all)
        self.layout_changed()

    def action_log_y(self) -> None:
        """Toggle the logarithmic loss axis."""
        self.log_y = not self.log_y
        self.want_all()
        self.layout_changed()

    def action_log_x(self) -> None:
        """Toggle the logarithmic x axis."""
        self.look(log_x=not self.view.log_x, window=None)

    def action_x_axis(self) -> None:
        """The next x axis; zoom and cursor were places on the old one."""
        self.look(x=AXES[(AXES.index(self.view.x) + 1) % len(AXES)], window=None, cursor=None)

    def action_smooth(self, direction: int) -> None:
        """Double or halve the half-life of the averages."""
        self.look(smooth=min(_SMOOTHEST, max(_ROUGHEST, self.view.smooth + direction)))

    def action_clip(self) -> None:
        """Toggle the clipping of outliers."""
        self.look(clip=not self.view.clip)

    def action_whole(self) -> None:
        """Show everything."""
        self.look(window=None, cursor=None)

    def action_zoom(self, direction: int) -> None:
        """Zoom in (-1) or out (1), about the cursor or the middle of what is shown."""
        if self._shown is not None:
            self._zoom(direction, self._value(0.5) if self.view.cursor is None else self.view.cursor)

    def action_pan(self, direction: int) -> None:
        """Move what is zoomed to by a quarter of its width."""
        if self._shown is not None and self.view.window is not None:
            low, high = self._scaled(self._shown)
            first, last = self._scaled(self._whole)
            shift = direction * (high - low) / 4
            shift = min(last - high, shift) if direction > 0 else max(first - low, shift)
            self.look(window=self._back(low + shift, high + shift))

    def action_cursor(self, direction: int) -> None:
        """Move the cursor by a hundredth of what is shown; it begins in the middle."""
        if self._shown is None:
            return
        if self.view.cursor is None:
            self.look(cursor=self._value(0.5))
            return
        low, high = self._scaled(self._shown)
        at = self._scaled((self.view.cursor, self.view.cursor))[0] + direction * (high - low) / 100
        self.look(cursor=self._back(min(high, max(low, at)), high)[0])

    def _zoom(self, direction: int, about: float) -> None:
        assert self._shown is not None
        low, high = self._scaled(self._shown)
        first, last = self._scaled(self._whole)
        centre = min(high, max(low, self._scaled((about, about))[0]))
        factor = _ZOOM if direction < 0 else 1 / _ZOOM
        low, high = max(first, centre + (low - centre) * factor), min(last, centre + (high - centre) * factor)
        if high - low < _CLOSEST * (last - first):
            return
        everything = low <= first and high >= last
        self.look(window=None if everything else self._back(low, high))

    def _value(self, share: float) -> float:
        low, high = self._scaled(self._shown or (0.0, 1.0))
        return self._back(low + share * (high - low), high)[0]

    def _scaled(self, limits: Limits) -> Limits:
        if not self.view.log_x:
            return limits
        least = max(self._whole[0], self._whole[1] * 1e-12)
        return math.log10(max(least, limits[0])), math.log10(max(least, limits[1]))

    def _back(self, low: float, high: float) -> Limits:
        return (10.0**low, 10.0**high) if self.view.log_x else (low, high)

    def _current(self) -> ChartView | None:
        return self.focused if isinstance(self.focused, ChartView) else None

    def _loss_is_drawn(self) -> bool:
        return bool(self.query_one("#grid-loss", ChartView).text())
