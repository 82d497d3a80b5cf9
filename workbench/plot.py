"""Figures as terminal text, for widgets and for export alike. The one module that knows plotext.

plotext draws the frame: axes, ticks, marks. A frame is drawn once for as long as its axes stand still. The curves are
put into it here: thinned to the smallest and the largest value of each column, then set as braille dots by NumPy,
since plotext joins a thousand dots in 11 ms and a hundred thousand in 1 s (5.3.2, 120×30, 2 cores; 6.1 is slower).

Each frame is an object of its own (plotext's public functions share one global figure), so charts may be built in
several threads at once. Ideas from W&B LEET: gaps where a value is not finite, later series replace the cells of
earlier ones, so that colours do not bleed. Colours are Okabe and Ito's palette for colour-blind readers
(jfly.uni-koeln.de/color, 2008).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workbench.axes import Axis
from workbench.curves import FloatArray, Limits, ema, sane, span, steady, thin

__all__ = [
    "BLUE", "GREEN", "GREY", "ORANGE", "PALETTE", "PURPLE", "RGB", "SKY", "VERMILION", "FloatArray", "Limits", "Mark",
    "Row", "Series", "canvas", "chart_rows", "ema", "span", "steady", "text_of", "thin",
]  # fmt: skip

RGB = tuple[int, int, int]
Run = tuple[str, RGB | None]  # a piece of a row and its colour; None: the terminal's own
Row = list[Run]
Cells = tuple[tuple[tuple[str, RGB | None], ...], ...]

ORANGE: RGB = (230, 159, 0)
SKY: RGB = (86, 180, 233)
GREEN: RGB = (0, 158, 115)
VERMILION: RGB = (213, 94, 0)
PURPLE: RGB = (204, 121, 167)
BLUE: RGB = (0, 114, 178)
GREY: RGB = (128, 128, 128)
PALETTE: tuple[RGB, ...] = (SKY, ORANGE, GREEN, PURPLE, VERMILION, BLUE)

_MIN_WIDTH, _MIN_HEIGHT = 16, 5  # below this there is no room for axes: the title alone is shown
_LABEL_WIDTH = 6  # of the y axis: the canvas keeps its width while numbers change
_BITS = np.array([[1, 8], [2, 16], [4, 32], [64, 128]], dtype=np.int64)  # of a braille cell's dots, top row first


@dataclass(frozen=True)
class Series:
    """One curve.

    Attributes:
        x, y: same length; values that are not finite are gaps. Need not be thinned.
        label: shown in the legend; "" for none.
        colour: RGB; None takes the next of ``PALETTE``.
        style: "line", "points" (a dot each), or "both".
        error: half-length of a vertical bar at each point, or None.
        aside: named last in the legend, where it may be cut off.
    """

    x: ArrayLike
    y: ArrayLike
    label: str = ""
    colour: RGB | None = None
    style: Literal["line", "points", "both"] = "line"
    error: ArrayLike | None = None
    aside: bool = False


@dataclass(frozen=True)
class Mark:
    """A vertical line at ``x`` with a short label beside it ("" for none); not ``tall``: a foot alone."""

    x: float
    label: str = ""
    colour: RGB = field(default=GREY)
    tall: bool = True


def chart_rows(
    series: Sequence[Series],
    *,
    width: int,
    height: int,
    title: str = "",
    log_x: bool = False,
    log_y: bool = False,
    xlim: Limits | None = None,
    ylim: Limits | None = None,
    marks: Sequence[Mark] = (),
) -> list[Row]:
    """A chart as exactly ``height`` rows of exactly ``width`` cells: runs of text and their colour.

    Never raises for what it is given to draw: no points, one point, only NaN, or no room give an empty chart.
    ``title`` and labels are shown as they are: text from files passes ``workbench.text.plain`` first.
    """
    if width <= 0 or height <= 0:
        return []
    coloured = [(s, s.colour or PALETTE[i % len(PALETTE)]) for i, s in enumerate(series)]
    named = sorted((one for one in coloured if one[0].label), key=lambda one: one[0].aside)
    legend = [("━ " if s.style == "line" else "• ", s.label, rgb) for s, rgb in named]
    head = _head(title, legend, width)
    if width < _MIN_WIDTH or height < _MIN_HEIGHT:
        return [head] + [[(" " * width, None)] for _ in range(height - 1)]
    x_axis = Axis.of(xlim, [s.x for s in series], log_x, pad=0.0)
    y_axis = Axis.of(ylim, [s.y for s in series], log_y, pad=0.08)
    body = _Canvas(width, height - 1, x_axis, y_axis)
    for one, rgb in coloured:
        body.curve(one, rgb)
    places = [(float(x_axis.place([m.x])[0]), m) for m in marks]
    inside = [(x, m) for x, m in places if math.isfinite(x) and x_axis.low <= x <= x_axis.high]
    for x, mark in inside:
        if not mark.tall:
            body.foot(x, mark.colour)
    for x, mark in inside:
        if mark.tall and mark.label:
            body.label(x, mark.label, mark.colour)
    lines = tuple((x, m.colour) for x, m in inside if m.tall)
    return [head, *body.rows(_frame(width, height - 1, x_axis, y_axis, lines))]


def text_of(rows: Sequence[Row]) -> list[str]:
    """The rows without their colours."""
    return ["".join(text for text, _ in row) for row in rows]


def canvas(width: int) -> tuple[int, int]:
    """Columns of a chart that hold its curves: the first, and how many."""
    return _LABEL_WIDTH + 1, max(1, width - _LABEL_WIDTH - 1)


@functools.lru_cache(maxsize=64)
def _frame(width: int, height: int, x: Axis, y: Axis, marks: tuple[tuple[float, RGB], ...]) -> Cells:
    """Axes, ticks and marks, drawn by plotext: cells of (character, colour), the top row first."""
    # The class behind plotext's global figure; there is no public way to own a second one.
    from plotext._figure import _figure_class

    figure: Any = _figure_class()
    figure._limit_size(False, False)
    figure.plot_size(width, height)
    for paint in (figure.canvas_color, figure.axes_color, figure.ticks_color):
        paint("default")
    figure.xaxes(True, False)
    figure.yaxes(True, False)
    figure.xlim(x.low, x.high)
    figure.ylim(y.low, y.high)
    columns = canvas(width)[1]
    places, labels = _y_ticks(y, height - 2)
    figure.yticks(places, [label.rjust(_LABEL_WIDTH)[:_LABEL_WIDTH] for label in labels])
    figure.xticks(*_x_ticks(x, columns))
    # An empty figure would have neither axes nor ticks.
    figure.monitor.draw([x.low], [y.low - 10 * (y.high - y.low)], marker="braille", color="default")
    for place, colour in marks:
        figure.vline(place, color=colour)
    figure._set_sizes()
    figure._build_matrix()
    matrix = figure.monitor.matrix
    rows = []
    same: dict[tuple[str, RGB | None], tuple[str, RGB | None]] = {}  # a frame that is kept holds equal cells once
    for characters, colours in zip(matrix.marker[::-1], matrix.fullground[::-1], strict=True):
        row = []
        for cell, colour in zip(characters, colours, strict=True):
            rgb = colour if isinstance(colour, tuple) else None
            # A mark is quieter than an axis.
            one = ("┊" if cell == "│" and rgb is not None else cell, rgb)
            row.append(same.setdefault(one, one))
        rows.append(tuple(row))
    return tuple(rows)


def _y_ticks(y: Axis, lines: int) -> tuple[list[float], list[str]]:
    """At most one tick a line: of two that meet, plotext shows either, as its sets happen to be ordered."""
    for wanted in range(max(4, (lines + 2) // 3), 1, -1):
        places, labels = y.ticks(wanted)
        at = [round((place - y.low) / (y.high - y.low) * (lines - 1)) for place in places]
        if len(set(at)) == len(at):
            return places, labels
    return places[:1], labels[:1]


def _x_ticks(x: Axis, columns: int) -> tuple[list[float], list[str]]:
    wanted = max(2, columns // 8)
    while True:
        places, labels = x.ticks(wanted)
        # plotext sets labels in no fixed order and drops or moves those that meet: leave it no choice.
        gap = 1.5 * max((len(label) for label in labels), default=0) + 2
        room = (places[1] - places[0]) / (x.high - x.low) * columns if len(places) > 1 else gap
        if room >= gap or wanted <= 2:
            break
        wanted -= 1
    if room < gap or len(places) < 2:  # one place tells no scale: the outermost two of finer steps
        finer, named = x.ticks(4)
        if len(finer) > 1 and (finer[-1] - finer[0]) / (x.high - x.low) * columns >= gap:
            return [finer[0], finer[-1]], [named[0], named[-1]]
    return (places, labels) if room >= gap else (places[:1], labels[:1])


class _Canvas:
    """Curves as braille dots, over a frame."""

    def __init__(self, width: int, height: int, x: Axis, y: Axis) -> None:
        self.x, self.y = x, y
        self.left, self.columns = canvas(width)
        self.lines = height - 2
        self.characters = np.zeros((self.lines, self.columns), dtype=np.int64)  # code points, 0: nothing
        self.owner = np.zeros((self.lines, self.columns), dtype=np.int64)  # index into colours
        self.colours: list[RGB] = []

    def curve(self, series: Series, rgb: RGB) -> None:
        xs, ys = self.x.place(series.x), self.y.place(series.y)
        n = min(len(xs), len(ys))
        xs, ys = xs[:n], ys[:n]
        self.colours.append(rgb)
        if series.error is not None:
            self._error_bars(series, xs)
        xs, ys = self._thinned(xs, ys)
        if not np.isfinite(ys).any():
            return
        if series.style in ("line", "both"):
            self._join(xs, ys)
        if series.style in ("points", "both"):
            column, line = self._cell(xs, ys)
            self._put(line, column, ord("•"))

    def foot(self, place: float, rgb: RGB) -> None:
        """A small sign on the x axis' line above."""
        self.colours.append(rgb)
        column, _ = self._cell(np.array([place]), np.array([self.y.low]))
        self._put(np.array([self.lines - 1]), column, ord("▴"))

    def label(self, place: float, text: str, rgb: RGB) -> None:
        """A text beside the line at ``place``, towards the middle: in the highest row that is free there, so that
        neither a curve nor another label makes it unreadable; in the highest of all where none is."""
        at = round((place - self.x.low) / (self.x.high - self.x.low) * (self.columns - 1))
        first = at + 1 if at < self.columns / 2 else at - len(text)
        where = slice(max(0, first), max(0, min(self.columns, first + len(text))))
        text = text[where.start - first : where.stop - first]
        line = next((i for i in range(self.lines) if not self.characters[i, where].any()), 0)
        self.colours.append(rgb)
        self.characters[line, where] = [ord(character) for character in text]
        self.owner[line, where] = len(self.colours) - 1

    def rows(self, frame: Cells) -> list[Row]:
        """Frame and curves as rows of runs."""
        rows: list[Row] = []
        for y, cells in enumerate(frame):
            row: Row = []
            own = self.characters[y] if y < self.lines else None
            for x, (character, rgb) in enumerate(cells):
                column = x - self.left
                if own is not None and column >= 0 and own[column]:
                    character, rgb = chr(own[column]), self.colours[self.owner[y, column]]
                if row and row[-1][1] == rgb:
                    row[-1] = (row[-1][0] + character, rgb)
                else:
                    row.append((character, rgb))
            rows.append(row)
        return rows

    def _thinned(self, xs: FloatArray, ys: FloatArray) -> tuple[FloatArray, FloatArray]:
        """What the columns can show, and one point on either side, so that a line enters where it should."""
        low, high = self.x.low, self.x.high
        kept_x, kept_y = thin(xs, ys, self.columns, (low, high))
        with np.errstate(invalid="ignore"):
            before, behind = np.flatnonzero(xs < low), np.flatnonzero(xs > high)
        if len(before):
            i = before[np.argmax(xs[before])]
            kept_x, kept_y = np.append(xs[i], kept_x), np.append(ys[i], kept_y)
        if len(behind):
            i = behind[np.argmin(xs[behind])]
            kept_x, kept_y = np.append(kept_x, xs[i]), np.append(kept_y, ys[i])
        return kept_x, kept_y

    def _error_bars(self, series: Series, xs: FloatArray) -> None:
        y, half = sane(series.y), sane(() if series.error is None else series.error)
        n = min(len(xs), len(y), len(half))
        if not n or n > self.columns:
            return  # bars closer than a column would be one blot
        ends = np.stack([y[:n] - half[:n], y[:n] + half[:n], np.full(n, np.nan)], axis=1).ravel()
        self._join(np.repeat(xs[:n], 3), self.y.place(ends))

    def _join(self, xs: FloatArray, ys: FloatArray) -> None:
        """Set the dots of the lines between consecutive finite points."""
        wide, tall = 2 * self.columns - 1, 4 * self.lines - 1
        u = (xs - self.x.low) / (self.x.high - self.x.low) * wide
        # A hair more, so that a constant on the edge between two dots does not flicker between them.
        v = (ys - self.y.low) / (self.y.high - self.y.low) * tall + 1e-6
        known = np.isfinite(u) & np.isfinite(v)
        if len(u) == 1 or not (known[:-1] & known[1:]).all():  # a point between two gaps is a dot
            alone = known & ~np.append(False, known[:-1]) & ~np.append(known[1:], False)
            u, v = np.append(u, np.repeat(u[alone], 2)), np.append(v, np.repeat(v[alone], 2))
            known = np.append(known, np.ones(2 * int(alone.sum()), dtype=bool))
            joined = known[:-1] & known[1:]
            first = len(xs) - 1
            joined[first : first + 1] = False
            joined[first + 2 :: 2] = False
        else:
            joined = known[:-1] & known[1:]
        u0, u1, v0, v1 = u[:-1][joined], u[1:][joined], v[:-1][joined], v[1:][joined]
        # Liang and Barsky's clipping (1984), all lines at once: the part t0..t1 of each lies on the canvas.
        t0, t1 = np.zeros(len(u0)), np.ones(len(u0))
        with np.errstate(divide="ignore", invalid="ignore"):
            for begin, end, top in ((u0, u1, wide), (v0, v1, tall)):
                a, b = (-0.5 - begin) / (end - begin), (top + 0.5 - begin) / (end - begin)
                flat, inside = end == begin, (begin >= -0.5) & (begin <= top + 0.5)
                t0 = np.maximum(t0, np.where(flat, np.where(inside, 0.0, 2.0), np.minimum(a, b)))
                t1 = np.minimum(t1, np.where(flat, 1.0, np.maximum(a, b)))
        seen = t0 <= t1
        u0, u1, v0, v1, t0, t1 = (a[seen] for a in (u0, u1, v0, v1, t0, t1))
        steps = np.ceil(np.maximum(np.abs(u1 - u0), np.abs(v1 - v0)) * (t1 - t0)).astype(np.int64) + 1
        if not len(steps):
            return
        line = np.repeat(np.arange(len(steps)), steps)
        nth = np.arange(len(line)) - np.repeat(np.cumsum(steps) - steps, steps)
        t = t0[line] + (t1 - t0)[line] * nth / np.maximum(1, steps - 1)[line]
        column = np.clip(np.rint(u0[line] + t * (u1 - u0)[line]), 0, wide).astype(np.int64)
        up = np.clip(np.rint(v0[line] + t * (v1 - v0)[line]), 0, tall).astype(np.int64)
        dots = np.zeros((4 * self.lines, 2 * self.columns), dtype=np.int64)
        dots[tall - up, column] = 1
        codes = np.einsum("iajb,ab->ij", dots.reshape(self.lines, 4, self.columns, 2), _BITS)
        drawn = codes > 0
        self.characters[drawn] = 0x2800 + codes[drawn]
        self.owner[drawn] = len(self.colours) - 1

    def _cell(self, xs: FloatArray, ys: FloatArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        x = np.rint((xs - self.x.low) / (self.x.high - self.x.low) * (self.columns - 1))
        y = np.rint((ys - self.y.low) / (self.y.high - self.y.low) * (self.lines - 1))
        with np.errstate(invalid="ignore"):
            keep = np.isfinite(x) & np.isfinite(y) & (x >= 0) & (x < self.columns) & (y >= 0) & (y < self.lines)
        return x[keep].astype(np.int64), (self.lines - 1 - y[keep]).astype(np.int64)

    def _put(self, line: NDArray[np.int64], column: NDArray[np.int64], character: int) -> None:
        if len(column):
            self.characters[line, column] = character
            self.owner[line, column] = len(self.colours) - 1


def _head(title: str, legend: list[tuple[str, str, RGB]], width: int) -> Row:
    """Title and legend on one line, cut to the width; the legend goes first where there is no room for both."""
    row: Row = [(title, None)] if title else []
    for sign, label, rgb in legend:
        row += [("  " if row else "", None), (sign, rgb), (label, None)]
    cut: Row = []
    left = width
    for text, paint in row:
        if text and left > 0:
            piece = text if len(text) <= left else text[: left - 1] + "…"
            cut.append((piece, paint))
            left -= len(piece)
    return [*cut, (" " * left, None)] if left else cut
