"""Axes of figures: limits, linear or logarithmic, and ticks at round values with short labels."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from workbench.curves import LARGEST, FloatArray, Limits, sane, span


@dataclass(frozen=True)
class Axis:
    """Limits in drawn coordinates: the values, or their decimal logarithms."""

    low: float
    high: float
    log: bool

    @classmethod
    def of(cls, limits: Limits | None, values: list[ArrayLike], log: bool, pad: float) -> Axis:
        if limits is None or not all(abs(v) <= LARGEST for v in limits) or (log and max(limits) <= 1 / LARGEST):
            limits = span(*values, pad=pad, log=log)
        low, high = min(limits), max(limits)
        if log and low <= 0:
            low = min(high, span(*values, pad=0.0, log=True)[0])
        if log:
            low = max(low, high * 1e-12)
            low, high = math.log10(low), math.log10(high)
        # A span of nothing, or one in whose units a value would be infinite.
        if not high - low > max(1e-12 * max(abs(low), abs(high)), 1 / LARGEST):
            air = abs(high) * 0.5 or 1.0
            low, high = low - air, high + air
        return cls(low, high, log)

    def place(self, values: ArrayLike) -> FloatArray:
        array = sane(values)
        if self.log:
            with np.errstate(divide="ignore", invalid="ignore"):
                array = np.where(array > 1 / LARGEST, np.log10(array), np.nan)
        return array

    def ticks(self, wanted: int) -> tuple[list[float], list[str]]:
        """Drawn positions and labels of about ``wanted`` round values."""
        wanted = max(2, wanted)
        if not self.log:
            places = round_values(self.low, self.high, wanted)
            return places, labels(places)
        if self.high - self.low < 1.5:
            values = [v for v in round_values(10.0**self.low, 10.0**self.high, wanted) if v > 0]
            return [math.log10(v) for v in values], labels(values)
        values = [10.0**d for d in range(math.ceil(self.low - 1e-9), math.floor(self.high + 1e-9) + 1)]
        values = values[:: math.ceil(len(values) / wanted)]
        return [math.log10(v) for v in values], [labels([v])[0] for v in values]


def round_values(low: float, high: float, wanted: int) -> list[float]:
    raw = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    values = [round(i * step, 12 - math.floor(math.log10(step))) for i in range(first, min(last, first + 50) + 1)]
    return values or [low]


def labels(values: Sequence[float]) -> list[str]:
    """Short labels that tell the values apart: 0.25, 40k, 1.5M, 3e-4."""
    largest = max((abs(v) for v in values), default=0.0)
    if largest == 0:
        return ["0" for _ in values]
    if largest < 0.01:
        return ["0" if v == 0 else _exponent(v) for v in values]
    units = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))
    scale, suffix = next(((s, u) for s, u in units if largest >= 5 * s), (1.0, ""))
    scaled = [v / scale for v in values]
    gaps = [abs(b - a) for a, b in itertools.pairwise(scaled) if b != a] or scaled
    digits = max(0, -math.floor(math.log10(abs(min(gaps))) + 1e-9))
    if any(abs(v * 10**digits - round(v * 10**digits)) > 1e-6 for v in scaled):
        digits += 1
    return [f"{v:.{min(digits, 6)}f}{suffix if v else ''}" for v in scaled]


def _exponent(value: float) -> str:
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
