"""The learning rate reached its floor long before the run's end; what came after hardly moved the weights.

In the schedule law (Tissue et al. 2024) progress follows the sum of the rates, not the steps.
"""

from __future__ import annotations

import math

from workbench.plateau import law
from workbench.plateau.cause import Action, Assessment, Finding
from workbench.plateau.evidence import Evidence
from workbench.plateau.experiment import Arms
from workbench.plateau.interval import Interval
from workbench.plateau.verdict import Verdict, trend_before

ID = "lr_decayed_early"
TITLE = "The learning rate decayed too early"
PRIOR = -1.5
IDLE = 0.03  # of the peak: a rate at which nothing moves any more
PROBE = Arms(
    "re-warmed to half the peak from the newest checkpoint, against a plain continuation, both annealed to zero over "
    "the same tokens",
    "rewarm", rewarm=0.5, refutes=None,
)  # fmt: skip


def assess(e: Evidence, verdict: Verdict) -> Assessment:
    """How long the rate has stood at its floor, and whether the run moved until then."""
    findings: list[Finding] = []
    missing: list[str] = []
    fix = "Let the decay end where the run ends."
    sets: dict[str, object] = {}
    planned = e.facts.number("max_steps")
    if planned:
        sets["schedule.decay_steps"] = int(planned)
    if e.rate is None:
        missing.append("lr and schedule: the rate over the run is unknown")
        return Assessment(findings, fix, Action("restart", sets), None, missing)
    since, share, stopped, idle = e.rate.floor_since, e.rate.share, False, False
    before = None
    if since is None:
        text = f"the learning rate still moves, at {share:.0%} of its peak ({e.rate.source})"
        findings.append(Finding(text, -1.0 if share < 0.1 else -4.0, {"lr": e.rate.now, "lr_share": share}))
    else:
        stood = (e.step - since) / max(e.step, 1)
        # At a hundredth of the peak what is left of a run adds next to nothing to the sum of its rates.
        idle = stood > 0.25 and share < IDLE and not (planned and e.step > 1.1 * planned)
        text = (
            f"the rate has stood at {e.rate.now:.3g}, {share:.0%} of its peak, since step {since:.0f}: "
            f"{stood:.0%} of the run"
        )
        weight = 4.0 if stood > 0.3 else 3.0 if stood > 0.15 else 0.0 if stood > 0.05 else -2.0
        findings.append(Finding(text, weight, {"lr": e.rate.now, "floor_since": since, "stood": stood}))
        decay_from = e.rate.decay_from or since
        before = trend_before(e, since)
        if before is not None and before.falling:
            text = f"until then it fell by {before.gain.mid:.2f} nats per e-fold of steps, like a healthy run"
            findings.append(Finding(text, 1.0, {"gain_before": before.gain.mid}))
            stopped = stood > 0.3 and e.trend is not None and e.trend.gain.high < 0.3 * before.gain.low
        elif before is not None and before.flat:
            text = f"it was flat before the floor, over steps {before.first:.0f} to {before.last:.0f}"
            findings.append(Finding(text, -2.5, {"gain_before": before.gain.mid}))
        if planned and e.step > 1.1 * planned:
            text = f"the plan of {planned:.0f} steps is over: the decay ended where it was meant to"
            findings.append(Finding(text, -3.0, {"max_steps": planned}))
        fix += f" Branch from a checkpoint at or before step {decay_from:.0f}, or re-warm."
    learns = e.gap is not None and e.gap.grows and e.gap.growth > 0.3
    if learns and e.gap is not None:
        text = f"seen text is learnt {e.gap.growth:.2f} better than held-out text: the weights do move"
        findings.append(Finding(text, -3.0, {"growth": e.gap.growth}))
    begin = None if e.rate.decay_from is None else int(e.rate.decay_from)
    action = Action("branch" if begin else "restart", sets, begin)
    concern = 0.85 if stopped or (idle and not learns) else 0.0
    return Assessment(findings, fix, action, _gain(e, since, before.gain.mid if before else None), missing, concern)


def _gain(e: Evidence, since: float | None, slope_before: float | None) -> Interval | None:
    """What the tokens behind the floor would have brought at a rate that moves the weights."""
    if since is None or since < 1 or e.step <= since:
        return None
    tokens = e.facts.number("tokens_seen")
    if e.expected.loss is not None and tokens:
        mid = law.data_term(tokens * since / e.step) - law.data_term(tokens)
        return Interval(0.3 * mid, 0.7 * mid, 1.2 * mid)
    if slope_before is None or slope_before <= 0:
        return None
    # A power law with exponent β, through the slope before the floor.
    mid = slope_before / law.BETA * (1 - (since / e.step) ** law.BETA)
    gone = 0.0 if e.trend is None else max(e.trend.gain.mid, 0.0) * math.log(e.step / since)
    left = max(mid - gone, 0.0)
    # A rate that is decaying halves the slope that is read here (measured on runs of 0.4M and 12M parameters).
    return Interval(0.3 * left, left, 2.2 * left)
