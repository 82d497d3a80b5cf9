"""A histogram as terminal text: bars in eighths of a cell, so that a rare bin is seen and not rounded away."""

from __future__ import annotations

import math
from collections.abc import Sequence

from workbench.plot import GREY, SKY, Row

_EIGHTHS = " ▁▂▃▄▅▆▇█"


def histogram_rows(
    edges: Sequence[float], counts: Sequence[int], *, width: int, height: int, title: str = "", log: bool = False
) -> list[Row]:
    """Rows of ``width`` cells: title, bars, axis.

    Args:
        edges: bin i holds values in [edges[i], edges[i + 1]); counts: of each bin.
        log: the edges grow by a factor (the axis is labelled there, not drawn otherwise).
    """
    tallest = max(counts, default=0)
    if not tallest or height < 4 or width < 16:
        return [[(f"{title}: no values"[:width], None)]]
    narrow = width - 8  # beside the longest label
    if len(counts) > narrow:
        counts, edges = _merged(counts, edges, math.ceil(len(counts) / narrow))
        tallest = max(counts)
    margin = len(_short(tallest)) + 1
    room = width - margin - 1
    begins = [round(i * room / len(counts)) for i in range(len(counts) + 1)]
    levels = height - 2
    rows: list[Row] = [[(title[:width], None), ("  log axis" if log else "", GREY)]]
    for level in range(levels, 0, -1):
        label = _short(tallest) if level == levels else "0" if level == 1 else ""
        bars = "".join(
            _bar(count, tallest, level, levels) * (end - begin)
            for count, begin, end in zip(counts, begins, begins[1:], strict=False)
        )
        rows.append([(f"{label:>{margin - 1}} ", GREY), ("│", GREY), (bars, SKY)])
    rows.append([(" " * margin + "└" + _axis(edges, begins, room), GREY)])
    return rows


def _bar(count: int, tallest: int, level: int, levels: int) -> str:
    eighths = max(1, round(count / tallest * levels * 8)) if count else 0
    return _EIGHTHS[max(0, min(8, eighths - 8 * (level - 1)))]


def _axis(edges: Sequence[float], begins: Sequence[int], room: int) -> str:
    """Values at bin edges, as many as fit without touching."""
    line = [" "] * (room + 8)
    free = 0
    whole = all(float(edge).is_integer() for edge in edges)
    for edge, at in zip(edges, begins, strict=True):
        text = _short(edge) if whole or abs(edge) >= 1000 else f"{edge:.3g}"
        if at >= free and at + len(text) <= room:
            line[at : at + len(text)] = text
            free = at + len(text) + 2
    return "".join(line).rstrip()[:room]


def _merged(counts: Sequence[int], edges: Sequence[float], by: int) -> tuple[list[int], list[float]]:
    merged = [sum(counts[i : i + by]) for i in range(0, len(counts), by)]
    return merged, [*(edges[i] for i in range(0, len(counts), by)), edges[-1]]


def _short(value: float) -> str:
    for scale, suffix in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= scale:
            return f"{value / scale:.3g}{suffix}"
    return f"{value:.0f}" if abs(value) >= 10 or float(value).is_integer() else f"{value:.2g}"
