"""The gradient has died: the weights do not move, whatever the rate.

Seen in gradient norms of (almost) nothing. A loss scaler that skips its steps prints 0 as well.
"""

from __future__ import annotations

from workbench.plateau.cause import Action, Assessment, Finding
from workbench.plateau.evidence import Evidence
from workbench.plateau.experiment import Measurement
from workbench.plateau.verdict import Verdict

ID = "dead_gradients"
TITLE = "The gradients have died"
PRIOR = -2.5
PROBE = Measurement(
    "one batch overfitted with a fresh optimiser from the newest checkpoint (it must fall to almost 0), and tensors "
    "without a gradient counted",
    "alive", (), overfit=60,
)  # fmt: skip


def assess(e: Evidence, verdict: Verdict) -> Assessment:
    """Gradient norms now, and against those behind the warm-up."""
    findings: list[Finding] = []
    missing: list[str] = []
    concern = 0.0
    early, now = e.signals.grad_early, e.signals.grad_now
    if (said := same_for_all(e)) is not None:
        findings.append(Finding(said, 4.5))
        concern = 0.9
    if now is None or early is None:
        missing.append("gradient norms: dead gradients cannot be seen without them")
    elif e.signals.dead:
        text = f"the gradient norm is {now:.2g}, against {early:.2g} behind the warm-up"
        findings.append(Finding(text, 6.0, {"grad_now": now, "grad_early": early}))
        concern = 0.95
    elif now < 1e-3:
        text = f"the gradient norm is only {now:.2g}"
        findings.append(Finding(text, 3.0, {"grad_now": now}))
        concern = 0.6
    elif early > 0 and now < 0.02 * early:
        text = f"the gradient norm fell from {early:.2g} to {now:.2g}"
        findings.append(Finding(text, 1.0, {"grad_now": now, "grad_early": early}))
    else:
        text = f"the gradient norm is {now:.2g} (behind the warm-up: {early:.2g})"
        findings.append(Finding(text, -3.5, {"grad_now": now, "grad_early": early}))
    if e.trend is not None and e.trend.falling:
        findings.append(Finding("the loss still falls: the weights do move", -3.0))
        concern = 0.0
    fix = (
        "Start again from the last checkpoint with living gradients: bfloat16 in place of float16, a lower rate, and a "
        "check for layers cut off from the loss."
    )
    return Assessment(findings, fix, Action("restart"), None, missing, concern)


def same_for_all(e: Evidence) -> str | None:
    """That each batch has the same training loss, ln V: the output depends on the input no more. None where it does."""
    newest = e.train.loss[-20:]
    if len(newest) < 20 or e.step <= 2 * e.warm or float(newest.std()) > 1e-3:
        return None
    if abs(float(newest.mean()) - e.signals.log_vocab) > 0.05:
        return None
    return f"every batch has the same training loss, {newest.mean():.3f}, which is ln V: no output depends on it"
