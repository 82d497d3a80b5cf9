"""What a cause is: a module of ``workbench.plateau.causes`` with five names.

``ID`` (as in the report's JSON), ``TITLE``, ``PRIOR`` (log-odds that this cause holds, given that something does,
before any evidence), ``PROBE`` (the short experiment that settles it; None, with ``INSTEAD``: only what that says) and
``assess(evidence, verdict) -> Assessment``. Adding a cause is adding such a file.

Each finding carries a weight: the log-odds by which it speaks for (above 0) or against (below 0) the cause. Weights are
set by hand from the literature named in each file, and checked on recorded runs whose cause is known, on published
logs, and on synthetic runs made from the cited laws; how sure their sum makes is fitted (``plateau.calibration``).
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Protocol, cast

from workbench.plateau import causes
from workbench.plateau.anchored import SETTINGS
from workbench.plateau.evidence import Evidence
from workbench.plateau.experiment import Experiment
from workbench.plateau.interval import Interval
from workbench.plateau.verdict import Verdict


@dataclass(frozen=True)
class Finding:
    """One piece of evidence: a sentence with its figures, and the log-odds it adds."""

    text: str
    weight: float
    figures: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {"text": self.text, "figures": {k: round(v, 6) for k, v in self.figures.items()}}


@dataclass(frozen=True)
class Action:
    """A fix as something the workbench can do: kind is branch, restart, data, eval, stop or none."""

    kind: str
    set: dict[str, Any] = field(default_factory=dict)
    from_step: int | None = None

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "set": self.set, "from_step": self.from_step}


@dataclass(frozen=True)
class Assessment:
    """What one cause says of a run.

    ``gain``: nats at equal tokens if it were undone; None where not computable. ``concern``: how surely it holds the
    run back even where the curve alone shows no plateau (a cause seen directly); it raises the verdict's. ``instead``:
    why the cause's experiment is not due in this run; "" where it is.
    """

    findings: list[Finding]
    fix: str
    action: Action
    gain: Interval | None = None
    missing: list[str] = field(default_factory=list)
    concern: float = 0.0
    instead: str = ""


class Cause(Protocol):
    """A module of ``workbench.plateau.causes``."""

    ID: str
    TITLE: str
    PRIOR: float
    PROBE: Experiment | None
    assess: Callable[[Evidence, Verdict], Assessment]


@cache
def all_causes() -> tuple[Cause, ...]:
    """Every cause there is a file for, in order of its name."""
    names = sorted(m.name for m in pkgutil.iter_modules(causes.__path__))
    return tuple(cast(Cause, importlib.import_module(f"{causes.__name__}.{name}")) for name in names)


def cause_of(name: str) -> Cause | None:
    """The cause of that id, or None."""
    return next((cause for cause in all_causes() if name == cause.ID), None)


def instead_of(cause: Cause) -> str:
    """What would settle a cause that no short experiment settles; "" for one that has a probe."""
    return str(getattr(cause, "INSTEAD", ""))


def above_expected(e: Evidence, weight: float) -> list[Finding]:
    """A loss above, or not above, what size and tokens should give; nothing where that is not computable."""
    expected = e.level.loss
    if expected is None or not e.main_is_heldout:
        return []
    by = "size and tokens" if e.anchored is None else f"the earlier run {e.anchored.name}"
    figures = {"loss": e.loss, "expected": expected.mid}
    if e.above:
        text = f"the loss {e.loss:.3f} lies above what {by} should give ({expected})"
        return [Finding(text, weight, figures)]
    text = f"the loss {e.loss:.3f} lies where {by} put it ({expected})"
    return [Finding(text, -1.5 if e.anchored is None else -1.0, figures)]


def beside_anchor(e: Evidence, cause: str, assessment: Assessment) -> Assessment:
    """What an earlier run that did better has differently, as evidence on the cause that such a setting stands for."""
    if e.anchored is None or not e.above or (speaks := e.anchored.speaks(cause)) is None:
        return assessment
    name, keys = e.anchored.name, [key for key, _ in SETTINGS[cause]]
    if speaks > 0:
        told = ", ".join(f"{k} {v[0]} against {v[1]}" for k in keys if (v := e.anchored.differences.get(k)))
        found = Finding(f"the run {name}, which did better on the same documents, differs in this: {told}", 2.0)
    else:
        found = Finding(f"the run {name} did better on the same documents with the same {' and '.join(keys)}", -2.0)
    return replace(assessment, findings=[*assessment.findings, found])
