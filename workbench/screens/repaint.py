"""Sends the terminal the cells that changed, and no others: what a slow line feels.

Textual sends each changed region from its widget's left edge on, changed or not, a style for each piece of text. Here
stands what the terminal shows, and each update is compared with it, as curses does (Arnold, 1982; its rule that a
short gap is cheaper to write than to jump over is kept). A whole repaint is sent whole, and remembered anew.

This leans on Textual's compositor, which is not public: ``tests/workbench/test_repaint.py`` plays what is sent on a
terminal of its own and holds it against what should stand there.
"""

from __future__ import annotations

from collections.abc import Iterable

from rich.cells import split_graphemes
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from textual._compositor import ChopsUpdate, Compositor, LayoutUpdate
from textual.strip import Strip

Cell = tuple[str, Style | None]  # what stands in a cell; "" behind a character that is two cells wide
Row = list[Cell]

_GAP = 8  # cells: to jump over fewer takes as many bytes as to write them again
_UNKNOWN: Cell = ("\0", None)


class Shown:
    """What the terminal shows, as far as it is known: ``rows`` of cells."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def take(self, y: int, x: int, cells: Row) -> list[tuple[int, int]]:
        """Note that ``cells`` stand from ``x`` on in row ``y``; returns the spans of ``cells`` that are new there."""
        while len(self.rows) <= y:
            self.rows.append([])
        row, end = self.rows[y], x + len(cells)
        row.extend([_UNKNOWN] * (end - len(row)))
        old = row[x:end]
        if old == cells:
            return []
        row[x:end] = cells
        if any(len(text) > 1 for text, _ in cells):  # terminals differ in how wide these are: a row is one piece
            return [(0, len(cells))]
        spans: list[tuple[int, int]] = []
        for i, (before, after) in enumerate(zip(old, cells, strict=True)):
            if before == after:
                continue
            if spans and i - spans[-1][1] < _GAP:
                spans[-1] = (spans[-1][0], i + 1)
            else:
                spans.append((i, i + 1))
        return [_whole(cells, *span) for span in spans]


class Changes(ChopsUpdate):
    """An update of parts of the screen."""

    shown: Shown

    def render_segments(self, console: Console) -> str:
        """What is to be written to the terminal."""
        out: list[str] = []
        for y, x1, x2 in self.spans:
            for end, (x, strip) in zip(self.chop_ends[y], self.chops[y].items(), strict=False):
                if strip is None or x >= x2 or end <= x1:
                    continue
                row = cells(strip)
                first, last = _whole(row, max(0, x1 - x), max(0, min(len(row), end - x, x2 - x)))
                for begin, stop in self.shown.take(y, x + first, row[first:last]):
                    out.append(f"\x1b[{y + 1};{x + first + begin + 1}H")
                    out.append(written(row[first + begin : first + stop], console))
        return "".join(out)


class Whole(LayoutUpdate):
    """An update of the whole screen."""

    shown: Shown

    def render_segments(self, console: Console) -> str:
        """What is to be written to the terminal."""
        self.shown.rows = [[cell for strip in line for cell in cells(strip)] for line in self.strips]
        return super().render_segments(console)


class FrugalCompositor(Compositor):
    """Textual's compositor, whose updates hold what changed alone."""

    def __init__(self) -> None:
        super().__init__()
        self.shown = Shown()

    def forget(self) -> None:
        """Something else may have been written to the terminal."""
        self.shown.rows = []

    def render_full_update(self, simplify: bool = False) -> LayoutUpdate:
        """All of the screen."""
        full = super().render_full_update(simplify)
        whole = Whole(full.strips, full.region)
        whole.shown = self.shown
        return whole

    def render_partial_update(self) -> ChopsUpdate | None:
        """The parts that widgets asked to have painted."""
        part = super().render_partial_update()
        if part is None:
            return None
        height = self.size.height
        changes = Changes(part.chops, [span for span in part.spans if 0 <= span[0] < height], part.chop_ends)
        changes.shown = self.shown
        return changes


def cells(strip: Strip) -> Row:
    """A strip cell by cell; what takes no cell stands with the character before it, or is left out."""
    row: Row = []
    for text, style, control in strip:
        if control:
            continue
        if text.isascii() and text.isprintable():
            row += [(character, style) for character in text]
            continue
        for begin, end, size in split_graphemes(text)[0]:
            if size:
                row.append((text[begin:end], style))
                row += [("", style)] * (size - 1)
    return row


def written(row: Iterable[Cell], console: Console) -> str:
    """Cells as terminal sequences: each style once, for as long as it holds."""
    pieces: list[tuple[str, Style | None]] = []
    for text, style in row:
        if pieces and (pieces[-1][1] is style or pieces[-1][1] == style):
            pieces[-1] = (pieces[-1][0] + text, style)
        else:
            pieces.append((text, style))
    return Strip([Segment(text, style) for text, style in pieces]).render(console)


def _whole(row: Row, begin: int, end: int) -> tuple[int, int]:
    """A span that cuts no wide character in two."""
    while 0 < begin < len(row) and not row[begin][0]:
        begin -= 1
    while 0 < end < len(row) and not row[end][0]:
        end += 1
    return begin, end
