"""The training data repeat: the model learns them by heart, and held-out text gains nothing more from them.

Repeating up to about 4 epochs costs almost nothing, 10 cost a fifth of the tokens' worth, 40 most of it (Muennighoff
et al. 2023). Told from a shifted validation set by the gap's *growth*: a shift is there from the beginning.
"""

from __future__ import annotations

from workbench.plateau import law
from workbench.plateau.cause import Action, Assessment, Finding
from workbench.plateau.evidence import Evidence
from workbench.plateau.experiment import Measurement
from workbench.plateau.interval import Interval
from workbench.plateau.verdict import Verdict

ID = "data_repetition"
TITLE = "The same data too many times"
PRIOR = -1.0
APART = 0.5  # nats
PROBE = Measurement(
    "loss on documents trained on against held-out documents of the same shards, more of both than the run evaluates",
    "memorised", ("seen", "heldout"),
)  # fmt: skip


def assess(e: Evidence, verdict: Verdict) -> Assessment:
    """Epochs over the unique tokens, and how the gap between held-out and seen text grows."""
    findings: list[Finding] = []
    missing: list[str] = []
    _epochs(e, findings, missing)
    _gap(e, findings, missing)
    rise = e.rise
    if rise is not None and rise.beyond_noise and e.gap is not None and e.gap.falls > 2 * e.gap.falls_se:
        findings.append(
            Finding(
                f"held-out loss rose by {rise.amount:.3f} ± {rise.se:.3f} since step {rise.best_step:.0f} while the "
                f"training side kept falling",
                1.5,
                {"rise": rise.amount, "se": rise.se, "best_step": rise.best_step},
            )
        )
    epochs = e.epochs
    fix = "Train on more unique text: add shards, so that the plan makes at most about 4 epochs of them"
    if epochs and epochs > 4 and (u := e.facts.number("unique_tokens")) and (seen := e.facts.number("tokens_seen")):
        fix += f" (here: at least {seen / 4 / u:.0f}× the {u:,.0f} unique tokens)"
    # Seen directly: text learnt by heart over many epochs costs the held-out loss even while that still falls.
    learnt = e.gap is not None and e.gap.grows and e.gap.growth > 0.3
    # So far apart nothing else drives them: a few epochs and another pace of learning make some tenths of a nat.
    far = e.gap is not None and e.gap.growth > max(APART, 5 * e.gap.se) and not e.gap.from_the_first
    seen = learnt and epochs > 8 if epochs is not None else far
    surely = epochs is None and e.gap is not None and e.gap.growth > 2 * APART
    concern = 0.0 if not seen else 0.95 if surely else 0.85
    return Assessment(findings, fix + ".", Action("data"), _gain(e), missing, concern)


def _epochs(e: Evidence, findings: list[Finding], missing: list[str]) -> None:
    epochs, tokens = e.epochs, e.facts.number("tokens_seen")
    if epochs is None:
        missing.append("unique_tokens: how many epochs the run made is unknown; above about 10, repetition would lead")
        return
    worth = ""
    figures = {"epochs": epochs}
    if e.effective is not None and tokens:
        share = e.effective / tokens
        figures["worth_of_fresh"] = share
        worth = f"; its tokens are worth {share:.0%} of fresh ones"
    source = e.facts.source("unique_tokens") or e.facts.source("epochs")
    text = f"{epochs:.1f} epochs over the unique tokens ({source}){worth}"
    if epochs <= 1.05:
        weight = -4.0
    elif epochs <= 4:
        weight = -2.0
    elif epochs <= 10:
        weight = 0.5
    elif epochs <= 20:
        weight = 1.5
    else:
        weight = 2.5
    findings.append(Finding(text, weight, figures))
    if e.passes is not None and e.passes[1] > 1.5 and epochs > 4:
        passes, copies = e.passes
        text = f"of these, {passes:.1f} are passes over the files; each token stands {copies:.1f} times in them"
        findings.append(
            Finding(
                text,
                -7.0 if passes < 1.5 else -4.0 if passes < 2.5 else -1.0 if copies > passes else 0.0,
                {"passes": passes},
            )
        )
    if e.facts["effective_unique_tokens"] is None:
        missing.append("effective_unique_tokens: near copies in the shards would raise the epochs")


def _gap(e: Evidence, findings: list[Finding], missing: list[str]) -> None:
    gap = e.gap
    if gap is None:
        missing.append("loss on seen documents: whether the model memorises cannot be seen without it")
        return
    figures = {"gap": gap.now, "growth": gap.growth, "se": gap.se}
    near = {"seen documents": gap.basis, "training loss": "the training loss (dropout on)"}.get(
        gap.basis, f"the {gap.basis}"
    )
    text = (
        f"held-out loss stands {gap.now:+.3f} from {near}, against {gap.then:+.3f} at step {gap.since:.0f} "
        f"(growth {gap.growth:.3f} ± {gap.se:.3f})"
    )
    if gap.grows:
        weight = 1.0 if gap.growth < 0.15 else 2.5 if gap.growth < 2 * APART or e.epochs is not None else 3.5
        findings.append(Finding(text, weight, figures))
    elif gap.growth + 2 * gap.se < 0.1:
        findings.append(Finding(text, -2.5, figures))
    else:
        findings.append(Finding(text, -0.5, figures))
    if gap.from_the_first and gap.at_first is not None:
        text = f"{gap.at_first:.2f} of the gap was there when only token frequencies were learnt: no learning by heart"
        findings.append(Finding(text, -4.5 if e.epochs is None else -0.5, {"at_first": gap.at_first}))
    if gap.now < 0:
        findings.append(Finding("the training side lies above the held-out loss", -1.0, {"gap": gap.now}))


def _gain(e: Evidence) -> Interval | None:
    """What fresh tokens would give: by the law inside its range; else a part of the gap that has grown."""
    tokens = e.facts.number("tokens_seen")
    if e.expected.loss is not None and e.effective is not None and tokens:
        mid = law.data_term(e.effective) - law.data_term(tokens)
        return Interval(0.5 * mid, mid, 2 * mid)
    if e.gap is not None and e.gap.grows and e.epochs is not None and e.epochs > 1.05:
        return Interval(0.1 * e.gap.growth, 0.4 * e.gap.growth, e.gap.growth)
    return None
