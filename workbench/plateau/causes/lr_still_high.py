"""The learning rate is still high: the loss hovers above the floor of its valley, and annealing will bring it down.

Normal in a healthy run whose cooldown is still to come; the cause of flatness where nothing else is.
Cooldown: Hägele et al. 2024 (arXiv 2405.18392); linear to zero: Bergsma et al. 2025 (arXiv 2502.15938).
"""

from __future__ import annotations

from workbench.plateau.cause import Action, Assessment, Finding
from workbench.plateau.causes import instability
from workbench.plateau.evidence import Evidence, annealing_left
from workbench.plateau.experiment import Arms
from workbench.plateau.verdict import IMPROVING, PLATEAU, Verdict

ID = "lr_still_high"
TITLE = "The learning rate has not been annealed yet"
PRIOR = -1.0
PROBE = Arms(
    "a branch of the newest checkpoint annealed to zero, against one that goes on by the run's own schedule over the "
    "same tokens",
    "cooldown", high=True, cooldown=True,
)  # fmt: skip


def assess(e: Evidence, verdict: Verdict) -> Assessment:
    """The rate now as a share of its peak, what is planned, and what annealing would gain."""
    findings: list[Finding] = []
    cooldown = max(1, round(0.2 * e.step))
    sets = {"schedule.kind": "wsd", "schedule.cooldown_steps": cooldown, "schedule.min_lr": 0.0,
            "train.max_steps": e.step + cooldown}  # fmt: skip
    action = Action("branch", sets, e.step)
    fix = f"Cool down: anneal the rate to zero over the next {cooldown} steps (a fifth of the run)."
    if e.rate is None:
        missing = ["lr and schedule: whether the rate is still high is unknown"]
        return Assessment(findings, fix, action, None, missing)
    share = e.rate.share
    gain = annealing_left(e, 0.0)
    worth = "" if gain is None else f"; annealing it to zero is worth {gain}"
    text = f"the learning rate is {e.rate.now:.3g}, {share:.0%} of its peak ({e.rate.source}){worth}"
    weight = 3.0 if share > 0.8 else 1.0 if share > 0.3 else -1.0 if share > 0.1 else -4.0
    findings.append(Finding(text, weight, {"lr": e.rate.now, "lr_share": share}))
    if e.rate.final is not None and e.rate.final > 0.5 * e.rate.peak:
        findings.append(Finding("the plan never anneals it", 0.5, {"lr_final": e.rate.final}))
    elif e.rate.final is not None and verdict.name == IMPROVING and share > 0.1:
        text = f"the plan anneals it to {e.rate.final:.3g}: this is a run as planned"
        findings.append(Finding(text, -1.0, {"lr_final": e.rate.final}))
    if e.step <= 2 * e.warm:
        findings.append(Finding("the warm-up is hardly over", -2.0, {"warm": e.warm}))
    if e.gap is not None and e.gap.grows and e.gap.growth > 0.15:
        text = f"seen text is learnt {e.gap.growth:.2f} better than held-out text, at this very rate"
        findings.append(Finding(text, -2.5, {"growth": e.gap.growth}))
    if e.noise.restless:
        findings.append(
            Finding("the loss jumps between evaluations: the rate is too high, not only not annealed", -1.5)
        )
    if e.signals.lr_ratio is not None and e.signals.hot:
        text = f"the peak itself is {e.signals.lr_ratio:.2g}× the published optimum: a lower one comes first"
        findings.append(Finding(text, -2.0, {"lr_ratio": e.signals.lr_ratio}))
    if instability.rises_together(e):
        findings.append(Finding("the loss rises on both sides: the steps are too large, annealed or not", -2.0))
    if e.stability.blown_up > 0:
        findings.append(Finding("the training loss has blown up: this is past annealing", -3.0))
    # A run that has ended at a high rate, slower than a healthy one, left out the annealing that all others gain by.
    slow = e.trend is not None and (e.trend.share < 0.5 or e.trend.gain.high < e.trend.healthy)
    left_out = e.ended and slow and share > 0.5 and not (e.noise.restless or e.stability.blown_up > 0)
    concern = 0.85 if left_out and gain is not None and gain.mid > 0.02 else 0.0
    instead = ""
    if e.rate.final is not None and e.rate.final <= 0.3 * e.rate.peak and verdict.name != PLATEAU:
        instead = f"the plan itself anneals the rate to {e.rate.final:.3g}: wait for it, or branch a cooldown now"
    return Assessment(findings, fix, action, gain, [], concern, instead)
