"""From a run's history and facts to the diagnosis: gates, causes, levers, decision. Knows no terminal and no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
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
from workbench.plateau.table import evidence_rows
from workbench.plateau.tldr import standing, tldr
from workbench.plateau.unknown import missing_facts
from workbench.plateau.verdict import Verdict, judge
from workbench.runs import anchors
from workbench.runs.anchors import Anchor
from workbench.runs.facts import Facts
from workbench.runs.history import History
from workbench.runs.read import Source

PROBABLE = 0.5
SUSPECTED = 0.3


@dataclass(frozen=True)
class Diagnosis:
    """All that is concluded of a run; ``to_dict`` is the answer of ``explain --json``."""

    verdict: Verdict
    causes: list[RankedCause]
    levers: list[Lever]
    decision: dict[str, Any]
    evidence: Evidence
    missing: dict[str, str] = field(default_factory=dict)
    standing: str = ""
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
                "table": [row.to_dict() for row in evidence_rows(e)],
                "step": e.step,
                "loss": e.loss,
                "missing": [{"fact": k, "would_change": v} for k, v in self.missing.items()],
                "facts": e.facts.to_dict(),
                "standing": self.standing,
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
    plans = probed.Plans(run_dir)
    ranked = rank(e, verdict, run_dir, plans)
    found = levers_module.levers(e)
    fixes = [
        decision_module.Fix(c.id, c.assessment.fix, c.assessment.gain, c.assessment.action)
        for c in order.to_fix([c for c in ranked if c.probability > PROBABLE])
    ]
    suspects = [c.id for c in ranked if SUSPECTED < c.probability <= PROBABLE]
    decision = decision_module.decide(e, verdict, found, fixes, suspects)
    for choice in (decision["cool_down_now"], decision["best_lever"]):
        told = choice is decision["best_lever"] and fixes  # under what to do instead
        choice["command"] = None if told else plans.fix_command(choice["action"]) or None
        choice["action"] = choice["action"].to_dict()
    diagnosis = Diagnosis(verdict, ranked, found, decision, e, missing_facts(e))
    diagnosis = replace(diagnosis, standing=standing(diagnosis))
    return replace(diagnosis, tldr=tldr(diagnosis))


def diagnosis_of(source: Source) -> Diagnosis:
    """The diagnosis of what was read; a run directory is seen beside its neighbours in the runs folder."""
    found = [] if source.run_dir is None else anchors.find(source.run_dir)
    return diagnose(source.history, source.facts, source.run_dir, found)


def rank(e: Evidence, verdict: Verdict, run_dir: Path | None, plans: probed.Plans) -> list[RankedCause]:
    """Every cause with its probability, likeliest first; what cannot be told apart is tied, what a probe settled is
    settled."""
    results = probed.results(run_dir, e.step)
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


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return value
