"""Causes against one another: which cannot be told apart, and which of several to undo first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from workbench.plateau.cause import Assessment, Finding
from workbench.plateau.causes import data_repetition, duplicates
from workbench.plateau.evidence import Evidence
from workbench.plateau.interval import as_dict
from workbench.probes.judge import Result


@dataclass(frozen=True)
class Planned:
    """The short experiment that would settle a cause: its cost as a share of the run's compute so far; ``refused``
    says why it cannot be made here and now ("" where it can)."""

    what: str
    cost_fraction: float
    refused: str = ""


@dataclass(frozen=True)
class RankedCause:
    """A cause with the probability that undoing it alone would make the run progress, or end lower by over 0.02.

    Attributes:
        confirmed: by its probe; None where there was none, or it is undecided. result: that probe's.
        fix_command, probe_command: what to type; "" where there is nothing to.
        probe: the experiment that settles it. instead: what would where none can, or why it is not due.
    """

    id: str
    title: str
    probability: float
    assessment: Assessment
    confirmed: bool | None = None
    tied_with: tuple[str, ...] = ()
    probe: Planned | None = None
    instead: str = ""
    result: Result | None = None
    fix_command: str = ""
    probe_command: str = ""

    @property
    def speaking_for(self) -> list[Finding]:
        """Findings for the cause, heaviest first."""
        return sorted((f for f in self.assessment.findings if f.weight > 0), key=lambda f: -f.weight)

    @property
    def against(self) -> list[Finding]:
        """Findings against it, heaviest first."""
        return sorted((f for f in self.assessment.findings if f.weight < 0), key=lambda f: f.weight)

    def to_dict(self) -> dict[str, Any]:
        a = self.assessment
        return {
            "id": self.id,
            "title": self.title,
            "probability": round(self.probability, 3),
            "for": [f.to_dict() for f in self.speaking_for],
            "against": [f.to_dict() for f in self.against],
            "missing": a.missing,
            "fix": a.fix,
            "action": a.action.to_dict(),
            "predicted_gain": as_dict(a.gain),
            "probe": None if self.probe is None else {
                "what": self.probe.what, "cost_fraction": round(self.probe.cost_fraction, 5),
                "refused": self.probe.refused or None,
            },
            "instead": self.instead or None,
            "confirmed": self.confirmed,
            "experiment": None if self.result is None else {
                "why": self.result.why, "gain": self.result.gain, "step": self.result.step,
                "cost_fraction": self.result.cost_measured,
            },
            "tied_with": list(self.tied_with),
            "commands": {"fix": self.fix_command or None, "probe": self.probe_command or None},
        }  # fmt: skip


# What a later cause's figures rest on comes before it: measurement, stability, data, rate, then what is merely small.
ORDER: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("without sound data and targets nothing else means anything", ("data_broken", "dead_gradients")),
    ("until the held-out set is sound, no gain of another fix can be seen", ("val_leaked", "val_tiny", "val_shift")),
    ("an unstable run wastes whatever else is put right", ("instability", "lr_too_high")),
    ("what the data cannot give no setting will", ("duplicates", "data_repetition", "data_order")),
    ("it is the cheapest to undo, from a checkpoint", (
        "lr_decayed_early", "lr_still_high", "lr_too_low", "over_regularised", "batch_too_small", "batch_too_large",
    )),
    ("it comes once the rest is right", (
        "under_regularised", "token_limited", "capacity", "context_too_short", "schedule_complete",
    )),
)  # fmt: skip
_SAME_EVIDENCE = (("lr_too_high", "batch_too_small"),)
OFTEN = 0.5  # probability of repetition from which on its share is asked for
_TELLABLE = 1.5  # difference in log-odds from which two causes of the same evidence count as told apart


def tie(e: Evidence, ranked: Sequence[RankedCause]) -> list[RankedCause]:
    """Causes that rest on the same evidence share their probability until a measurement separates them.

    Rate and batch: the noise of the steps goes with rate / batch, so only the gradient noise scale tells them apart.
    """
    found = {c.id: c for c in ranked}
    for names in _SAME_EVIDENCE:
        group = [found[n] for n in names if n in found and found[n].confirmed is None]
        if len(group) < 2 or e.signals.noise_ratio is not None or min(c.probability for c in group) < 0.08:
            continue
        odds = [_log_odds(c.probability) for c in group]
        if max(odds) - min(odds) > _TELLABLE:
            continue
        shared = sum(c.probability for c in group) / len(group)
        for cause in group:
            others = tuple(c.id for c in group if c is not cause)
            found[cause.id] = replace(cause, probability=shared, tied_with=others)
    return list(_read_often(e, found).values())


def _read_often(e: Evidence, found: dict[str, RankedCause]) -> dict[str, RankedCause]:
    """Text that was read many times, of data nobody counted: by passes over the files, or by copies in them.

    Both leave the same curves, and either is enough: their probability is shared out as they are beforehand.
    """
    passes, copies = found.get("data_repetition"), found.get("duplicates")
    if passes is None or copies is None or e.epochs is not None or passes.probability < OFTEN:
        return found
    if passes.confirmed is not None or copies.confirmed is not None:
        return found
    whole, part = passes.probability, 1 / (1 + math.exp(duplicates.PRIOR - data_repetition.PRIOR))
    return found | {
        passes.id: replace(passes, probability=part * whole, tied_with=(copies.id,)),
        copies.id: replace(copies, probability=(1 - part) * whole, tied_with=(passes.id,)),
    }


def to_fix(probable: Sequence[RankedCause]) -> list[RankedCause]:
    """Causes in the order of ``ORDER``, the likelier first within a rank."""
    return sorted(probable, key=lambda c: (_rank(c.id), -c.probability))


def why_first(causes: Sequence[RankedCause]) -> str:
    """Why the first of ``to_fix`` comes first; "" where there is nothing to order."""
    if len(causes) < 2:
        return ""
    first, second = causes[0], causes[1]
    if first.tied_with and second.id in first.tied_with:
        return f"{first.id} and {second.id} cannot be told apart: settle it by experiment before either is undone"
    if _rank(first.id) == _rank(second.id):
        return f"{first.id} before {second.id}: it is the likelier of the two"
    return f"{first.id} before {second.id}: {ORDER[_rank(first.id)][0]}"


def _rank(name: str) -> int:
    return next((i for i, (_, names) in enumerate(ORDER) if name in names), len(ORDER) - 1)


def _log_odds(probability: float) -> float:
    clipped = min(max(probability, 1e-6), 1 - 1e-6)
    return math.log(clipped / (1 - clipped))
