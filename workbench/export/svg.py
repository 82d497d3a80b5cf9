"""Charts as SVG: the same series, axes and ticks as the terminal's, as lines instead of dots.

Only presentation attributes: no style sheet, script, link, font or id, so that a chart may stand in any page, several
times, under the strictest policy.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence

import numpy as np

from workbench.axes import Axis
from workbench.curves import FloatArray, Limits, sane, thin
from workbench.plot import PALETTE, RGB, Series
from workbench.text import plain

WIDTH, HEIGHT = 760, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 40, 44
_MANY = 200  # points beyond which dots and error bars would be one blot
_INK, _QUIET, _PAPER = "#333333", "#dddddd", "#ffffff"


def svg_chart(
    series: Sequence[Series],
    *,
    title: str = "",
    x_title: str = "",
    height: int = HEIGHT,
    ylim: Limits | None = None,
) -> str:
    """A chart of ``WIDTH`` × ``height`` pixels; nothing to draw gives empty axes. Text is made plain and escaped."""
    wide, tall = WIDTH - _LEFT - _RIGHT, height - _TOP - _BOTTOM
    x = Axis.of(None, [s.x for s in series], False, pad=0.0)
    y = Axis.of(ylim, [s.y for s in series], False, pad=0.08)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        f'role="img" font-family="sans-serif" font-size="13" fill="{_INK}">',
        f"<title>{_escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="{_PAPER}"/>',
        *_frame(x, y, wide, tall),
        f'<text x="{_LEFT}" y="16" font-weight="bold">{_escape(title)}</text>',
        f'<text x="{_LEFT + wide / 2:.0f}" y="{height - 6}" text-anchor="middle">{_escape(x_title)}</text>',
    ]
    at = _LEFT
    lines.append(f'<svg x="{_LEFT}" y="{_TOP}" width="{wide}" height="{tall}">')  # cuts off what lies outside
    legend = []
    for number, one in enumerate(series):
        colour = _colour(one.colour or PALETTE[number % len(PALETTE)])
        lines += _curve(one, colour, x, y, wide, tall)
        if one.label:
            label = plain(one.label)[:60]
            legend.append(f'<rect x="{at}" y="27" width="14" height="3" fill="{colour}"/>')
            legend.append(f'<text x="{at + 18}" y="33">{_escape(label)}</text>')
            at += 34 + 8 * len(label)
    lines.append("</svg>")
    return "\n".join([*lines, *legend, "</svg>"]) + "\n"


def _frame(x: Axis, y: Axis, wide: int, tall: int) -> Iterator[str]:
    for place, label in zip(*y.ticks(max(2, tall // 28)), strict=True):
        at = _TOP + tall * (y.high - place) / (y.high - y.low)
        yield f'<path d="M{_LEFT} {at:.1f}h{wide}" stroke="{_QUIET}"/>'
        yield f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{_escape(label)}</text>'
    for place, label in zip(*x.ticks(8), strict=True):
        at = _LEFT + wide * (place - x.low) / (x.high - x.low)
        yield f'<path d="M{at:.1f} {_TOP + tall}v4" stroke="{_INK}"/>'
        yield f'<text x="{at:.1f}" y="{_TOP + tall + 18}" text-anchor="middle">{_escape(label)}</text>'
    yield f'<path d="M{_LEFT} {_TOP}v{tall}h{wide}" fill="none" stroke="{_INK}"/>'


def _curve(series: Series, colour: str, x: Axis, y: Axis, wide: int, tall: int) -> Iterator[str]:
    xs, ys = x.place(series.x), y.place(series.y)
    n = min(len(xs), len(ys))
    few = n <= _MANY
    if series.error is not None and few:
        values, half = sane(series.y)[:n], sane(series.error)[:n]
        ends = (
            _pixels(y.place(values - half), y.high, y.low, tall),
            _pixels(y.place(values + half), y.high, y.low, tall),
        )
        at = _pixels(xs[:n], x.low, x.high, wide)
        bars = [f"M{a:.1f} {b:.1f}V{c:.1f}" for a, b, c in zip(at, *ends, strict=True) if np.isfinite(a + b + c)]
        if bars:
            yield f'<path d="{"".join(bars)}" stroke="{colour}" opacity="0.6"/>'
    xs, ys = thin(xs[:n], ys[:n], wide)
    across, down = _pixels(xs, x.low, x.high, wide), _pixels(ys, y.high, y.low, tall)
    if series.style != "points" or not few:
        pen, path = "M", []
        for a, b in zip(across, down, strict=True):
            if np.isfinite(a + b):
                path.append(f"{pen}{a:.1f} {b:.1f}")
                pen = "L"
            else:
                pen = "M"
        if path:
            yield (
                f'<path d="{"".join(path)}" fill="none" stroke="{colour}" stroke-width="1.5" stroke-linejoin="round" '
                'stroke-linecap="round"/>'
            )
    if series.style != "line" and few:
        for a, b in zip(across, down, strict=True):
            if np.isfinite(a + b):
                yield f'<circle cx="{a:.1f}" cy="{b:.1f}" r="2.5" fill="{colour}"/>'


def _pixels(values: FloatArray, begin: float, end: float, pixels: int) -> FloatArray:
    """Where values lie between ``begin`` (0) and ``end``; far outside is far enough outside."""
    placed: FloatArray = np.clip((values - begin) / (end - begin) * pixels, -1e5, 1e5)
    return placed


def _colour(rgb: RGB) -> str:
    return "#{:02x}{:02x}{:02x}".format(*rgb)


def _escape(text: str) -> str:
    return html.escape(plain(text))
