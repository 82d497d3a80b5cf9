"""How charts are looked at, by keys and mouse: zoom, cursor, axes, smoothing.

All charts of a screen share one view, so that zoom and cursor are the same in each (terminalboard's cursor is that of
all runs of a chart; the wheel zooms about the pointer as in W&B LEET). What is zoomed to stays while data come.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from textual import on

from workbench.plot import Limits
from workbench.screens.base import WorkbenchScreen
from workbench.screens.figures import NO_SMOOTHING, View
from workbench.screens.x_axis import AXES
from workbench.widgets.chart import ChartView

_ZOOM = 0.6  # of the width that is left after zooming in once
_CLOSEST = 1e-4  # of the whole axis
ROUGHEST, SMOOTHEST = NO_SMOOTHING, 5


class ViewKeys(WorkbenchScreen):
    """A screen with charts, drawn by ``want_all``; it says in ``_shown`` and ``_whole`` what was drawn."""

    def __init__(self) -> None:
        super().__init__()
        self.view = View()
        self.log_y = False
        self._shown: Limits | None = None  # of the x axis
        self._whole: Limits = (0.0, 1.0)

    def want_all(self) -> None:
        """Have every chart drawn as it is looked at now."""
        raise NotImplementedError

    def look(self, **changes: Any) -> None:
        """Change the view and draw again."""
        view = dataclasses.replace(self.view, **changes)
        if view != self.view:
            self.view = view
            self.want_all()
            self.layout_changed()

    def layout_changed(self) -> None:
        """Called after a change of how charts are looked at; subclasses may remember it."""

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

    def action_log_y(self) -> None:
        """Toggle the logarithmic loss axis."""
        self.log_y = not self.log_y
        self.want_all()
        self.layout_changed()

    def action_log_x(self) -> None:
        """Toggle the logarithmic x axis."""
        self.look(log_x=not self.view.log_x, window=None)
        self._shown = None

    def action_x_axis(self) -> None:
        """The next x axis; zoom and cursor were places on the old one, and so is what is drawn until it is there."""
        self.look(x=AXES[(AXES.index(self.view.x) + 1) % len(AXES)], window=None, cursor=None)
        self._shown = None

    def action_smooth(self, direction: int) -> None:
        """Double or halve the half-life of the averages."""
        self.look(smooth=min(SMOOTHEST, max(ROUGHEST, self.view.smooth + direction)))

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
