"""Held-out documents stand in the training data too: the held-out loss is too low, and hides what is learnt by heart.

Known where the leak was counted; otherwise only suspected, from many epochs without any gap.
"""

from __future__ import annotations

from workbench.plateau.cause import Action, Assessment, Finding
from workbench.plateau.evidence import Evidence
from workbench.plateau.experiment import Measurement
from workbench.plateau.verdict import Verdict

ID = "val_leaked"
TITLE = "Held-out documents stand in the training data"
PRIOR = -3.0
PROBE = Measurement(
    "loss of the newest checkpoint on held-out documents without an exact copy in the training data, against all of "
    "them",
    "leaked", ("clean", "leaked"),
)  # fmt: skip


def assess(e: Evidence, verdict: Verdict) -> Assessment:
    """The share of leaked documents; else epochs without a gap, and a level below the expected one."""
    findings: list[Finding] = []
    missing: list[str] = []
    leaked, documents = e.facts.number("val_leaked"), e.facts.number("val_documents")
    concern = 0.0
    if leaked is None or not documents:
        missing.append("val_leaked and val_documents: whether held-out text was trained on was not counted")
    else:
        share = leaked / documents
        weight = 6.0 if share > 0.1 else 4.0 if share > 0.03 else -1.0 if share > 0 else -4.0
        text = f"{leaked:.0f} of {documents:.0f} held-out documents stand in the training data too"
        findings.append(Finding(text, weight, {"leaked": leaked, "share": share}))
        concern = 0.85 if share > 0.03 else 0.0
    epochs, gap = e.epochs, e.gap
    if epochs is not None and epochs > 15 and gap is not None and gap.growth + 2 * gap.se < 0.1:
        text = f"{epochs:.0f} epochs, and held-out text is learnt as well as seen text"
        findings.append(Finding(text, 1.5, {"epochs": epochs, "growth": gap.growth}))
    elif gap is not None and gap.grows:
        text = f"seen text is learnt {gap.growth:.2f} better than held-out text: that is not in the data"
        findings.append(Finding(text, -2.0, {"growth": gap.growth}))
    if (expected := e.level.loss) is not None and e.main_is_heldout and e.loss < expected.low - 0.2:
        text = f"the held-out loss {e.loss:.3f} lies below what size and tokens should give ({expected})"
        findings.append(Finding(text, 1.0, {"loss": e.loss}))
    fix = "Hold out documents whose text (hash) does not stand in the training shards, and evaluate again."
    return Assessment(findings, fix, Action("eval"), None, missing, concern)
