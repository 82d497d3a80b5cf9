"""The x axis of a run's charts: by step, tokens, epoch or wall time; and what is marked on it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from workbench.plot import GREEN, GREY, PURPLE, VERMILION, FloatArray, Mark
from workbench.runs.history import History
from workbench.widgets.format import count

AXES = ("step", "tokens", "epoch", "time")
_UNITS = ((3600.0, "hours"), (60.0, "minutes"))
_EPOCHS = 8  # epoch boundaries drawn; more would hatch the chart
_FEET = 200  # checkpoints and lost steps marked
_TOP = 0.999  # of the highest learning rate: still at the top


@dataclass(frozen=True)
class XAxis:
    """Where steps stand on an axis.

    Attributes:
        name: one of ``AXES``; "step" where the run says nothing of the one wanted.
        unit: what its numbers count.
        steps, at: float64 [n], ascending: training steps and their places, (0, 0) first.
        rows: float64 [rows of history.steps]: their places.
        end: where the axis ends: the planned horizon.
    """

    name: str
    unit: str
    steps: FloatArray
    at: FloatArray
    rows: FloatArray
    end: float

    @classmethod
    def of(cls, history: History, name: str, longest: float = 0.0) -> XAxis:
        """The axis ``name`` of a run; ``longest``: seconds that the time axis holds at least, by which its unit is
        chosen."""
        steps, end = history.steps["step"], horizon(history)
        rows: FloatArray | None = steps
        unit = "step"
        if name in ("tokens", "epoch") and np.isfinite(history.steps[name]).sum() > 1:
            rows, unit = history.steps[name], name
        elif name == "time" and (rows := seconds(history)) is not None:
            longest = max(longest, float(np.nanmax(rows)))
            scale, unit = next((u for u in _UNITS if longest >= 2 * u[0]), (1.0, "seconds"))
            rows = rows / scale
        else:
            name, rows = "step", steps
        known = np.isfinite(rows)
        known_steps, known_at = np.append(0.0, steps[known]), np.append(0.0, rows[known])
        if name != "step":
            known_at = np.maximum.accumulate(known_at)
            end = _round_up(end * known_at[-1] / max(1.0, known_steps[-1]))
        return cls(name, unit, known_steps, known_at, rows, end)

    def told(self, place: float) -> str:
        """A place in words: step 2,000, or 16.5M tokens."""
        if self.name == "step":
            return f"step {place:,.0f}"
        return f"{count(place) if self.name == 'tokens' else f'{place:,.4g}'} {self.unit}"

    def place(self, steps: FloatArray | float) -> FloatArray:
        """Places of steps, between those that are known; beyond them as fast as the run went until there."""
        wanted = np.atleast_1d(np.asarray(steps, dtype=np.float64))
        if self.name == "step":
            return wanted
        beyond = wanted * (self.at[-1] / max(1.0, self.steps[-1]))
        return np.where(wanted > self.steps[-1], beyond, np.interp(wanted, self.steps, self.at))


def seconds(history: History) -> FloatArray | None:
    """Seconds since the start at each row of the steps, NaN where not known; None where hardly any is."""
    times = history.steps["time"]
    if np.isfinite(times).sum() < 2:
        return None
    began = history.start.get("time")
    first = float(began) if isinstance(began, (int, float)) else math.inf
    return np.asarray(np.maximum(0.0, times - min(first, float(np.nanmin(times)))))


def horizon(history: History) -> float:
    """Where the step axis ends: the plan, halved as often as the run still fits, so that it moves only then."""
    step = max(1, history.step)
    planned = float(history.max_steps or 0)
    if planned < step:  # no plan, or beyond it
        end = 10.0 ** math.ceil(math.log10(step + 1))
        return next(end * f for f in (0.1, 0.2, 0.5, 1.0) if end * f >= step)
    while planned >= 20 and planned / 2 >= 1.02 * step:
        planned /= 2
    return planned


def marks(history: History, axis: XAxis, cells: int, plateau: float | None = None) -> list[Mark]:
    """Epochs, checkpoints, lost steps, and since when the run is flat; ``cells``: columns there are."""
    found = epochs(history, axis, cells)
    saved = np.array([c["step"] for c in history.checkpoints[-_FEET:] if isinstance(c.get("step"), (int, float))])
    if len(saved):
        found += [Mark(float(x), "", GREEN, tall=False) for x in axis.place(saved)]
    found += lost(history, axis)
    if plateau is not None:
        found.append(Mark(float(axis.place(plateau)[0]), "flat since", VERMILION))
    return found


def epochs(history: History, axis: XAxis, cells: int) -> list[Mark]:
    """A line where an epoch begins, while there are few."""
    epoch = history.steps["epoch"]
    if not len(epoch) or not np.isfinite(epoch).any():
        return []
    whole = np.floor(np.nan_to_num(epoch))
    at = np.flatnonzero(np.diff(whole) > 0) + 1
    if not 0 < len(at) <= _EPOCHS:
        return []
    where = axis.rows[at]
    roomy = len(at) == 1 or float(np.diff(where).min()) * cells / axis.end > len("epoch 10") + 2
    return [
        Mark(float(x), f"epoch {int(whole[i])}" if roomy else str(int(whole[i])))
        for x, i in zip(where, at, strict=True)
    ]


def lost(history: History, axis: XAxis) -> list[Mark]:
    """Steps without a finite loss, where losses are logged at each step: the first by name, the others by a foot."""
    missing = history.steps["loss_lost"]
    at = np.flatnonzero(missing > 0)
    if not len(at) or missing.sum() > 0.5 * len(missing) * history.steps.stride:
        return []
    first = Mark(float(axis.rows[at[0]]), "NaN", VERMILION)
    return [first, *(Mark(float(axis.rows[i]), "", VERMILION, tall=False) for i in at[1 : _FEET + 1])]


def phases(history: History, axis: XAxis) -> list[Mark]:
    """Where the learning rate's warm-up ends and where its decay begins, if it stood at the top between."""
    rate = history.steps["lr"]
    if not np.isfinite(rate).any() or np.nanmax(rate) <= 0:
        return []
    top = np.flatnonzero(rate >= _TOP * np.nanmax(rate))
    first, last = int(top[0]), int(top[-1])
    found = [Mark(float(axis.rows[first]), "warm", PURPLE)] if first > 1 else []
    if last < len(rate) - 1 and last - first > 0.1 * len(rate):
        found.append(Mark(float(axis.rows[last]), "decay", GREY))
    return found


def _round_up(value: float) -> float:
    if not (math.isfinite(value) and value > 0):
        return 1.0
    power = 10.0 ** (math.floor(math.log10(value)) - 1)
    return math.ceil(value / power - 1e-9) * power
