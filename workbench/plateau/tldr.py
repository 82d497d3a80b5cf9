"""How a run stands, in one line, and the line to remember of its diagnosis: that, and what to do."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from workbench.plateau.advice import brief
from workbench.plateau.verdict import DIVERGING, FINISHED, IMPROVING, NOT_ENOUGH, OVERFITTING

if TYPE_CHECKING:
    from workbench.plateau.diagnose import Diagnosis

_LEADS = {
    IMPROVING: "Still improving",
    FINISHED: "Finished as planned",
    NOT_ENOUGH: "Cannot tell yet",
    OVERFITTING: "Overfitting",
    DIVERGING: "Diverging",
}


def tldr(d: Diagnosis) -> str:
    """How the run stands, and what the decision is, without its reasons."""
    return f"{d.standing} {brief(d.decision['line'])}."


def standing(d: Diagnosis) -> str:
    """Verdict, and cause with its worth; of a healthy run, how it stands to what is expected of it."""
    e, name = d.evidence, d.verdict.name
    lead = _LEADS.get(name, "Flat")
    at = f" at {e.loss:.3f}" if math.isfinite(e.loss) else ""
    if d.probable:
        first = d.to_fix[0]
        gain = first.assessment.gain
        worth = f", worth {gain.low:.2f} to {gain.high:.2f} nats" if gain is not None else ""
        return f"{lead}{at}: {first.title[0].lower()}{first.title[1:]}{worth}."
    if name in (IMPROVING, FINISHED):
        return f"{lead}{at}{_beside_expected(d)}{_trusted(d)}"
    if name == NOT_ENOUGH:
        return f"{lead}: {d.verdict.why}."
    return f"{lead}{at}, and no cause is more probable than not; see what is missing."


def _beside_expected(d: Diagnosis) -> str:
    e = d.evidence
    expected = e.level.loss
    healthy = "; nothing shows that anything is wrong."
    if expected is None or not e.main_is_heldout:
        return healthy
    side = "above" if e.above else "below" if e.loss < expected.low else "at"
    where = f", {side} the loss expected of this size and these tokens, {expected.low:.2f} to {expected.high:.2f}"
    if not e.above:
        return where + healthy
    given = [k for k in ("parameters", "tokens_per_step", "tokens_seen") if "given" in e.facts.source(k)]
    doubt = f" (check {' and '.join(given)}, which were given)" if given else ""
    return f"{where}: the metrics at hand do not show why{doubt}."


def _trusted(d: Diagnosis) -> str:
    return " The held-out set may be tiny: its size is unknown." if "val_tokens" in d.missing else ""
