"""What the curve does, before anyone asks why: both gates, in one word and one sentence."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from workbench.plateau.evidence import Evidence
from workbench.plateau.series import Documents, take
from workbench.plateau.trend import FLAT_SHARE, MIN_EVALS, Trend, measure_trend

ANCHORED = 0.9  # concern for a run that lies above what an earlier one reached on the same documents

IMPROVING, PLATEAU, FINISHED = "improving", "plateau", "finished"
OVERFITTING, DIVERGING, NOT_ENOUGH = "overfitting", "diverging", "not_enough_evidence"


@dataclass(frozen=True)
class Verdict:
    """``name`` is one of the six words; ``why`` one sentence with its numbers.

    ``concern`` is the probability that something holds the run back at all: no cause is more probable than that. It
    stays below one half for a run that improves, has finished as planned, or shows too little.
    """

    name: str
    why: str
    concern: float


def judge(e: Evidence) -> Verdict:
    """The verdict on a run."""
    if (diverging := _diverging(e)) is not None:
        return diverging
    what = "held-out loss" if e.main_is_heldout else "training loss"
    after = len(e.main.between(e.warm, math.inf))
    if e.trend is None:
        if e.ended and after >= 2:
            why = f"the plan is done, at a {what} of {e.loss:.3f}; {after} evaluations do not show how it got there"
            return Verdict(FINISHED, why, 0.35)
        why = f"evaluations after the warm-up: {after}; a trend needs {MIN_EVALS}"
        return Verdict(NOT_ENOUGH, why, 0.4)
    t, rise = e.trend, e.rise
    moved = f"{what} {e.loss:.3f}"
    if rise is not None and rise.beyond_noise and e.main_is_heldout:
        rose = (
            f"held-out loss rose by {rise.amount:.3f} ± {rise.se:.3f} since step {rise.best_step:.0f} "
            f"(best {rise.best:.3f})"
        )
        if e.epochs is not None and e.epochs <= 1.05 and e.gap is not None and e.gap.falls > 0:
            why = f"{rose}, though no text was read twice: this is no learning by heart"
            return Verdict(PLATEAU, why, 0.97)
        if e.gap is not None and e.gap.falls > max(2 * e.gap.falls_se, 0.01):
            where = "loss on seen documents" if e.gap.basis == "seen documents" else "training loss"
            return Verdict(OVERFITTING, f"{rose} while the {where} fell by {e.gap.falls:.3f}", 0.99)
        if e.gap is None and not len(e.train):
            why = f"{rose}; without a training loss, overfitting and divergence look the same"
            return Verdict(NOT_ENOUGH, why, 0.48)
        return Verdict(PLATEAU, f"{rose}, and the training side does not fall", 0.97)

    moves, fall = ("falls", t.gain) if t.gain.mid >= 0 else ("rises", -t.gain)
    pace = (
        f"over steps {t.first:.0f} to {t.last:.0f} it {moves} by {fall.mid:.3f} nats per e-fold of steps "
        f"({fall.low:.3f} to {fall.high:.3f}), where a healthy run falls by about {t.healthy:.2f}"
    )
    if t.flat:
        if e.ended and _annealed_on_plan(e) and not (e.gap is not None and e.gap.grows):
            return Verdict(FINISHED, f"the plan is done and its learning rate annealed: {moved}; {pace}", 0.35)
        return Verdict(PLATEAU, f"{moved}: {pace}", 0.97)
    concern = _concern(e)
    if e.ended and (t.falling or not e.noise.restless):
        return Verdict(FINISHED, f"the plan is done at {moved}; {pace}", concern)
    if t.falling:
        return Verdict(IMPROVING, f"{moved}, still falling: {pace}", concern)
    why = f"{moved}: {pace}; the interval holds both a plateau and healthy progress"
    return Verdict(NOT_ENOUGH, why, 0.4)


def _diverging(e: Evidence) -> Verdict | None:
    losses = take(e.history.steps, "loss")[0]
    tail = losses[-3:]
    if e.stability.lost >= 3 and len(tail) and not np.isfinite(tail).any():
        last = e.train.step[-1] if len(e.train) else 0
        return Verdict(DIVERGING, f"the training loss is not a number since step {last:.0f}", 0.99)
    newest = e.history.val.last("loss")
    if len(e.history.val) and math.isnan(newest) and len(e.main) and not np.isfinite(tail).any():
        return Verdict(DIVERGING, f"the held-out loss is not a number since step {e.main.step[-1]:.0f}", 0.99)
    if (far := _far_above(e)) is not None:
        why = f"the {far} stood more than 1 nat below this before: the optimiser is out of bounds"
        return Verdict(DIVERGING, why, 0.99)
    if (
        e.stability.blown_up > 0
        and not e.signals.waves
        and not (e.trend is not None and e.trend.gain.mid > 0.5 * e.trend.healthy)
    ):
        # Repeated data never raise the training loss; an optimiser out of bounds does.
        why = f"the training loss stands {e.stability.blown_up:.2f} above its best level, far beyond its noise"
        return Verdict(DIVERGING, why, 0.99)
    return None


def _far_above(e: Evidence) -> str | None:
    """Held-out and training loss both by over 1 nat above their best, for some time: also where either is sparse."""
    held, train = e.main.loss, e.train.loss
    if len(held) < 6 or float(held[-3:].min()) < float(held.min()) + 1.0:
        return None
    if e.main_is_heldout and (len(train) < 3 or float(train[-2:].min()) < float(train.min()) + 1.0):
        return None
    return "held-out loss and the training loss" if e.main_is_heldout else "training loss"


def _annealed_on_plan(e: Evidence) -> bool:
    """Whether flatness at the end is the schedule's own: the rate is low, and the run moved until it was."""
    if e.rate is None or e.rate.share > 0.2 or e.rate.decay_from is None:
        return False
    if e.rate.floor_since is not None and e.rate.floor_since < 0.85 * e.step:
        return False
    before = trend_before(e, e.rate.decay_from + 0.7 * (e.step - e.rate.decay_from))
    return before is None or not before.flat


def trend_before(e: Evidence, step: float) -> Trend | None:
    """The trend as it would have been measured at an earlier step."""
    part = e.main.between(max(e.warm, 0.4 * step, 1), step)
    if len(part) < MIN_EVALS and e.gap is not None and abs(e.gap.growth) < 0.3:
        part = e.train.between(max(e.warm, 0.4 * step, 1), step)  # of so early a time the training loss alone is told
    if len(part) < MIN_EVALS or e.trend is None:
        return None
    return measure_trend(part, Documents(None, ""), e.noise, (e.trend.healthy, e.trend.basis))


def _concern(e: Evidence) -> float:
    """For a run that moves: more where it is slow, above the loss expected of it, or memorises."""
    concern = 0.3
    if e.trend is not None and e.trend.share < 2 * FLAT_SHARE:
        concern = 0.42
    if e.gap is not None and e.gap.grows and e.gap.growth > 0.3:
        concern = 0.45
    if e.above:
        # The law alone is known to a constant of the corpus; a run that did better on the same documents is seen.
        concern = 0.48 if e.anchored is None else ANCHORED
    return concern
