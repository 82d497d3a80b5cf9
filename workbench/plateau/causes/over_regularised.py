"""Too much regularisation: dropout or weight decay hold back a model that has nothing to fear from its data.

Below about 4 epochs nothing is memorised that dropout could prevent (Muennighoff et al. 2023); GPT-scale pre-training
uses none. Seen by the setting itself, or, where it is hidden, by a training loss (dropout on) above the loss on the
same kind of text with dropout off.
"""

from __future__ import annotations

from workbench.plateau.cause import Action, Assessment, Finding
from workbench.plateau.evidence import Evidence
from workbench.plateau.experiment import Arms
from workbench.plateau.interval import Interval
from workbench.plateau.verdict import Verdict

ID = "over_regularised"
TITLE = "Dropout or weight decay are too strong"
PRIOR = -2.0
PROBE = Arms(
    "dropout 0 (and weight decay of at most 0.1) from the newest checkpoint, against a plain continuation, both "
    "annealed to zero over the same tokens",
    "free", at_most={"model.dropout": 0.0, "optim.weight_decay": 0.1}, refutes=0.01,
)  # fmt: skip


def assess(e: Evidence, verdict: Verdict) -> Assessment:
    """Dropout and weight decay, epochs, the gap, and what dropout costs in training."""
    findings: list[Finding] = []
    missing: list[str] = []
    dropout, decay = e.facts.number("dropout"), e.facts.number("weight_decay")
    if dropout is None:
        missing.append("dropout: whether regularisation holds the run back is unknown")
    else:
        weight = 3.5 if dropout >= 0.35 else 2.7 if dropout >= 0.25 else 2.0 if dropout >= 0.2 else 0.3
        weight = weight if dropout >= 0.05 else -3.0
        findings.append(Finding(f"dropout is {dropout:g}", weight, {"dropout": dropout}))
    if decay is not None and decay > 0.3:
        text = f"weight decay is {decay:g}, where 0.1 is usual"
        findings.append(Finding(text, 2.5 if decay >= 1 else 1.0, {"weight_decay": decay}))
    cost, se = e.signals.dropout_cost, e.signals.dropout_cost_se
    visible = cost is not None and se is not None and cost > max(3 * se, 0.15)
    if cost is not None and se is not None:
        text = f"the training loss stands {cost:+.3f} ± {se:.3f} from that of seen text with dropout off"
        figures = {"dropout_cost": cost, "se": se}
        if visible:
            findings.append(Finding(text, 2.5, figures))
        elif cost + 2 * se < 0.1:
            # Both are of different documents: that strong dropout costs nothing is hardly believed.
            findings.append(Finding(text, -0.5 if (dropout or 0.0) >= 0.2 else -2.0, figures))
    gap = e.gap
    if gap is not None and gap.grows and gap.growth > 0.1:
        text = f"training text is learnt {gap.growth:.2f} better than held-out text: there is something to regularise"
        findings.append(Finding(text, -3.5, {"growth": gap.growth}))
    elif gap is not None and gap.now < 0.05:
        text = f"the training side does not lie below the held-out loss (gap {gap.now:+.3f})"
        findings.append(Finding(text, 0.5, {"gap": gap.now}))
    if e.epochs is not None:
        if e.epochs > 6:
            findings.append(Finding(f"{e.epochs:.1f} epochs: some regularisation is in place", -1.5))
        elif e.epochs <= 4:
            text = f"{e.epochs:.1f} epochs: nothing is repeated often enough to need it"
            findings.append(Finding(text, 0.5, {"epochs": e.epochs}))
    strong = (dropout or 0.0) >= 0.2 or (decay or 0.0) >= 1
    learns_by_heart = gap is not None and gap.grows
    concern = 0.8 if (strong or visible) and not learns_by_heart and e.step > 2 * e.warm else 0.0
    sets: dict[str, object] = {}
    if dropout:
        sets["model.dropout"] = 0.0
    if decay is not None and decay > 0.3:
        sets["optim.weight_decay"] = 0.1
    gain = None
    if visible and cost is not None:
        gain = Interval(0.1 * cost, 0.35 * cost, 0.8 * cost)
    elif dropout:
        gain = Interval(0.1 * dropout, 0.8 * dropout, 2 * dropout)  # short runs of small models: 1.2 to 1.7
    fix = "Set dropout to 0 (and weight decay to 0.1): the data are not repeated enough to need more."
    begin = e.step or None
    return Assessment(findings, fix, Action("branch", sets, begin), gain, missing, concern)
