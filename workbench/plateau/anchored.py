"""The loss expected of a run, read off earlier runs that were judged on the same held-out documents.

The law's constant belongs to the corpus (``law``); an earlier run fixes it. Its loss is moved to this run's size and
tokens by the law's differences, where the law was fitted, and by a slope known within a factor of two elsewhere; and to
this run's learning rate by what annealing gains. Where it passed these very tokens itself, little is left to move.

Each anchor says what can be reached, not what is best: of several, the one that promises most counts. Runs of another
family or optimiser are no anchors: that they do better is a lever, no fault of this one. And what a run has differently
from an anchor that did better is evidence on each cause that such a setting stands for: a twin, found among the runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.plateau import law, rate
from workbench.plateau.interval import Interval
from workbench.plateau.series import evaluations
from workbench.runs.anchors import Anchor
from workbench.runs.facts import Facts

LEAST = 0.04  # half-width: two seeds, and the noise of both evaluations, beside each other
SIZE_SLOPE = Interval(0.0, 0.15, 0.4)  # nats per e-fold of parameters where the law was not fitted
DATA_FACTORS = (0.4, 1.0, 1.75)  # of the healthy slope, where the law was not fitted
WITHIN = (0.8, 1.0, 1.2)  # of the law's own differences

# Cause → facts that it lies in, with the sign of (own − the anchor's) that speaks for it; 0: any difference.
SETTINGS: dict[str, tuple[tuple[str, int], ...]] = {
    "lr_too_high": (("lr", 1),),
    "lr_too_low": (("lr", -1),),
    "lr_decayed_early": (("decay_steps", -1), ("min_lr", -1), ("schedule", 0)),
    "instability": (("lr", 1), ("grad_clip", 0), ("warmup_steps", -1)),
    "over_regularised": (("dropout", 1), ("weight_decay", 1)),
    "under_regularised": (("dropout", -1), ("weight_decay", -1)),
    "batch_too_small": (("tokens_per_step", -1),),
    "batch_too_large": (("tokens_per_step", 1),),
    "data_repetition": (("unique_tokens", -1),),
    "duplicates": (("unique_tokens", -1), ("duplicate_fraction", 1)),
}
_SAME = 0.02  # relative difference below which two values count as one


@dataclass(frozen=True)
class Anchored:
    """What the best anchor promises: the loss expected now, which run it was, and what this run has differently."""

    loss: Interval
    name: str
    basis: str
    differences: dict[str, tuple[Any, Any]]  # fact → (own, the anchor's)

    def speaks(self, cause: str) -> int | None:
        """1: a setting that the cause lies in differs its way; -1: none of them does; None: nothing to compare."""
        settings = SETTINGS.get(cause)
        if settings is None:
            return None
        for key, sign in settings:
            own, theirs = self.differences.get(key, (None, None))
            if own is None or theirs is None:
                continue
            if sign == 0 or (own - theirs) * sign > 0:
                return 1
        return -1


def anchored(
    anchors: Sequence[Anchor], facts: Facts, own: rate.Rate | None, effective: float | None
) -> Anchored | None:
    """The loss that earlier runs promise now, or None where none of them is comparable.

    Args:
        own: the learning rate over this run. effective: D' of ``law``; None: the tokens seen stand for it.
    """
    n, tokens = facts.number("parameters"), facts.number("tokens_seen")
    if not n or not tokens:
        return None
    best: Anchored | None = None
    for anchor in anchors:
        loss = _promise(anchor, facts, n, effective or tokens, own)
        if loss is not None and (best is None or loss.high < best.loss.high):
            differ = _differences(facts, anchor.facts)
            told = ", ".join(f"{key} {_short(a)} there {_short(b)}" for key, (a, b) in list(differ.items())[:4])
            basis = (
                f"the run {anchor.name}, on the same held-out documents, moved to this size, these tokens and this "
                f"learning rate ({f'it differs: {told}' if told else 'its settings are the same'})"
            )
            best = Anchored(loss, anchor.name, basis, differ)
    return best


def _promise(anchor: Anchor, facts: Facts, n: float, worth: float, own: rate.Rate | None) -> Interval | None:
    theirs = anchor.facts
    size, unique = theirs.number("parameters"), theirs.number("unique_tokens")
    per_step = theirs.number("tokens_per_step")
    if not size or not per_step or theirs.text("optimizer") != facts.text("optimizer"):
        return None
    curve = evaluations(anchor.history.val)
    curve = curve.between(1, math.inf)
    if not len(curve):
        return None
    schedule = rate.read_rate(anchor.history, theirs)
    found = []
    passed = np.array([law.effective_tokens(s * per_step, unique) if unique else s * per_step for s in curve.step])
    at = int(np.searchsorted(passed, worth, side="right")) - 1
    for i in {max(at, 0), len(curve) - 1}:
        moved = _size(size, n) + _data(float(passed[i]), worth)
        if own is not None and schedule is not None:
            moved = moved + _annealing(schedule.at(float(curve.step[i])) / schedule.peak, own.share, n)
        level = float(curve.loss[max(0, i - 1) : i + 2].mean()) if 0 < i < len(curve) - 1 else float(curve.loss[i])
        loss = Interval(level - LEAST, level, level + LEAST) + moved
        found.append(loss)
    return min(found, key=lambda loss: loss.high - loss.low)


def _size(theirs: float, own: float) -> Interval:
    """Nats by which a loss changes from one size to another."""
    low, high = law.FITTED_PARAMETERS
    if low <= min(theirs, own) and max(theirs, own) <= high:
        return _times(law.size_term(own) - law.size_term(theirs), WITHIN)
    efolds = math.log(theirs / own)
    return Interval.of(*(slope * efolds for slope in (SIZE_SLOPE.low, SIZE_SLOPE.mid, SIZE_SLOPE.high)))


def _data(theirs: float, own: float) -> Interval:
    """Nats by which a loss changes from some tokens (worth fresh ones) to others."""
    low, high = law.FITTED_TOKENS
    if low <= min(theirs, own) and max(theirs, own) <= high:
        return _times(law.data_term(own) - law.data_term(theirs), WITHIN)
    slope, _ = law.healthy_slope(math.sqrt(theirs * own))
    return _times(slope * math.log(theirs / own), DATA_FACTORS)


def _annealing(theirs: float, own: float, parameters: float) -> Interval:
    """Nats that a loss stands higher at one share of the peak rate than at another."""
    full, _ = rate.full_cooldown(parameters)
    parts = sorted(own**p - theirs**p for p in rate.POWER)
    ends = [f * p for f in (full.low, full.mid, full.high) for p in parts]
    return Interval(min(ends), full.mid * parts[1], max(ends))


def _times(value: float, factors: tuple[float, float, float]) -> Interval:
    return Interval.of(*(value * factor for factor in factors))


def _differences(own: Facts, theirs: Facts) -> dict[str, tuple[Any, Any]]:
    """Settings that both runs state, and state differently; numbers within 2% count as one."""
    keys = (
        "lr", "min_lr", "schedule", "warmup_steps", "decay_steps", "cooldown_steps", "dropout", "weight_decay",
        "grad_clip", "tokens_per_step", "parameters", "unique_tokens", "duplicate_fraction", "max_steps",
    )  # fmt: skip
    found: dict[str, tuple[Any, Any]] = {}
    for key in keys:
        a, b = _setting(own, key), _setting(theirs, key)
        if a is None or b is None or a == b:
            continue
        numbers = isinstance(a, (int, float)) and isinstance(b, (int, float))
        if not numbers or abs(a - b) > _SAME * max(abs(a), abs(b)):
            found[key] = (a, b)
    return found


def _setting(facts: Facts, key: str) -> Any:
    """A fact's value; a decay that is not said to end earlier ends with the plan."""
    fact = facts[key]
    if fact is None and key == "decay_steps":
        fact = facts["max_steps"]
    return None if fact is None else fact.value


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, (int, float)) else str(value)
