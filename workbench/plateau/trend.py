"""The two gates before any cause: how large is the noise of an evaluation, and is there a plateau at all.

Noise. A native run evaluates the same documents each time, so their errors are common to all steps and cancel in
paired differences; what is left is measured over documents. A foreign log redraws its windows: there the noise is the
residual around a smooth trend.

Plateau. Robust slope of the loss over ln(step) (Theil 1950, Sen 1968) in the recent evaluations, with a block
bootstrap interval (Künsch 1989); flat means: surely slower than a third of what a healthy run would do now.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

import numpy as np

from workbench.plateau.interval import Interval
from workbench.plateau.series import Curve, Documents, blocks
from workbench.runs.history import FloatArray

WINDOW = 0.6  # recent: the steps above this share of the newest one
MIN_EVALS = 5
FEW_EVALS = 9
FURTHEST = 0.33
FLAT_SHARE = 0.3  # of the healthy slope
_MAX_ROWS = 48
_REPLICATES = 400
_T975 = {1: 12.7, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26, 10: 2.23, 15: 2.13, 20: 2.09}


@dataclass(frozen=True)
class Noise:
    """Noise of an evaluation, as far as it blurs a change between two of them.

    Attributes:
        eval_se: one standard deviation, nats; None where it could not be measured.
        level_se: standard error of the *level*, which also holds the choice of documents; None if unknown.
        basis: what it was measured from.
        over_documents: the part that comes from the choice of documents (paired), where they are known.
        jitter: the part that the curve itself shows: residuals around the trend.
        evals: evaluations that it rests on.
    """

    eval_se: float | None
    level_se: float | None
    basis: str
    over_documents: float | None = None
    jitter: float | None = None
    evals: int = 0

    @property
    def restless(self) -> bool:
        """Whether the same documents' loss jumps from one evaluation to the next by far more than documents explain.

        Small healthy runs of this engine show residuals of 0.01 to 0.06 nats.
        """
        return (
            self.evals >= FEW_EVALS
            and self.jitter is not None
            and self.over_documents is not None
            and self.jitter > max(0.1, 2 * self.over_documents)
        )


@dataclass(frozen=True)
class Trend:
    """Improvement in the recent evaluations.

    Attributes:
        gain: nats per e-fold of steps that the loss *falls* (negative: it rises); an interval of 95%.
        first, last: steps of the window; evals: evaluations in it.
        healthy: what a healthy run of this kind would fall by per e-fold; basis: what that rests on.
    """

    gain: Interval
    first: float
    last: float
    evals: int
    healthy: float
    basis: str

    def widened(self, factor: float) -> Trend:
        """The same with an interval ``factor`` times as wide."""
        g = self.gain
        wide = Interval(g.mid - factor * (g.mid - g.low), g.mid, g.mid + factor * (g.high - g.mid))
        return replace(self, gain=wide)

    @property
    def flat(self) -> bool:
        """Surely slower than ``FLAT_SHARE`` of a healthy run."""
        return self.gain.high < FLAT_SHARE * self.healthy

    @property
    def falling(self) -> bool:
        """Falls beyond noise, and not surely flat."""
        return self.gain.low > 0 and not self.flat

    @property
    def share(self) -> float:
        """Improvement as a share of the healthy one."""
        return self.gain.mid / self.healthy


def measure_noise(curve: Curve, documents: Documents, after: float) -> Noise:
    """Noise of the evaluations above step ``after``."""
    part = curve.between(after, math.inf)
    level = float(part.se[-1]) if len(part) and math.isfinite(part.se[-1]) else None
    pairs = [documents.change(a, b) for a, b in itertools.pairwise(part.step[-8:])]
    paired = [p[1] for p in pairs if p is not None and math.isfinite(p[1])]
    # Where documents already give the noise, the bend of a short curve need not stand in for it.
    jitter = residual_sd(np.log(np.maximum(part.step, 1)), part.loss, robust=bool(paired))
    if paired:
        over_documents = float(np.median(paired)) / math.sqrt(2)
        weights = documents.weights
        count = 0 if weights is None else len(weights)
        total = math.hypot(over_documents, jitter or 0.0)
        basis = f"paired differences of {count} documents between evaluations"
        basis += ", and residuals around the trend" if jitter else ""
        return Noise(total, level, basis, over_documents, jitter, len(part))
    if jitter is None:
        return Noise(None, level, f"not measurable, evaluations after the warm-up: {len(part)}")
    return Noise(jitter, level, f"residuals of {len(part)} evaluations around a smooth trend", None, jitter)


def residual_sd(x: FloatArray, y: FloatArray, robust: bool = False) -> float | None:
    """Standard deviation of y around its local straight lines: each point against the line through its neighbours.

    The median absolute deviation; below 10 points, unless ``robust``, the root mean square. None below 5 points.
    """
    if len(x) < MIN_EVALS:
        return None
    share = (x[1:-1] - x[:-2]) / np.maximum(x[2:] - x[:-2], 1e-12)
    off = y[1:-1] - (y[:-2] + share * (y[2:] - y[:-2]))
    # Variance of that difference of three independent errors.
    scale = np.sqrt(1 + (1 - share) ** 2 + share**2)
    values = np.abs(off / scale)
    # A smooth curve bends as well: with few points the bend is counted as noise, which errs on the quiet side.
    if robust or len(values) >= 8:
        return float(1.4826 * np.median(values))
    return float(np.sqrt((values**2).mean()))


def window(curve: Curve, after: float, share: float = WINDOW) -> Curve:
    """The recent evaluations: those above ``share`` of the newest step, and above ``after``.

    Sparse ones reach back further, for ``FEW_EVALS`` of them down to ``FURTHEST`` of the newest step, for ``MIN_EVALS``
    as far as it takes: that makes a plateau harder to call, never easier.
    """
    usable = curve.between(max(after, 1), math.inf)
    if len(usable) == 0:
        return usable
    newest, count = usable.step[-1], len(usable)
    begin = share * newest
    if count >= FEW_EVALS:
        begin = min(begin, max(usable.step[-FEW_EVALS], FURTHEST * newest))
    begin = min(begin, usable.step[-min(MIN_EVALS, count)])
    return usable.between(float(begin), math.inf)


def measure_trend(part: Curve, documents: Documents, noise: Noise, healthy: tuple[float, str]) -> Trend | None:
    """Slope of a window of evaluations with its interval, or None where fewer than ``MIN_EVALS`` stand in it."""
    if len(part) < MIN_EVALS:
        return None
    size = -(-len(part) // _MAX_ROWS)
    x, y = blocks(np.log(part.step), size), blocks(part.loss, size)
    slope = theil_sen(x, y)
    half = _half_width(x, y, slope)
    if size == 1 and noise.eval_se:
        # Few evaluations may lie on a line by chance: their scatter is not taken below half the measured noise.
        half = max(half, 1.96 * 0.5 * noise.eval_se / _spread(x))
    over_documents = documents.slope(part.step[:: max(1, len(part) // 24)])
    if over_documents is not None:
        half = math.hypot(half, 1.96 * over_documents[1])
    gain = Interval(-slope - half, -slope, -slope + half)
    return Trend(gain, float(part.step[0]), float(part.step[-1]), len(part), *healthy)


def theil_sen(x: FloatArray, y: FloatArray) -> float:
    """Median of the slopes of all pairs of points, weighted by their distance in x (Jaeckel 1972)."""
    i, j = np.triu_indices(len(x), 1)
    dx = x[j] - x[i]
    keep = dx > 0
    return _weighted_median((y[j] - y[i])[keep] / dx[keep], dx[keep])


def _weighted_median(values: FloatArray, weights: FloatArray) -> float:
    if not len(values):
        return 0.0
    order = np.argsort(values)
    passed = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(passed, passed[-1] / 2)])


def _spread(x: FloatArray) -> float:
    return max(float(np.sqrt(((x - x.mean()) ** 2).sum())), 1e-9)


def _half_width(x: FloatArray, y: FloatArray, slope: float) -> float:
    """Half of the 95% interval: the wider of Student's around the line and the block bootstrap of its residuals."""
    n = len(x)
    residual = y - slope * x
    residual = residual - np.median(residual)
    freedom = n - 2
    t = _T975[max(k for k in _T975 if k <= freedom)]
    student = t * math.sqrt(float((residual**2).sum()) / freedom) / _spread(x)
    if n < 8:
        return student
    rng = np.random.default_rng(0)  # the same run gets the same answer each time
    length = max(2, round(n ** (1 / 3)))
    starts = rng.integers(0, n, size=(_REPLICATES, -(-n // length)))
    index = (starts[:, :, None] + np.arange(length)).reshape(_REPLICATES, -1)[:, :n] % n
    centred = x - x.mean()
    slopes = residual[index] @ centred / (centred @ centred)
    low, high = np.quantile(slopes, [0.025, 0.975])
    return max(student, float(high - low) / 2 * math.sqrt(n / freedom))
