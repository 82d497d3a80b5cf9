"""The peak learning rate is too low: progress follows the sum of the rates (Tissue et al. 2024), and that is small.

Seen by the rate's level against the published optima, by a loss above what size and tokens should give, and by a fall
that is steeper than a healthy run's at these tokens: the run is where others were long before.
"""

from __future__ import annotations

import math

import numpy as np

from workbench.plateau.cause import Action, Assessment, Finding, above_expected
from workbench.plateau.evidence import Evidence
from workbench.plateau.experiment import Arms
from workbench.plateau.interval import Interval
from workbench.plateau.signals import FAR, FREQUENCIES
from workbench.plateau.verdict import Verdict

ID = "lr_too_low"
TITLE = "The learning rate is too low"
PRIOR = -2.0
PROBE = Arms(
    "LR × 3 from the newest checkpoint, against a plain continuation, both annealed to zero over the same tokens",
    "lr-x3", rate=3.0, high=True, refutes=0.01,
)  # fmt: skip


def assess(e: Evidence, verdict: Verdict) -> Assessment:
    """The peak against published optima, the expected loss, and whether the run is behind its tokens."""
    findings: list[Finding] = []
    missing: list[str] = []
    ratio = e.signals.lr_ratio
    if e.signals.trained_before:
        missing.append("earlier training: published optima are of training from scratch, and its rate is unknown")
    elif ratio is None:
        missing.append(
            "parameters, lr and the optimiser (AdamW, or this engine's Muon): the rate cannot be set against published "
            "optima"
        )
    else:
        text = f"the peak rate is 1/{1 / ratio:.2g} of the published optimum for its optimiser at this size"
        if ratio >= 1 / 3:
            text = "the peak rate is not below a third of the published optima for its optimiser"
        weight = -3.5 if ratio > 1 / 3 else _weight(ratio)
        findings.append(Finding(text, weight, {"lr_ratio": ratio}))
    if e.signals.trained_before:
        text = "the first losses are those of a model trained before, which low rates suit"
        findings.append(Finding(text, -2.0))
    findings += above_expected(e, 1.0)
    if e.trend is not None and e.trend.gain.low > 1.5 * e.trend.healthy and e.step > 3 * e.warm:
        text = (
            f"it falls by {e.trend.gain.mid:.2f} nats per e-fold of steps, where a healthy run falls by "
            f"{e.trend.healthy:.2f} at these tokens: the run is behind them"
        )
        findings.append(Finding(text, 1.0, {"gain": e.trend.gain.mid, "healthy": e.trend.healthy}))
    if e.stability.blown_up > 0 or e.noise.restless or len(e.stability.spikes) >= 3:
        findings.append(Finding("the training is unstable, which no low rate explains", -3.0))
    if e.gap is not None and e.gap.grows and e.gap.growth > 0.3:
        text = f"training text is learnt {e.gap.growth:.2f} better than held-out text: the weights do move"
        findings.append(Finding(text, -2.5, {"growth": e.gap.growth}))
    unmoved = _unmoved(e)
    if unmoved and e.signals.initial:
        text = (
            f"after {e.step} steps, its rate annealed, the loss is still {e.loss / e.signals.initial:.0%} of the "
            f"untrained model's {e.signals.initial:.2f}, and falls smoothly: the weights have hardly moved"
        )
        findings.append(Finding(text, 4.0, {"initial": e.signals.initial, "loss": e.loss}))
    slowly = _slowly(e)
    findings += slowly
    low = unmoved or (ratio is not None and ratio < 1 / FAR) or sum(f.weight for f in slowly) > 2
    concern = 0.85 if low and e.step > 3 * e.warm and not (e.gap is not None and e.gap.grows) else 0.0
    lr = e.facts.number("lr") or (e.rate.peak if e.rate is not None else None)
    sets: dict[str, object] = {"optim.lr": float(f"{lr * 3:.3g}")} if lr else {}
    known = ratio is not None and ratio < 1 / FAR
    excess = None if e.level.loss is None else e.loss - e.level.loss.mid
    gain = None
    if known and excess is not None and excess > 0.05:
        gain = Interval(0.2 * excess, 0.7 * excess, 1.2 * excess)
    elif known and ratio is not None and excess is None:
        square = math.log(ratio) ** 2  # as in lr_too_high; too low a rate costs a short run still more
        gain = Interval(0.01 * square, 0.2 * square, 0.6 * square)
    fix = "Start again with three times the peak learning rate (ten times, if it is far below the optimum)."
    return Assessment(findings, fix, Action("restart", sets), gain, missing, concern)


def _weight(ratio: float) -> float:
    """Log-odds by how far the peak lies below the lower of the published optima."""
    return float(np.interp(math.log(1 / ratio), np.log([3, FAR, 6, 15]), [0.0, 1.0, 2.0, 3.5]))


def _slowly(e: Evidence) -> list[Finding]:
    """A late start, and how far the weights can have come by the end of an annealed schedule."""
    findings: list[Finding] = []
    s = e.signals
    if s.slow_start is not None and s.slow_start > 0.08 and e.step >= 100:
        text = (
            f"{s.slow_start:.0%} of the run behind the warm-up went by until the frequencies of single tokens were "
            "learnt, which come first and fast"
        )
        findings.append(Finding(text, 2.0 if s.slow_start > 0.12 else 1.0, {"slow_start": s.slow_start}))
    frequent = FREQUENCIES * (s.initial or math.inf)  # where the frequencies of single tokens are learnt, about
    never = s.slow_start is None and e.loss > frequent
    over = e.ended or (e.rate is not None and e.rate.decay_from is not None and e.rate.share < 0.3)
    if never and over and e.step >= 200 and e.step > 3 * e.warm and e.trend is not None and e.trend.falling:
        text = (
            f"its schedule is over, and the loss {e.loss:.2f} still falls above {frequent:.2f}, about where the "
            "frequencies of single tokens are learnt"
        )
        findings.append(Finding(text, 1.5, {"loss": e.loss, "frequencies": frequent}))
    if s.moved is not None and over and s.moved > 0.3:
        findings.append(Finding(f"the rates of all steps add up to {s.moved:.2g}: enough to move any weight", -1.5))
    elif s.moved is not None and over and s.moved < 0.1:
        text = f"the rates of all steps add up to {s.moved:.2g}: no weight can have moved much further"
        findings.append(Finding(text, 1.5 if s.moved < 0.06 else 0.5, {"moved": s.moved}))
    return findings


def _unmoved(e: Evidence) -> bool:
    """Whether a schedule came to its end before even the frequencies of single tokens were learnt, without strain.

    These are learnt first (Belrose et al. 2024, arXiv 2402.04362), within a hundred steps at a rate that moves the
    weights, and come to about 0.7 of ln V. Broken targets stay flat there, or at ln V.
    """
    s = e.signals
    if s.initial is None or e.rate is None or e.rate.decay_from is None or e.rate.share > 0.5 or e.trend is None:
        return False
    strained = e.stability.blown_up > 0 or e.noise.restless or len(e.stability.spikes) >= 3 or s.dead
    return e.step >= 200 and e.step > 3 * e.warm and e.loss > 0.85 * s.initial and e.trend.falling and not strained
