"""Numbers before they become a figure: smoothing, thinning that keeps extremes, and limits that hold still."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
Limits = tuple[float, float]

_RANKED = 10_000
LARGEST = 1e100  # what lies beyond is drawn as a gap: no figure of a run is there, and sums stay finite


def ema(y: ArrayLike, half_life: float) -> FloatArray:
    """Exponential moving average, its start not biased towards 0, of raw (not thinned) values.

    Args:
        y: shape [n]; values that are not finite carry no weight and stay NaN.
        half_life: values after which a value's weight has halved; ≤ 0 returns ``y``.

    Returns:
        float64 of shape [n]. TensorBoard's smoothing is the same average with ``0.5 ** (1 / half_life)`` as weight.
    """
    values = np.array(y, dtype=np.float64).ravel()
    known = np.isfinite(values)
    if half_life <= 0 or not known.any():
        return np.where(known, values, np.nan)
    keep = 0.5 ** (1.0 / half_life)
    weighted = _decaying_sum(np.where(known, values, 0.0), keep)
    weight = _decaying_sum(known.astype(np.float64), keep)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(known, weighted / weight, np.nan)


def _decaying_sum(values: FloatArray, keep: float) -> FloatArray:
    """s[t] = keep · s[t-1] + values[t], block by block, so that no power overflows."""
    block = max(1, min(4096, int(200 / -math.log(keep)))) if keep > 0 else 1
    powers = keep ** np.arange(1, block + 1, dtype=np.float64)
    out = np.empty_like(values)
    carried = 0.0
    for begin in range(0, len(values), block):
        part = values[begin : begin + block]
        p = powers[: len(part)]
        out[begin : begin + block] = p * (carried + np.cumsum(part / p))
        carried = float(out[begin + len(part) - 1])
    return out


def thin(
    x: ArrayLike, y: ArrayLike, columns: int, limits: tuple[float, float] | None = None
) -> tuple[FloatArray, FloatArray]:
    """At most two points a column, the smallest and the largest there, in their order; a column without any is a gap.

    Args:
        x, y: shape [n]; ``x`` is sorted if it is not. Infinite values count as NaN.
        columns: columns that ``limits`` spans.
        limits: range of x that is kept; None: all.

    Returns:
        float64 ``x`` and ``y`` of one length, at most 3 · columns + 1; NaN in ``y`` is a gap. Series short enough come
        back whole.
    """
    xs, ys = np.array(x, dtype=np.float64).ravel(), np.array(y, dtype=np.float64).ravel()
    n = min(len(xs), len(ys))
    xs, ys = xs[:n], ys[:n]
    ys[~np.isfinite(ys)] = np.nan
    inside = np.isfinite(xs)
    if limits is not None:
        with np.errstate(invalid="ignore"):
            inside &= (xs >= limits[0]) & (xs <= limits[1])
    xs, ys = xs[inside], ys[inside]
    if len(xs) > 1 and np.any(np.diff(xs) < 0):
        order = np.argsort(xs, kind="stable")
        xs, ys = xs[order], ys[order]
    columns = max(1, columns)
    if len(xs) <= 2 * columns:
        return xs, ys
    low, high = limits if limits is not None else (float(xs[0]), float(xs[-1]))
    edges = np.linspace(low, high, columns + 1)
    begins = np.unique(np.searchsorted(xs, edges[:-1], side="left"))
    begins = begins[begins < len(xs)]
    if not len(begins) or begins[0] != 0:
        begins = np.concatenate(([0], begins))
    column = np.repeat(np.arange(len(begins)), np.diff(np.append(begins, len(xs))))
    index = np.arange(len(xs))
    picked = []
    for reduce in (np.fmin, np.fmax):
        extreme = reduce.reduceat(ys, begins)
        hits = np.where(ys == extreme[column], index, len(xs))
        first = np.minimum.reduceat(hits, begins)
        # A column without a finite value is kept as one gap.
        picked.append(np.where(first == len(xs), begins, first))
    chosen = np.unique(np.concatenate(picked))
    return xs[chosen], ys[chosen]


def span(*values: ArrayLike, clip: float = 0.0, pad: float = 0.08, log: bool = False) -> Limits:
    """Limits that hold the finite values, with some air.

    Args:
        clip: share of values, at each end, that may lie outside if they are far out (0: none). With few values, none.
        pad: air at both ends, as a share of the range.
        log: for a logarithmic axis: values ≤ 0 do not count.
    """
    parts = [sane(v) for v in values]
    every = np.concatenate(parts) if parts else np.empty(0)
    every = every[np.isfinite(every)]
    if log:
        every = np.log10(every[every > 1 / LARGEST])
    if not len(every):
        return (1.0, 10.0) if log else (0.0, 1.0)
    low, high = float(every.min()), float(every.max())
    if clip > 0 and len(every) >= 50:
        some = every[:: max(1, len(every) // _RANKED)]  # to rank more would take longer than to draw them
        near_low, near_high = (float(q) for q in np.quantile(some, [clip, 1 - clip]))
        room = 0.5 * (near_high - near_low)
        low, high = max(low, near_low - room), min(high, near_high + room)
    air = pad * (high - low) or pad * abs(high) or pad
    low, high = low - air, high + air
    return (10.0**low, 10.0**high) if log else (low, high)


def steady(old: Limits | None, new: Limits, fill: float = 0.6) -> Limits:
    """Keep ``old`` limits while ``new`` lie within them and fill them well enough: axes that do not twitch."""
    if old is None:
        return new
    wide = old[1] - old[0]
    if old[0] <= new[0] and new[1] <= old[1] and wide > 0 and (new[1] - new[0]) >= fill * wide:
        return old
    return new


def sane(values: ArrayLike) -> FloatArray:
    """A copy of shape [n], NaN where a value cannot be drawn."""
    array = np.array(values, dtype=np.float64).ravel()
    with np.errstate(invalid="ignore"):
        array[~(np.abs(array) <= LARGEST)] = np.nan
    return array
