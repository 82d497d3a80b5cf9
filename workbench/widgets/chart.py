"""A chart on the screen: rows that were drawn elsewhere, kept as strips; only rows that changed are painted again."""

from __future__ import annotations

from dataclasses import dataclass

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.app import App
from textual.geometry import Region, Size
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from workbench.plot import BLUE, GREEN, GREY, ORANGE, PURPLE, RGB, SKY, VERMILION, Row, canvas, text_of

# The palette on a light background, and on terminals of sixteen colours. tests/workbench/test_colours.py holds that all
# six stay apart for colour-blind readers too.
ON_LIGHT: dict[RGB, RGB] = {
    SKY: (29, 103, 146), ORANGE: (209, 132, 30), GREEN: (23, 172, 122), PURPLE: (88, 38, 71), VERMILION: (120, 37, 7),
    BLUE: (0, 0, 191),
}  # fmt: skip
OF_SIXTEEN: dict[RGB, RGB] = {
    SKY: (0, 170, 170), ORANGE: (170, 85, 0), GREEN: (0, 170, 0), PURPLE: (170, 0, 170), VERMILION: (170, 0, 0),
    BLUE: (85, 85, 255), GREY: (85, 85, 85),
}  # fmt: skip


def painted(rgb: RGB, app: App[object]) -> RGB:
    """A colour of the palette as this terminal and theme show it best."""
    if app.console.color_system == "standard" and not app.is_headless:
        return OF_SIXTEEN.get(rgb, rgb)
    return rgb if app.current_theme.dark else ON_LIGHT.get(rgb, rgb)


class ChartView(Widget, can_focus=True):
    """Paints the rows given to ``show``. It draws nothing itself: whoever hears ``Resized`` sends rows of that size."""

    DEFAULT_CSS = """
    ChartView { width: 1fr; height: 1fr; }
    """

    @dataclass
    class Resized(Message):
        """The chart now has room for ``size`` cells."""

        chart: ChartView
        size: Size

        @property
        def control(self) -> ChartView:
            """The chart, so that handlers may select it."""
            return self.chart

    @dataclass
    class Wheel(Message):
        """The wheel was turned: ``turns`` > 0 towards the reader. ``at``: share of the canvas' width, ``across``: with
        shift, or sideways."""

        chart: ChartView
        turns: int
        at: float
        across: bool

    @dataclass
    class Pointed(Message):
        """A place was clicked: ``at`` is its share of the canvas' width."""

        chart: ChartView
        at: float

    def __init__(self, *, id: str | None = None, hint: str = "", classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.hint = hint
        self.repainted = 0  # rows painted again so far: what a live update costs
        self._rows: list[Row] = []
        self._painted_for = ""  # theme of the strips
        self._strips: list[Strip] = []

    def show(self, rows: list[Row]) -> None:
        """Take new rows; those that differ from what stands there are painted again."""
        old, self._rows = self._rows, rows
        if len(old) != len(rows):
            self._strips = [self._strip(row) for row in rows]
            self.repainted += len(rows)
            self.refresh()
            return
        for y, (before, after) in enumerate(zip(old, rows, strict=True)):
            if before != after:
                self._strips[y] = self._strip(after)
                self.repainted += 1
                first, end = _changed(before, after)
                # Only the cells that differ are sent: what a slow line feels. Regions count from the content.
                self.refresh(Region(first, y, end - first, 1))

    def text(self) -> str:
        """What the chart shows, without colour."""
        return "\n".join(text_of(self._rows))

    def render_line(self, y: int) -> Strip:
        width, style = self.size.width, self.rich_style
        if y < len(self._strips):
            return self._strips[y].adjust_cell_length(width, style).apply_style(style)
        if not self._strips and self.hint and y == self.size.height // 2:
            return Strip([Segment(self.hint.center(width)[:width], style)], width)
        return Strip.blank(width, style)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Zoom out about the pointer."""
        self._wheel(event, 1)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Zoom in about the pointer."""
        self._wheel(event, -1)

    def on_mouse_scroll_left(self, event: events.MouseScrollLeft) -> None:
        """Move to the left."""
        self._wheel(event, -1, across=True)

    def on_mouse_scroll_right(self, event: events.MouseScrollRight) -> None:
        """Move to the right."""
        self._wheel(event, 1, across=True)

    def on_click(self, event: events.Click) -> None:
        """Point at a place."""
        if (at := self._share(event)) is not None:
            self.post_message(self.Pointed(self, at))

    def _wheel(self, event: events.MouseEvent, turns: int, across: bool = False) -> None:
        event.stop()
        event.prevent_default()
        if (at := self._share(event)) is not None:
            self.post_message(self.Wheel(self, turns, at, across or event.shift))

    def _share(self, event: events.MouseEvent) -> float | None:
        offset = event.get_content_offset(self)
        first, columns = canvas(self.size.width)
        return None if offset is None else min(1.0, max(0.0, (offset.x - first) / max(1, columns - 1)))

    def on_resize(self) -> None:
        """Ask for rows of the new size."""
        self.post_message(self.Resized(self, self.size))

    def notify_style_update(self) -> None:
        """A new theme may need other colours; most new styles are those of the focus, and do not."""
        super().notify_style_update()
        if (theme := self.app.theme) != self._painted_for:
            self._painted_for = theme
            self._strips = [self._strip(row) for row in self._rows]

    def _strip(self, row: Row) -> Strip:
        segments = []
        for text, rgb in row:
            style = None if rgb is None else Style.parse("rgb({},{},{})".format(*painted(rgb, self.app)))
            segments.append(Segment(text, style))
        return Strip(segments)


def _changed(before: Row, after: Row) -> tuple[int, int]:
    """The first cell that differs and the one behind the last, of two rows of one length."""
    old, new = ([(c, rgb) for text, rgb in row for c in text] for row in (before, after))
    if len(old) != len(new):
        return 0, max(len(old), len(new))
    first = next(i for i, (a, b) in enumerate(zip(old, new, strict=True)) if a != b)
    last = next(i for i in range(len(new) - 1, -1, -1) if old[i] != new[i])
    return first, last + 1
