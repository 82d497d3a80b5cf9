"""Two texts side by side, line against line, what differs marked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rich.cells import cell_len, chop_cells
from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from workbench.text import plain
from workbench.widgets.scrolling import SCROLL_KEYS

_SIGNS = {"same": " ", "changed": "~", "removed": "-", "added": "+"}


class Span(Protocol):
    """As ``data.differences.Span``."""

    @property
    def text(self) -> str: ...
    @property
    def changed(self) -> bool: ...


class Pair(Protocol):
    """As ``data.differences.Row``."""

    @property
    def kind(self) -> str: ...
    @property
    def left(self) -> Sequence[Span] | None: ...
    @property
    def right(self) -> Sequence[Span] | None: ...


Cells = list[tuple[str, bool]]


class SideBySide(ScrollView, can_focus=True):
    """``show`` rows of a comparison; ``n`` goes to the next place that differs."""

    DEFAULT_CSS = """
    SideBySide { overflow-x: hidden; overflow-y: auto; scrollbar-gutter: stable; }
    SideBySide > .side-by-side--left { background: $error 35%; }
    SideBySide > .side-by-side--right { background: $success 35%; }
    SideBySide > .side-by-side--sign { color: $text-muted; }
    """
    COMPONENT_CLASSES = {"side-by-side--left", "side-by-side--right", "side-by-side--sign"}
    BINDINGS = [
        *SCROLL_KEYS,
        Binding("n", "next_difference", "next difference"),
    ]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._pairs: Sequence[Pair] = ()
        self._lines: list[tuple[str, Cells, Cells]] = []
        self._width = 0

    def show(self, pairs: Sequence[Pair]) -> None:
        """Show a comparison, from its first difference."""
        self._pairs = pairs
        self._lay_out()
        self.scroll_to(y=0, animate=False)
        if self._lines and self._lines[0][0] == " ":
            self.action_next_difference()

    def on_resize(self) -> None:
        """Wrap anew."""
        if self.scrollable_content_region.width != self._width:
            self._lay_out()

    def action_next_difference(self) -> None:
        """Scroll to the next block of lines that differ."""
        top = int(self.scroll_offset.y) + (2 if self.scroll_offset.y else 0)
        differs = [sign != " " for sign, _, _ in self._lines]
        for y in range(top + 1, len(differs)):
            if differs[y] and not differs[y - 1]:
                self.scroll_to(y=max(0, y - 2), animate=False)
                return

    def render_line(self, y: int) -> Strip:
        width, style = self.scrollable_content_region.width, self.rich_style
        row = int(self.scroll_offset.y) + y
        if row >= len(self._lines):
            return Strip.blank(width, style)
        sign, left, right = self._lines[row]
        half = self._half
        sign_style = style + self.get_component_rich_style("side-by-side--sign", partial=True)
        segments = [
            *self._side(left, half, style, "left"),
            Segment(f" {sign} ", sign_style),
            *self._side(right, half, style, "right"),
        ]
        return Strip(segments).adjust_cell_length(width, style)

    @property
    def _half(self) -> int:
        return max(4, (self._width - 3) // 2)

    def _side(self, cells: Cells, half: int, style: Style, side: str) -> list[Segment]:
        marked = style + self.get_component_rich_style(f"side-by-side--{side}", partial=True)
        segments = [Segment(text, marked if changed else style) for text, changed in cells]
        used = sum(cell_len(text) for text, _ in cells)
        return [*segments, Segment(" " * max(0, half - used), style)]

    def _lay_out(self) -> None:
        self._width = self.scrollable_content_region.width
        self._lines = []
        for pair in self._pairs:
            left, right = (wrapped(spans or (), self._half) for spans in (pair.left, pair.right))
            for i in range(max(len(left), len(right), 1)):
                self._lines.append(
                    (
                        _SIGNS.get(pair.kind, " "),
                        left[i] if i < len(left) else [],
                        right[i] if i < len(right) else [],
                    )
                )
        self.virtual_size = Size(0, len(self._lines))
        self.refresh()


def wrapped(spans: Sequence[Span], width: int) -> list[Cells]:
    """Spans made safe and cut into lines of at most ``width`` cells."""
    lines: list[Cells] = [[]]
    used = 0
    for span in spans:
        rest = plain(span.text.expandtabs(4))
        while rest:
            if used >= width:
                lines.append([])
                used = 0
            head = next(iter(chop_cells(rest, width - used)), "") or rest[:1]
            if cell_len(head) > width - used and used:  # a wide character does not fit here
                lines.append([])
                used = 0
                continue
            lines[-1].append((head, span.changed))
            used += cell_len(head)
            rest = rest[len(head) :]
    return lines
