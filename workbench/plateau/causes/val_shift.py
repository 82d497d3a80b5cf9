"""The held-out text is of another kind than the training text: its level says little of what was learnt.

A shift is there from the beginning (low-order statistics are learnt first, Belrose et al. 2024) and stays; what is
learnt by heart grows. Judged against the error that the choice of documents gives both levels: a document's loss has a
standard deviation of about 0.45 nats.
"""

from __future__ import annotations

import math

from workbench.plateau.cause import Action, Assessment, Finding
from workbench.plateau.evidence import Evidence
from workbench.plateau.experiment import Measurement
from workbench.plateau.interval import Interval
from workbench.plateau.verdict import Verdict

ID = "val_shift"
TITLE = "The held-out text differs from the training text"
PRIOR = -2.0
ONCE = 1.3  # epochs
WIDE = 0.7  # nats: between files of one kind, after one epoch, gaps come to 0.4
FEW = 0.1  # nats: error of a level that rests on a handful of documents
PROBE = Measurement(
    "loss of the newest checkpoint on held-out documents, against training documents that it has not read yet",
    "shift", ("heldout", "unread"),
)  # fmt: skip


def assess(e: Evidence, verdict: Verdict) -> Assessment:
    """The gap at the beginning, its growth, and the error of both levels."""
    findings: list[Finding] = []
    missing: list[str] = []
    gap = e.gap
    fix = "Hold out documents of the same shards (or judge each kind of text by its own held-out set)."
    action = Action("eval", {"data.val_paths": []})
    if gap is None:
        missing.append("loss on seen documents: a shifted held-out set shows only against it")
        return Assessment(findings, fix, action, None, missing)
    z = math.nan
    error = _level_error(e)
    shifted = once = steady = False
    if gap.now <= 0.05:
        text = f"the held-out loss stands {gap.now:+.3f} from the training side: no shift holds it up"
        findings.append(Finding(text, -3.0, {"gap": gap.now}))
    elif error is None:
        missing.append("documents of both evaluations: the error of the two levels is unknown")
        once = e.epochs is not None and e.epochs <= ONCE
        # What is noise of an evaluation stands in the gap as in its growth.
        shifted = once and gap.now > max(0.4 if gap.from_the_first else WIDE, 4 * gap.se)
        weight = 3.0 if shifted else 1.0 if gap.then > 0.2 and abs(gap.growth) < 0.3 * gap.then else -0.5
        text = f"the gap to the training side was {gap.then:+.3f} at step {gap.since:.0f} and is {gap.now:+.3f} now"
        findings.append(Finding(text, weight, {"then": gap.then, "gap": gap.now}))
    else:
        z = gap.now / error
        fresh = _epochs_at(e, gap.since)
        # What was read once is not learnt by heart: a gap that grows then is the other text that is learnt.
        once = e.epochs is not None and e.epochs <= ONCE
        steady = gap.growth < 0.4 * gap.now and fresh is not None and fresh < 1.3
        shifted = z > 4 and gap.now > 0.15 and (steady or (once and gap.now > 0.4))
        if fresh is None:
            missing.append("unique_tokens: whether the text had been read before the gap was there")
        elif fresh >= 1.3 and z > 3:
            text = f"the gap was first measured after {fresh:.1f} epochs: it may have been learnt by heart"
            findings.append(Finding(text, -2.0, {"epochs": fresh}))
        weight = 4.0 if shifted and z > 6 else 3.0 if shifted else 0.5 if z > 3 else -2.0
        text = (
            f"the gap to seen text was {gap.then:+.3f} at step {gap.since:.0f} and is {gap.now:+.3f} now; "
            f"the choice of documents explains ± {error:.3f}"
        )
        findings.append(Finding(text, weight, {"then": gap.then, "gap": gap.now, "error": error, "z": z}))
    early = e.epochs is None and gap.from_the_first and gap.at_first is not None and min(gap.at_first, gap.now) > 0.4
    if shifted and once and not steady:
        text = f"after {e.epochs:.1f} epochs hardly any text was read twice: the gap is no learning by heart"
        findings.append(Finding(text, 0.5, {"epochs": e.epochs or 0.0}))
    elif early and gap.at_first is not None:
        text = (
            f"{gap.at_first:.2f} of the gap of {gap.now:.2f} was there when the training side had made a third of its "
            "fall: only token frequencies are learnt by then, nothing by heart"
        )
        findings.append(Finding(text, 3.5, {"at_first": gap.at_first, "gap": gap.now}))
    elif gap.grows and gap.growth > 0.4 * max(gap.now, 0.0):
        text = f"{gap.growth:.2f} of the gap grew since: that is learning by heart, no shift"
        findings.append(Finding(text, -2.0, {"growth": gap.growth}))
    if e.epochs is not None and e.epochs > 10:
        findings.append(Finding(f"{e.epochs:.1f} epochs explain a gap as well", -1.0, {"epochs": e.epochs}))
    concern = 0.8 if shifted or early else 0.0
    gain = Interval(0.5 * gap.now, 0.8 * gap.now, gap.now) if shifted else None
    return Assessment(findings, fix, action, gain, missing, concern)


def _epochs_at(e: Evidence, step: float) -> float | None:
    """Epochs that were done at an earlier step."""
    return None if e.epochs is None or e.step < 1 else e.epochs * step / e.step


def _level_error(e: Evidence) -> float | None:
    """Standard error of the gap's level over the choice of documents; None where either is unknown."""
    held, seen = e.history.val.last("se"), e.history.seen.last("se")
    if e.gap is None or e.gap.basis != "seen documents":
        return None
    if math.isfinite(held) and math.isfinite(seen):
        return max(math.hypot(held, seen), 0.01)
    # Of a log the held-out side's error alone is known, from its documents; it tells where that is the larger one.
    level = e.noise.level_se
    return level if level is not None and level > FEW else None
