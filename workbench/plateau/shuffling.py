"""Signs of data that are read in order, in runs too short or too uneven for long waves to be seen.

Whatever a shuffled run trains on next is a fair sample of all it trains on. So its training loss stays at one distance
from that of a fixed sample of training documents, and what is left around a smooth trend has no memory: residuals of
neighbouring steps are uncorrelated (Ljung & Box 1978). Data read source by source break both.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np

from workbench.plateau.series import Curve
from workbench.runs.history import FloatArray

SURE = 0.25  # nats; in shuffled runs of this engine distance and memory stay below 0.2
_WINDOW = 5  # losses behind each evaluation, at least
_FEWEST = 100  # losses for the memory
_CLIP = 6.0  # robust deviations


@dataclass(frozen=True)
class Shuffling:
    """What was seen; None where a run does not tell.

    Attributes:
        distance, distance_se: how far the training loss wanders from that of seen documents, from one evaluation to the
            next (standard deviation around a steady drift, nats), and what the noise of its means would give.
        memory, memory_z: part of the residuals (standard deviation, nats) that lasts from one loss to the next, and how
            surely it is there.
    """

    distance: float | None = None
    distance_se: float | None = None
    memory: float | None = None
    memory_z: float | None = None

    @property
    def wanders(self) -> bool:
        """Whether the training loss surely wanders from the loss of seen documents."""
        return self.distance is not None and self.distance > max(SURE, 2.5 * (self.distance_se or 0.0))

    @property
    def ordered(self) -> bool:
        """Both signs at once: what the loss does then is the data's doing, and the evaluations follow what was read."""
        return self.wanders and self.remembers

    @property
    def remembers(self) -> bool:
        """Whether residuals of the training loss surely last."""
        return self.memory is not None and self.memory > SURE and (self.memory_z or 0.0) > 5


def measure(train: Curve, seen: Curve, warm: float) -> Shuffling:
    """Both signs, of the training loss at each step and of the evaluations of seen documents."""
    distance, se = _distance(train, seen, warm)
    memory, z = _memory(train.between(max(warm, 0.1 * train.step[-1]) if len(train) else 0.0, math.inf))
    return Shuffling(distance, se, memory, z)


def _distance(train: Curve, seen: Curve, warm: float) -> tuple[float | None, float | None]:
    behind = seen.between(max(warm, 1), math.inf)
    means, errors, at = [], [], []
    for i in range(1, len(behind)):
        window = train.between(float(behind.step[i - 1]), float(behind.step[i]))
        if len(window) >= _WINDOW:
            off = window.loss - np.interp(np.log(window.step), np.log(behind.step), behind.loss)
            means.append(float(off.mean()))
            errors.append(float(off.std(ddof=1)) / math.sqrt(len(off)))
            at.append(math.log(float(behind.step[i])))
    if len(means) < 6:
        return None, None
    # Beginnings of documents, or those already read, are learnt at another pace: that goes one way, and is no order.
    steady = np.polynomial.Polynomial.fit(at, means, 1)
    left = np.array(means) - steady(np.array(at))
    return math.sqrt(float((left**2).sum()) / (len(left) - 2)), float(np.mean(errors))


def _memory(part: Curve) -> tuple[float | None, float | None]:
    if len(part) < _FEWEST:
        return None, None
    x, y = np.log(part.step), part.loss
    residual = y - _smooth(x, y)
    # Spikes are another matter: a single one would be most of the variance.
    limit = _CLIP * max(1.4826 * float(np.median(np.abs(residual))), 1e-9)
    residual = y - _smooth(x, y - residual + np.clip(residual, -limit, limit))
    residual = np.clip(residual - np.median(residual), -limit, limit)
    variance = float((residual**2).mean())
    if variance <= 0:
        return None, None
    correlation = float((residual[1:] * residual[:-1]).mean()) / variance
    return math.sqrt(max(correlation, 0.0) * variance), correlation * math.sqrt(len(residual))


def _smooth(x: FloatArray, y: FloatArray) -> FloatArray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few distinct points
        fitted: FloatArray = np.polynomial.Polynomial.fit(x, y, 4)(x)
    return fitted
