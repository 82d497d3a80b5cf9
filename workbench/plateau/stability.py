"""Spikes, blow-ups and clipping, from the losses and gradient norms of the steps.

Of a run of very many steps a row of the history stands for several (``columns.Folded``): its mean loss would hide a
spike of one step, so the highest loss and norm of the row are read, and how many of its steps had no finite loss.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from workbench.plateau.series import Curve, take
from workbench.runs.history import FloatArray, History

SPIKE = 6.0  # robust z
_SPAN = 25  # steps of the running median


@dataclass(frozen=True)
class Stability:
    """What the steps say.

    Attributes:
        spikes: steps whose loss stands more than ``SPIKE`` robust deviations above the running median.
        largest: height of the highest spike over the running median, nats.
        clipped: share of steps whose gradient was clipped; None if not logged.
        norm_tail: 99th percentile of the gradient norm over its median; None if not logged.
        lost: steps whose loss was not finite, among those that were logged with one.
        blown_up: nats that the training loss now stands above its best level, beyond noise; 0 if it does not.
        steps: how many losses this rests on.
        harder: the same rise where the held-out loss does not share it: of the text that is read, not of the optimiser.
    """

    spikes: tuple[int, ...]
    largest: float
    clipped: float | None
    norm_tail: float | None
    lost: int
    blown_up: float
    steps: int
    harder: float = 0.0


def measure(history: History, curve: Curve, after: float) -> Stability:
    """Stability behind step ``after`` (the warm-up); ``curve`` is the training loss."""
    part = curve.between(after, math.inf)
    spikes: tuple[int, ...] = ()
    largest = 0.0
    folded = history.steps.stride > 1
    if len(part) >= 2 * _SPAN:
        tops = _tops(history, part) if folded else part.loss
        # The highest of many steps lies above their mean by itself: it is judged among its like.
        off = tops - running_median(tops, _SPAN)
        scale = max(1.4826 * float(np.median(np.abs(off))), 1e-4)
        high = np.flatnonzero(off > max(SPIKE * scale, 0.05))
        spikes = tuple(int(s) for s in part.step[high])
        largest = float(off[high].max()) if len(high) else 0.0

    step, norms, clipped, losses = take(history.steps, "step", "grad_norm", "clipped", "loss")
    late = step > after
    if folded:
        highest = take(history.steps, "grad_norm_max")[0][late]
        highest = highest[np.isfinite(highest)]
    norms, clipped = norms[late & np.isfinite(norms)], clipped[late & np.isfinite(clipped)]
    tail = None
    if len(norms) >= 20:
        # Of a row of k steps the highest norm exceeds a value with about k times a single step's probability.
        top = np.quantile(highest, 0.99 ** min(history.steps.stride, 64)) if folded else np.quantile(norms, 0.99)
        tail = float(top / max(np.median(norms), 1e-12))
    share = float((clipped > 0).mean()) if len(clipped) else None
    # A step that was logged without a finite loss, where losses are logged at all.
    finite = np.isfinite(losses)
    lost = int((~finite[np.argmax(finite) :]).sum()) if finite.any() else 0
    if folded and finite.any():
        each = take(history.steps, "loss_lost")[0]
        # Losses that are logged now and then leave gaps in every row: those are no lost ones.
        lost = int(np.maximum(each - np.median(each), 0).sum())
    elif len(finite) and finite.any() and finite.mean() < 0.5:
        lost = 0  # losses are logged now and then, not at each step
        if not finite[-1] and not finite[-min(len(finite), 50) :].any():
            lost = int(len(finite) - 1 - np.flatnonzero(finite)[-1])
    return Stability(spikes, largest, share, tail, lost, _blown_up(part), len(part))


def _tops(history: History, part: Curve) -> FloatArray:
    """The highest loss between each point of the curve and the one before it, shape [points]."""
    step, top = take(history.steps, "step", "loss_max")
    keep = np.isfinite(top)
    step, top = step[keep], top[keep]
    # A point of a curve in blocks is the mean of its steps: the middle between two points parts them.
    edges = (part.step[1:] + part.step[:-1]) / 2
    begins = np.concatenate([[np.searchsorted(step, part.step[0])], np.searchsorted(step, edges)])
    begins = np.minimum(np.maximum.accumulate(begins), len(top) - 1)
    highest: FloatArray = np.maximum.reduceat(top, begins)
    return np.maximum(highest, part.loss)


def _blown_up(part: Curve) -> float:
    size = max(1, len(part) // 20)
    if len(part) < 10:
        return 0.0
    count = len(part) // size
    levels = np.array([np.median(part.loss[i * size : (i + 1) * size]) for i in range(count)])
    scatter = 1.4826 * float(np.median(np.abs(np.diff(part.loss)))) / math.sqrt(2)
    error = 1.25 * scatter / math.sqrt(size)
    newest = float(np.median(part.loss[-size:]))
    rise = newest - float(levels.min())
    return rise if rise > max(6 * error, 0.1) else 0.0


def running_median(values: FloatArray, span: int) -> FloatArray:
    """Median over a centred span of points, shape as given. Beyond the ends the values go on point-reflected, so that
    a steady fall is no deviation from it."""
    half = span // 2
    before = 2 * np.median(values[:3]) - values[half:0:-1]
    behind = 2 * np.median(values[-3:]) - values[-2 : -half - 2 : -1]
    padded = np.concatenate([before, values, behind])
    medians: FloatArray = np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1), axis=1)
    return medians
