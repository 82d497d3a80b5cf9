"""Too few tokens for this model: what is left to lose is the data term of the law, not the size term.

The counterpart of capacity. More tokens are always better, which is a lever; a cause only where the plan is done, the
rate annealed, and the model far from the balance of about 20 tokens a parameter (Hoffmann et al. 2022).
"""

from __future__ import annotations

from workbench.plateau import law
from workbench.plateau.cause import Action, Assessment, Finding
from workbench.plateau.evidence import Evidence
from workbench.plateau.interval import Interval
from workbench.plateau.verdict import Verdict

ID = "token_limited"
TITLE = "Too few tokens for a model of this size"
PRIOR = -2.0
PROBE = None
INSTEAD = "the same model on more fresh tokens"


def assess(e: Evidence, verdict: Verdict) -> Assessment:
    """Tokens per parameter, the two terms of the law, and whether the plan leaves anything to come."""
    findings: list[Finding] = []
    missing: list[str] = []
    n, tokens = e.facts.number("parameters"), e.facts.number("tokens_seen")
    gain = None
    if n and tokens:
        ratio = tokens / n
        weight = 1.5 if ratio < 2 else 1.0 if ratio < 8 else -1.0 if ratio < 30 else -3.0
        text = f"{ratio:.3g} tokens per parameter (about 20 are balanced)"
        findings.append(Finding(text, weight, {"tokens_per_parameter": ratio}))
    else:
        missing.append("parameters and tokens_per_step: tokens cannot be set against the model's size")
    if n and tokens and e.expected.loss is not None:
        size, data = law.size_term(n), law.data_term(e.effective or tokens)
        text = f"the law's data term is {data:.2f}, its size term {size:.2f}"
        findings.append(Finding(text, 1.0 if data > size else -1.0, {"data_term": data, "size_term": size}))
        mid = data - law.data_term(2 * tokens)
        gain = Interval(0.75 * mid, mid, 1.25 * mid)
    if e.rate is not None and e.rate.floor_since is not None and e.rate.floor_since < 0.8 * e.step:
        text = f"the learning rate has stood at its floor since step {e.rate.floor_since:.0f}: tokens were wasted"
        findings.append(Finding(text, -2.0, {"floor_since": e.rate.floor_since}))
    if not e.ended:
        findings.append(Finding("the plan is not done: its tokens are still to come", -2.0))
    elif e.rate is not None and e.rate.share < 0.2:
        findings.append(Finding("the plan is done and the rate annealed: only tokens are left to add", 0.5))
    if e.epochs is not None and e.epochs > 4:
        text = f"{e.epochs:.1f} epochs: the tokens there are have been repeated, which comes first"
        findings.append(Finding(text, -1.5, {"epochs": e.epochs}))
    sets: dict[str, object] = {}
    if planned := e.facts.number("max_steps"):
        sets = {"train.max_steps": int(2 * planned)}
    fix = "Train on more fresh tokens, towards 20 a parameter, with a schedule that ends with them."
    return Assessment(findings, fix, Action("data", sets), gain, missing)
