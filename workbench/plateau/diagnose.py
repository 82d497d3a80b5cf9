"""From a run's history and facts to the diagnosis: gates, causes, levers, decision. Knows no terminal and no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench.plateau import cause as cause_module
from workbench.plateau import decision as decision_module
from workbench.plateau import levers as levers_module
from workbench.plateau import order, probed
from workbench.plateau.calibration import calibrated
from workbench.plateau.evidence import Evidence, gather
from workbench.plateau.interval import as_dict
from workbench.plateau.levers import Lever
from workbench.plateau.order import RankedCause
from workbench.plateau.verdict import DIVERGING, FINISHED, IMPROVING, NOT_ENOUGH, OVERFITTING, Verdict, judge
from workbench.runs import anchors
from workbench.runs.anchors import Anchor
from workbench.runs.facts import Facts
from workbench.runs.history import History
from workbench.runs.read import Source

PROBABLE = 0.5

_MISSING = {
    "parameters": "the loss expected of this size, and what a larger model would gain",
    "tokens_per_step": "tokens seen: the expected loss, and how fast a healthy run would still improve",
    "unique_tokens": "epochs: whether the data repeat, and what fresh data would gain",
    "lr": "the learning rate over the run: what annealing would still gain",
    "max_steps": "where the plan ends, and the forecast of going on",
    "val_tokens": "how much the held-out level can be trusted: a few thousand tokens say little of it",
    "dropout": "whether regularisation holds the run back",
    "grad_clip": "whether gradients are clipped",
}  # fmt: skip


@dataclass(frozen=True)
class Diagnosis:
    """All that is concluded of a run; ``to_dict`` is the answer of ``explain --json``."""

    verdict: Verdict
    causes: list[RankedCause]
    levers: list[Lever]
    decision: dict[str, Any]
    evidence: Evidence
    missing: dict[str, str] = field(default_factory=dict)
    tldr: str = ""

    @property
    def probable(self) -> list[RankedCause]:
        """Causes more probable than not, likeliest first."""
        return [c for c in self.causes if c.probability > PROBABLE]

    @property
    def to_fix(self) -> list[RankedCause]:
        """The probable causes in the order in which they should be undone (``order.ORDER`` says why)."""
        return order.to_fix(self.probable)

    @property
    def why_first(self) -> str:
        """Why the first of several is to be undone first; "" for one or none."""
        return order.why_first(self.to_fix)

    def to_dict(self) -> dict[str, Any]:
        e = self.evidence
        expected = {**as_dict(e.level.loss), "basis": e.level.basis}
        trend = e.trend
        return _finite(
            {
                "verdict": self.verdict.name,
                "why_verdict": self.verdict.why,
                "causes": [c.to_dict() for c in self.causes],
                "fix_first": {"order": [c.id for c in self.to_fix], "why": self.why_first},
                "levers": [v.to_dict() for v in self.levers],
                "decision": self.decision,
                "expected_loss": expected,
                "noise": {"eval_se": e.noise.eval_se, "level_se": e.noise.level_se, "basis": e.noise.basis},
                "trend": None if trend is None else {
                    "gain_per_efold": trend.gain.to_dict(), "healthy": trend.healthy, "basis": trend.basis,
                    "first_step": trend.first, "last_step": trend.last, "evaluations": trend.evals,
                },
                "step": e.step,
                "loss": e.loss,
                "missing": [{"fact": k, "would_change": v} for k, v in self.missing.items()],
                "facts": e.facts.to_dict(),
                "tldr": self.tldr,
            }
        )  # fmt: skip


def diagnose(history: History, facts: Facts, run_dir: Path | None = None, beside: Sequence[Anchor] = ()) -> Diagnosis:
    """Diagnose a run.

    Args:
        history: what it has reported so far.
        facts: what is known of it.
        run_dir: its directory, for the per-document losses of a native run.
        beside: earlier runs on the same held-out documents (``runs.anchors.find``).
    """
    e = gather(history, facts, None if run_dir is None else Path(run_dir), beside)
    verdict = judge(e)
    ranked = rank(e, verdict, run_dir)
    found = levers_module.levers(e)
    fixes = [
        (c.id, c.assessment.fix, c.assessment.gain, c.assessment.action)
        for c in order.to_fix([c for c in ranked if c.probability > PROBABLE])
    ]
    decision = decision_module.decide(e, found, fixes)
    missing = {key: what for key, what in _MISSING.items() if facts[key] is None}
    if facts["tokens_seen"] is not None:
        missing.pop("tokens_per_step", None)
    if e.rate is not None:
        missing.pop("lr", None)
    if e.gap is None:
        missing["loss on seen documents"] = "whether the model memorises: without it overfitting cannot be shown"
    diagnosis = Diagnosis(verdict, ranked, found, decision, e, missing)
    return Diagnosis(verdict, ranked, found, decision, e, missing, _tldr(diagnosis))


def diagnosis_of(source: Source) -> Diagnosis:
    """The diagnosis of what was read; a run directory is seen beside its neighbours in the runs folder."""
    found = [] if source.run_dir is None else anchors.find(source.run_dir)
    return diagnose(source.history, source.facts, source.run_dir, found)


def rank(e: Evidence, verdict: Verdict, run_dir: Path | None = None) -> list[RankedCause]:
    """Every cause with its probability, likeliest first; what cannot be told apart is tied, what a probe settled is
    settled."""
    results, plans = probed.results(run_dir, e.step), probed.Plans(run_dir)
    ranked = []
    for module in cause_module.all_causes():
        assessment = module.assess(e, verdict)
        assessment = cause_module.beside_anchor(e, module.ID, assessment)
        result = results.get(module.ID)
        if result is not None:
            assessment = probed.taken_in(assessment, result)
        odds = module.PRIOR + sum(f.weight for f in assessment.findings)
        probability = calibrated(max(verdict.concern, assessment.concern) / (1 + math.exp(-odds)))
        confirmed = None if result is None else result.confirmed
        if confirmed is not None:
            probability = max(probability, probed.CONFIRMED) if confirmed else min(probability, probed.REFUTED)
        instead = assessment.instead or cause_module.instead_of(module)
        probe = None if assessment.instead else plans.of(module)
        commands = plans.fix_command(assessment.action), plans.probe_command(module.ID, probe)
        ranked.append(
            RankedCause(
                module.ID, module.TITLE, probability, assessment, confirmed, (), probe, instead, result, *commands
            )
        )
    return sorted(order.tie(e, ranked), key=lambda c: -c.probability)


def _tldr(d: Diagnosis) -> str:
    e = d.evidence
    name = d.verdict.name
    lead = {
        IMPROVING: "Still improving",
        FINISHED: "Finished as planned",
        NOT_ENOUGH: "Cannot tell yet",
        OVERFITTING: "Overfitting",
        DIVERGING: "Diverging",
    }.get(name, "Flat")
    at = f" at {e.loss:.3f}" if math.isfinite(e.loss) else ""
    if d.probable:
        first = d.to_fix[0]
        gain = first.assessment.gain
        worth = f" Worth {gain.low:.2f} to {gain.high:.2f} nats." if gain is not None else ""
        return f"{lead}{at}: {first.title[0].lower()}{first.title[1:]}. {first.assessment.fix}{worth}"
    if name in (IMPROVING, FINISHED):
        expected = e.level.loss
        where = ""
        if expected is not None and e.main_is_heldout:
            inside = expected.low <= e.loss <= expected.high
            side = "at" if inside else "above" if e.loss > expected.high else "below"
            where = (
                f", {side} the loss expected of this size and these tokens, {expected.low:.2f} to {expected.high:.2f}"
            )
        return f"{lead}{at}{where}; nothing shows that anything is wrong."
    if name == NOT_ENOUGH:
        return f"{lead}: {d.verdict.why}."
    return f"{lead}{at}, and no cause is more probable than not; see what is missing."


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return value
