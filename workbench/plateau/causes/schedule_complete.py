"""The schedule is at its end: the rate has been annealed as planned, so little more can come of further steps.

The usual end of a healthy run. A cause only where training goes on behind the plan's end.
"""

from __future__ import annotations

from workbench.plateau.cause import Action, Assessment, Finding
from workbench.plateau.evidence import Evidence, annealing_left
from workbench.plateau.verdict import Verdict

ID = "schedule_complete"
TITLE = "The schedule is complete"
PRIOR = -1.5
PROBE = None
INSTEAD = "a longer plan from a checkpoint before the decay, with a schedule that ends at zero"


def assess(e: Evidence, verdict: Verdict) -> Assessment:
    """Whether the plan is done, the rate annealed, and training went on behind it."""
    findings: list[Finding] = []
    missing: list[str] = []
    planned = e.facts.number("max_steps")
    end = e.facts.number("decay_steps") or planned
    if planned is None:
        missing.append("max_steps: where the plan ends is unknown")
    elif e.step > 1.1 * planned:
        text = f"training went on to step {e.step}, behind the plan's end at {planned:.0f}"
        findings.append(Finding(text, 4.0, {"step": e.step, "max_steps": planned}))
    elif e.ended:
        findings.append(Finding(f"all {planned:.0f} planned steps are done", 1.5, {"max_steps": planned}))
    else:
        text = f"{e.step / planned:.0%} of the {planned:.0f} planned steps are done"
        findings.append(Finding(text, -4.0, {"step": e.step, "max_steps": planned}))
    if e.rate is None:
        missing.append("lr and schedule: whether the rate has been annealed is unknown")
    elif e.rate.share < 0.2:
        text = f"the learning rate has come down to {e.rate.share:.0%} of its peak"
        findings.append(Finding(text, 0.7, {"lr": e.rate.now, "lr_share": e.rate.share}))
    else:
        text = f"the learning rate is still at {e.rate.share:.0%} of its peak"
        findings.append(Finding(text, -2.5, {"lr": e.rate.now, "lr_share": e.rate.share}))
    if planned and end and end < 0.9 * planned:
        text = f"the decay ended at step {end:.0f}, before the plan did"
        findings.append(Finding(text, -3.0, {"decay_steps": end}))
    if e.gap is not None and e.gap.grows and e.gap.growth > 0.15:
        text = f"seen text is learnt {e.gap.growth:.2f} better than held-out text: more than the schedule is at work"
        findings.append(Finding(text, -2.5, {"growth": e.gap.growth}))
    if e.stability.blown_up > 0:
        findings.append(Finding("the training loss has blown up", -2.0))
    if verdict.name not in ("finished", "plateau"):
        findings.append(Finding(f"the curve's verdict is “{verdict.name}”, which no finished schedule explains", -2.0))
    fix = (
        "Nothing is wrong: take the result. For more, plan more tokens from a checkpoint before the decay, with a "
        "schedule that ends at zero."
    )
    begin = int(e.rate.decay_from) if e.rate is not None and e.rate.decay_from else None
    return Assessment(findings, fix, Action("stop", {}, begin), annealing_left(e, 0.0), missing)
