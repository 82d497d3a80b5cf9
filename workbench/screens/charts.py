"""The charts of the Run screen: a grid of all, or one alone; each is drawn by the feed, as large as it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from textual.app import ComposeResult
from textual.containers import Container
from textual.geometry import Size
from textual.widget import Widget

from workbench.screens.feed import FigureDrawn, RunFeed
from workbench.screens.figures import FIGURES, Request
from workbench.screens.view_keys import ROUGHEST, SMOOTHEST, ViewKeys
from workbench.screens.x_axis import AXES
from workbench.widgets.chart import ChartView

_SMALL = Size(16, 5)
_LOG_FIGURES = ("loss", "grad_norm")


class ChartKeys(ViewKeys):
    """A screen with charts; its ``feed`` draws them."""

    feed: RunFeed | None

    def grid(self) -> ComposeResult:
        """All charts; hidden at first."""
        with Container(id="grid"):
            for name in FIGURES:
                yield ChartView(id=f"grid-{name}", hint="")

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
        if type(smooth := known.get("smooth")) is int and ROUGHEST <= smooth <= SMOOTHEST:
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
        """Note what a chart shows; a figure that the run does not report leaves the grid until it does."""
        self._shown, self._whole = message.shown, message.whole
        chart = self.query_one(f"#{message.name}", ChartView)
        absent = not message.rows and self._loss_is_drawn()
        if message.name.startswith("grid-") and absent != chart.has_class("-absent"):
            chart.set_class(absent, "-absent")
            self.call_after_refresh(self.want_all)

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
        absent = chart.has_class("-absent")  # drawn all the same, small: one that comes to be reported is to be noticed
        nodes = chart.ancestors if absent else chart.ancestors_with_self
        hidden = any(isinstance(node, Widget) and not node.display for node in nodes)
        size, request = _SMALL if absent else chart.size, None
        if not hidden and size:
            figure = chart.id.removeprefix("grid-")
            log_y = self.log_y and figure in _LOG_FIGURES
            request = Request(figure, size.width, size.height, log_y, self.view)
        self.feed.want(chart.id, request)

    def want_all(self) -> None:
        """As ``want``, for every chart."""
        for chart in self.query(ChartView):
            self.want(chart)

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

    def _current(self) -> ChartView | None:
        return self.focused if isinstance(self.focused, ChartView) else None

    def _loss_is_drawn(self) -> bool:
        return bool(self.query_one("#grid-loss", ChartView).text())
