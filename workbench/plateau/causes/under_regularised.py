"""Too little regularisation for data that are repeated: with more of it, the same tokens could be read more often.

The data come first (see data_repetition); where there are no more of them, dropout and a stronger weight decay let a
run use several times the epochs (Xue et al. 2023, arXiv 2305.13230).
"""

from __future__ import annotations

from workbench.plateau.cause import Action, Assessment, Finding
from workbench.plateau.evidence import Evidence
from workbench.plateau.experiment import Arms
from workbench.plateau.interval import Interval
from workbench.plateau.verdict import Verdict

ID = "under_regularised"
TITLE = "Too little regularisation for data read so often"
PRIOR = -2.5
PROBE = Arms(
    "dropout 0.1 from the newest checkpoint, against a plain continuation, both annealed to zero over the same tokens",
    "dropout", at_least={"model.dropout": 0.1}, refutes=None,
)  # fmt: skip


def assess(e: Evidence, verdict: Verdict) -> Assessment:
    """Whether the run learns by heart, and what is in place against it."""
    findings: list[Finding] = []
    missing: list[str] = []
    gap, rise = e.gap, e.rise
    learns = gap is not None and gap.grows and gap.growth > 0.15
    if gap is None:
        missing.append("loss on seen documents: whether anything is learnt by heart cannot be seen")
    elif learns:
        text = f"training text is learnt {gap.growth:.2f} better than held-out text since step {gap.since:.0f}"
        findings.append(Finding(text, 1.0, {"growth": gap.growth, "se": gap.se}))
    else:
        text = f"training text is learnt no better than held-out text (growth {gap.growth:.3f} ± {gap.se:.3f})"
        findings.append(Finding(text, -3.0, {"growth": gap.growth, "se": gap.se}))
    if rise is not None and rise.beyond_noise and learns:
        findings.append(Finding(f"held-out loss rose by {rise.amount:.3f} since step {rise.best_step:.0f}", 0.5))
    if e.epochs is None:
        missing.append("unique_tokens: how often the data were read is unknown")
    elif e.epochs <= 4:
        findings.append(Finding(f"{e.epochs:.1f} epochs: too few to learn by heart", -2.0, {"epochs": e.epochs}))
    dropout, decay = e.facts.number("dropout"), e.facts.number("weight_decay")
    if dropout is None:
        missing.append("dropout: what is in place against learning by heart is unknown")
    elif dropout >= 0.1:
        findings.append(Finding(f"dropout is {dropout:g} already", -2.0, {"dropout": dropout}))
    elif learns:
        findings.append(Finding(f"dropout is {dropout:g}", 0.5, {"dropout": dropout}))
    if decay == 0 and learns:
        findings.append(Finding("there is no weight decay", 1.0, {"weight_decay": 0.0}))
    gain = None
    if learns and gap is not None:
        gain = Interval(0.0, 0.1 * gap.growth, 0.5 * gap.growth)
    fix = "If no more text can be had: dropout 0.1 to 0.2 and a weight decay of 0.1 or above, from the start."
    sets: dict[str, object] = {"model.dropout": 0.1}
    return Assessment(findings, fix, Action("restart", sets), gain, missing)
