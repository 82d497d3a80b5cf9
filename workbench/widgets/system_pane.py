"""How busy the machine of a run is: a line a gauge, with a bar where there is a whole, and how it went lately."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from textual.content import Content

from workbench.text import plain
from workbench.widgets.format import bar
from workbench.widgets.text_pane import TextPane

_BAR = 10
_VALUE = 14
_STEADY = 0.01  # of the lowest value
_LEVELS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Gauge:
    """A figure of the machine.

    Attributes:
        label, value: as they are shown.
        share: of the whole, 0 to 1; NaN where no whole is known.
        recent: values lately, in order, on any scale; empty: not shown.
        high: a high share is nothing good.
    """

    label: str
    value: str
    share: float = math.nan
    recent: tuple[float, ...] = ()
    high: bool = False


class SystemPane(TextPane):
    """``show`` takes gauges."""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.gauges: Sequence[Gauge] = ()

    def show(self, gauges: Sequence[Gauge]) -> None:
        """Show these gauges."""
        self.gauges = gauges
        self.lay_out()

    def lines(self, width: int) -> Iterable[Content]:
        return [line_of(gauge, width) for gauge in self.gauges] or [Content("nothing is known yet")]


def line_of(gauge: Gauge, width: int) -> Content:
    """A gauge in one line of at most ``width`` cells; what matters least is left out first."""
    line = Content.assemble((f"{gauge.label:<12}", "$text-muted"))
    if math.isfinite(gauge.share):
        share = min(1.0, max(0.0, gauge.share))
        colour = "$text-error" if gauge.high and share > 0.95 else "$text-warning" if gauge.high and share > 0.8 else ""
        line += Content.assemble((bar(share, _BAR), f"{colour} on $foreground 15%".strip()), " ")
    else:
        line += " " * (_BAR + 1)
    line += Content.styled(plain(gauge.value).ljust(_VALUE), "bold")
    room = width - line.cell_length - 2
    if room >= 8 and (drawn := trend(gauge.recent, min(room, 40))):
        line += Content.styled("  " + drawn, "$text-muted")
    return line if line.cell_length <= width else line.truncate(width, ellipsis=True)


def trend(values: Sequence[float], width: int) -> str:
    """Values as blocks between their own extremes, the newest last; what is not known is blank. "" where they hardly
    differ: a line of blocks would look like news."""
    shown = values[-width:]
    known = [value for value in shown if math.isfinite(value)]
    low, wide = min(known, default=0.0), max(known, default=0.0) - min(known, default=0.0)
    if wide <= _STEADY * abs(low):
        return ""
    top = len(_LEVELS) - 1
    return "".join(_LEVELS[round(top * (v - low) / wide)] if math.isfinite(v) else " " for v in shown)
