"""The context is too short: much of what could be foretold stands further back than the model sees.

Longer contexts lower the loss at equal tokens, with falling returns beyond about 1,000 tokens (Kaplan et al. 2020,
figure 20). Loss curves cannot show it: only the loss by position within the window could. It stays a suspicion.
"""

from __future__ import annotations

from workbench.plateau.cause import Action, Assessment, Finding
from workbench.plateau.evidence import Evidence
from workbench.plateau.verdict import Verdict

ID = "context_too_short"
TITLE = "The context is too short"
PRIOR = -2.5
PROBE = None
INSTEAD = "a run with twice the context at the same tokens a step"


def assess(e: Evidence, verdict: Verdict) -> Assessment:
    """The context's length; nothing else of it shows."""
    findings: list[Finding] = []
    missing = ["loss by position in the window: whether it still falls at the window's end"]
    block = e.facts.number("block_size")
    sets: dict[str, object] = {}
    if block is None:
        missing.append("block_size: the context length is unknown")
    else:
        sets = {"model.block_size": int(2 * block)}
        weight = 1.5 if block <= 64 else 0.7 if block <= 128 else 0.0 if block <= 256 else -3.0
        findings.append(Finding(f"the context is {block:.0f} tokens long", weight, {"block_size": block}))
    fix = "Start again with a longer context at the same tokens a step."
    return Assessment(findings, fix, Action("restart", sets), None, missing)
