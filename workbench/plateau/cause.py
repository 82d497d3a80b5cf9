"""What a cause is: a module of ``workbench.plateau.causes`` with four names.

``ID`` (as in the report's JSON), ``TITLE``, ``PRIOR`` (log-odds that this cause holds, given that something does,
before any evidence) and ``assess(evidence, verdict) -> Assessment``. Adding a cause is adding such a file.

Each finding carries a weight: the log-odds by which it speaks for (above 0) or against (below 0) the cause. Weights are
set by hand from the literature named in each file, and checked on recorded runs whose cause is known, on published
logs, and on synthetic runs made from the cited laws; they have not yet been fitted to a labelled suite.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Protocol, cast

from workbench.plateau import causes
from workbench.plateau.evidence import Evidence
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
class Probe:
    """The short experiment that would settle a cause, and its cost as a share of the run's compute."""

    what: str
    cost_fraction: float


@dataclass(frozen=True)
class Assessment:
    """What one cause says of a run.

    ``gain``: nats at equal tokens if it were undone; None where not computable. ``concern``: how surely it holds the
    run back even where the curve alone shows no plateau (a cause seen directly); it raises the verdict's.
    """

    findings: list[Finding]
    fix: str
    action: Action
    gain: Interval | None = None
    missing: list[str] = field(default_factory=list)
    probe: Probe | None = None
    concern: float = 0.0


class Cause(Protocol):
    """A module of ``workbench.plateau.causes``."""

    ID: str
    TITLE: str
    PRIOR: float
    assess: Callable[[Evidence, Verdict], Assessment]


@cache
def all_causes() -> tuple[Cause, ...]:
    """Every cause there is a file for, in order of its name."""
    names = sorted(m.name for m in pkgutil.iter_modules(causes.__path__))
    return tuple(cast(Cause, importlib.import_module(f"{causes.__name__}.{name}")) for name in names)


def above_expected(e: Evidence, weight: float) -> list[Finding]:
    """A loss above, or not above, what size and tokens should give; nothing where that is not computable."""
    expected = e.expected.loss
    if expected is None or not e.main_is_heldout:
        return []
    if e.loss > expected.high:
        text = f"the loss {e.loss:.3f} lies above what size and tokens should give ({expected})"
        return [Finding(text, weight, {"loss": e.loss, "expected": expected.mid})]
    text = f"the loss {e.loss:.3f} lies where size and tokens put it ({expected})"
    return [Finding(text, -1.5, {"loss": e.loss, "expected": expected.mid})]
