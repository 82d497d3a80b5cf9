"""The evidence table: a few evaluations of the run, each with its noise and with what changed there."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.plateau.evidence import Evidence

ROWS = 9


@dataclass(frozen=True)
class Row:
    """One evaluation. ``noise``: one standard deviation as between two evaluations, None if it was not measurable."""

    step: int
    loss: float
    noise: float | None
    comment: str

    def to_dict(self) -> dict[str, Any]:
        return {"step": self.step, "loss": self.loss, "noise": self.noise, "changed": self.comment}


def evidence_rows(e: Evidence, rows: int = ROWS) -> list[Row]:
    """At most ``rows`` evaluations, evenly spread over ln(step), with the first, the lowest and the newest."""
    steps, losses = e.main.step, e.main.loss
    if not len(steps):
        return []
    picked = _pick(e, rows)
    result = []
    before: int | None = None
    lowest = int(np.argmin(losses))
    for i in picked:
        comments = _events(e, steps[before] if before is not None else -1.0, steps[i])
        if before is not None:
            comments.insert(0, _change(e, before, i))
        if i == lowest and len(picked) > 2 and i != picked[0]:
            comments.append("lowest so far" if i == len(steps) - 1 else "lowest")
        result.append(Row(int(steps[i]), float(losses[i]), e.noise.eval_se, "; ".join(comments)))
        before = i
    return result


def _pick(e: Evidence, rows: int) -> list[int]:
    steps = e.main.step
    if len(steps) <= rows:
        return list(range(len(steps)))
    chosen = {0, int(np.argmin(e.main.loss)), len(steps) - 1}
    usable = np.flatnonzero(steps > 0)
    if len(usable):
        first = max(float(steps[usable[0]]), e.warm, 1.0)
        for target in np.geomspace(first, max(float(steps[-1]), first), max(2, rows - 2)):
            chosen.add(int(np.argmin(np.abs(steps - target))))
    ordered = sorted(chosen)
    while len(ordered) > rows:  # the lowest may stand close to another: the closest pair gives way first
        gaps = [math.log((steps[b] + 1) / (steps[a] + 1)) for a, b in itertools.pairwise(ordered[1:-1])]
        drop = int(np.argmin(gaps)) + 1
        if ordered[drop] == int(np.argmin(e.main.loss)):
            drop += 1
        ordered.pop(min(drop, len(ordered) - 2))
    return ordered


def _change(e: Evidence, a: int, b: int) -> str:
    change = float(e.main.loss[b] - e.main.loss[a])
    shown = f"{change:+.3f}" if abs(change) >= 0.0005 else f"{change:+.4f}"
    if e.noise.eval_se is not None and abs(change) < 2 * math.sqrt(2) * e.noise.eval_se:
        return f"{shown}, within noise"
    return shown


def _events(e: Evidence, after: float, until: float) -> list[str]:
    """What else happened between two evaluations."""
    found = []

    def between(step: float | None) -> bool:
        return step is not None and after < step <= until

    stated = e.facts.number("warmup_steps")
    if stated and between(stated):
        found.append("warm-up ends")
    if e.rate is not None:
        if between(e.rate.decay_from):
            found.append("learning rate begins to fall")
        if between(e.rate.floor_since):
            found.append(f"learning rate at its floor, {e.rate.now:.2g}")
    unique, per_step = e.facts.number("unique_tokens"), e.facts.number("tokens_per_step")
    if unique and per_step:
        passed = [n for n in (1, 4, 10, 20, 40, 80) if between(n * unique / per_step)]
        if passed:
            found.append(f"epoch {passed[-1]} done")
    spikes = [s for s in e.stability.spikes if between(s)]
    if spikes and len(e.stability.spikes) >= 3:
        found.append(f"{len(spikes)} spikes of the training loss")
    return found
