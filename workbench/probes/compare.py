"""The difference between arms, or between document sets, with the interval that holds it.

Two errors: which documents were held out (paired differences, document by document) and which order the data came in
(the spread of the difference between pairs of arms; what an order does to both arms of its pair cancels). The second
rests on two pairs, too few for a standard deviation of its own: it is taken together with what is known beforehand,
``SEED_SD`` with the weight of two more pairs. Of a 124M model the seed moves the final loss by about 0.002; of small
models, and over few tokens, by more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from workbench.plateau.interval import Interval
from workbench.plateau.series import weighted_mean

Floats = npt.NDArray[np.float64]

SEED_SD, SEED_WEIGHT = 0.005, 2  # nats, and degrees of freedom
_T = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26, 10: 2.23}  # 97.5%


def arms_difference(
    plain: Sequence[Floats], changed: Sequence[Floats], weights: Floats
) -> tuple[Interval, float, float]:
    """How much lower the changed arms end than the plain ones (above 0: lower), with 95% interval.

    Args:
        plain, changed: mean loss of each document, float64 [documents], an arm each; arms of one index are a pair.
        weights: tokens of each document, float64 [documents].

    Returns:
        The difference in nats; its standard error over documents; its standard deviation between orders of the data.
    """
    pairs = [a - b for a, b in zip(plain, changed, strict=True)]
    mid, of_documents = weighted_mean(np.mean(pairs, axis=0), weights)
    each = [weighted_mean(pair, weights)[0] for pair in pairs]
    freedom = SEED_WEIGHT + len(pairs) - 1
    sd = math.sqrt((SEED_WEIGHT * SEED_SD**2 + float(np.var(each)) * len(pairs)) / freedom)
    half = _T.get(freedom, 2.0) * math.hypot(_finite(of_documents), sd / math.sqrt(len(pairs)))
    return Interval(mid - half, mid, mid + half), of_documents, sd


def sets_difference(higher: tuple[Floats, Floats], lower: tuple[Floats, Floats]) -> Interval:
    """Loss of one set of documents above that of another (losses and tokens, float64 [documents] each), 95%."""
    (a, a_se), (b, b_se) = weighted_mean(*higher), weighted_mean(*lower)
    half = 2.0 * math.hypot(_finite(a_se), _finite(b_se))
    return Interval(a - b - half, a - b, a - b + half)


def paired_difference(higher: Floats, lower: Floats, weights: Floats) -> Interval:
    """The same for two losses of the same documents, paired."""
    mid, se = weighted_mean(higher - lower, weights)
    half = 2.0 * _finite(se)
    return Interval(mid - half, mid, mid + half)


def _finite(se: float) -> float:
    return se if math.isfinite(se) else 1.0
