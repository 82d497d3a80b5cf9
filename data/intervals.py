"""Estimates with their 90% intervals: sums of what was drawn with known probabilities."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from data.tokens import Z90

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """An estimate and its 90% interval."""

    value: float
    low: float
    high: float


def plus(a: Interval, b: Interval) -> Interval:
    """Of two independent estimates."""
    value = a.value + b.value
    return Interval(
        value,
        value - math.hypot(a.value - a.low, b.value - b.low),
        value + math.hypot(a.high - a.value, b.high - b.value),
    )


def interval(weighted: F64, certain: F64, unseen: float) -> Interval:
    """A sum of contributions, each drawn with probability ``certain``: its 90% interval.

    Fay & Feuer's gamma interval (1997) for weighted sums of rare events: it keeps its level where few heavy
    contributions carry the sum, and where there are none. A contribution drawn for certain adds no variance.
    """
    total = float(weighted.sum())
    open_ = certain < 1
    drawn, chances = weighted[open_], certain[open_]
    fixed = total - float(drawn.sum())
    random = float(drawn.sum())
    variance = float((drawn**2 * (1 - chances)).sum())
    largest = max(float(drawn.max(initial=0.0)), unseen)
    low = _gamma(random**2 / variance, variance / random, -Z90) if variance > 0 else random
    spread = variance + largest**2
    high = _gamma((random + largest) ** 2 / spread, spread / (random + largest), Z90) if largest > 0 else random
    return Interval(total, fixed + min(low, random), fixed + max(high, random))


def _gamma(shape: float, scale: float, z: float) -> float:
    """A gamma distribution's quantile at a standard normal's z (Wilson & Hilferty 1931)."""
    root = 1 - 1 / (9 * shape) + z / (3 * math.sqrt(shape))
    return shape * scale * max(0.0, root) ** 3
