"""The held-out set is too small: neither its level nor a small change of it means much.

A document's loss has a standard deviation of about 0.45 nats: 100 documents give a level no better than ± 0.045. Fixed
documents still compare well from one evaluation to the next (paired differences), redrawn ones do not.
"""

from __future__ import annotations

from workbench.plateau.cause import Action, Assessment, Finding
from workbench.plateau.evidence import Evidence
from workbench.plateau.experiment import Measurement
from workbench.plateau.verdict import FINISHED, IMPROVING, Verdict

ID = "val_tiny"
TITLE = "The held-out set is too small to judge by"
PRIOR = -2.0
PROBE = Measurement(
    "the oldest and the newest checkpoint on several hundred more held-out documents than the run evaluates",
    "tiny", ("own", "more"), checkpoints=2,
)  # fmt: skip
HARDLY = 0.2  # nats: error of a level that rests on four documents
FEW_TOKENS = 5_000
FEW_DOCUMENTS = 10


def assess(e: Evidence, verdict: Verdict) -> Assessment:
    """Its tokens and documents, the error of its level, and whether the noise hides a healthy fall."""
    findings: list[Finding] = []
    missing: list[str] = []
    tokens, documents = e.facts.number("val_tokens"), e.facts.number("val_documents")
    few = (tokens is not None and tokens < FEW_TOKENS) or (documents is not None and documents < FEW_DOCUMENTS)
    hardly = (tokens is not None and tokens < FEW_TOKENS / 10) or (
        documents is not None and documents < FEW_DOCUMENTS / 2
    )
    if documents is None and e.noise.level_se is not None:
        hardly = hardly or e.noise.level_se > HARDLY
    if tokens is None and documents is None:
        missing.append("val_tokens: how much the held-out level can be trusted is unknown")
    else:
        size = " and ".join(
            f"{value:,.0f} {what}"
            for value, what in ((documents, "documents"), (tokens, "tokens"))
            if value is not None
        )
        large = (tokens or 0) >= 200_000 or (documents or 0) >= 300
        findings.append(Finding(f"an evaluation reads {size}", 3.0 if few else -3.0 if large else 0.0))
    if (level := e.noise.level_se) is not None:
        weight = 2.0 if level > 0.3 else 1.0 if level > 0.1 else 0.5 if level > 0.05 else -1.0
        findings.append(Finding(f"its level is known to ± {level:.3f}", weight, {"level_se": level}))
    hides = False
    if e.trend is not None:
        half = (e.trend.gain.high - e.trend.gain.low) / 2
        hides = half > e.trend.healthy
        text = (
            f"the slope is known to ± {half:.2f} nats per e-fold of steps, where a healthy run falls by "
            f"{e.trend.healthy:.2f}"
        )
        paired = e.noise.over_documents is not None  # the same documents: their choice cancels in differences
        weight = 1.0 if hides else -2.5 if paired and half < 0.5 * e.trend.healthy else -1.5
        findings.append(Finding(text, weight, {"half": half, "healthy": e.trend.healthy}))
    if e.noise.restless or e.stability.blown_up > 0:
        findings.append(Finding("the loss itself jumps, far beyond the choice of documents", -3.0))
    if verdict.name in (IMPROVING, FINISHED) and not few:
        findings.append(Finding("the verdict holds in spite of the noise", -1.0))
    # Paired evaluations show the progress of a run all the same; what so few documents never show is its level.
    concern = 0.75 if hardly or (few and verdict.name not in (IMPROVING, FINISHED)) else 0.0
    fix = "Evaluate more held-out text: at least some hundred documents, always the same ones."
    sets: dict[str, object] = {"eval.documents": 400}
    return Assessment(findings, fix, Action("eval", sets), None, missing, concern)
