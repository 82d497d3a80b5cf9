"""The learning rate as it was and will be, and what annealing the rest of it is worth.

The rate comes from the step events, or, where a log does not print it, from the facts through the engine's own
schedule. What a cooldown gains follows the schedule laws (Tissue et al. 2024, arXiv 2408.11029; Luo et al. 2025,
multi-power law): the full cooldown from a constant rate at 24,000 steps gained 0.071, 0.084 and 0.095 nats at 25M,
100M and 400M parameters, down to a tenth of the peak. In those curves what is left to gain at a share r of the peak is
about r^0.85 of the whole (measured on the 100M run's cooldown: 0.62 left at r = 0.575, 0.23 at r = 0.19).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from engine.config import Config
from engine.schedule import learning_rate
from workbench.plateau.interval import Interval
from workbench.plateau.series import take
from workbench.runs.facts import Facts
from workbench.runs.history import FloatArray, History

_TO_TENTH = ((25e6, 0.071), (100e6, 0.084), (400e6, 0.095))
POWER = (1.0, 0.85, 0.6)  # low, mid, high exponent of the share that is left
# Parameters; outside, the interval reaches from a third to five times (small models at a high rate gain 0.2).
CALIBRATED = (1e7, 2e9)


@dataclass(frozen=True)
class Rate:
    """The learning rate of a run.

    Attributes:
        now, peak: newest and highest rate.
        final: rate at the end of the plan; None if the plan is unknown.
        floor_since: step since which the rate has not moved, far below its peak; None if it still moves or is high.
        decay_from: step at which it began to fall below 95% of its peak; None if it has not.
        steps, values: the rate over the steps trained, shape [points].
        source: what it was read or reconstructed from.
    """

    now: float
    peak: float
    final: float | None
    floor_since: float | None
    decay_from: float | None
    steps: FloatArray
    values: FloatArray
    source: str

    @property
    def share(self) -> float:
        """The rate as a share of its peak."""
        return self.now / self.peak

    def at(self, step: float) -> float:
        """The rate at a step trained."""
        return float(np.interp(step, self.steps, self.values))


def config_of(facts: Facts) -> Config | None:
    """A configuration with the schedule that the facts state, or None where they do not state enough."""
    kind, peak = facts.text("schedule"), facts.number("lr")
    if kind is None or peak is None:
        return None
    end = facts.number("decay_steps") or facts.number("max_steps")
    floor = facts.number("min_lr")
    cooldown = facts.number("cooldown_steps")
    if kind != "constant" and (end is None or floor is None):
        return None
    if kind == "wsd" and cooldown is None:
        return None
    schedule = {
        "kind": kind,
        "warmup_steps": int(facts.number("warmup_steps") or 0),
        "min_lr": floor or 0.0,
        "decay_steps": None if end is None else int(end),
        "cooldown_steps": int(cooldown or 0),
        "cooldown_shape": facts.text("cooldown_shape") or "1-sqrt",
    }
    return Config().replace(
        optim={"lr": peak}, schedule=schedule, train={"max_steps": int(facts.number("max_steps") or end or 1)}
    )


def read_rate(history: History, facts: Facts) -> Rate | None:
    """The rate over the run, or None where neither events nor facts state it."""
    config = config_of(facts)
    planned = facts.number("max_steps")
    steps, values = take(history.steps, "step", "lr")
    logged = np.isfinite(values)
    if logged.sum() >= 2:
        steps, values = steps[logged], values[logged]
        source = "the run's step events"
    elif config is not None and history.step >= 1:
        steps = np.unique(np.linspace(1, history.step, 400).round())
        values = np.array([learning_rate(config, int(s)) for s in steps])
        source = "derived from the schedule's facts"
    else:
        return None
    peak = float(values.max())
    if peak <= 0 or not math.isfinite(peak):
        return None
    stated = facts.number("lr")
    if stated and history.step < (facts.number("warmup_steps") or 0):
        peak = max(peak, stated)
    top = int(np.argmax(values))
    below = np.flatnonzero(values[top:] < 0.95 * peak)
    decay_from = float(steps[top + below[0]]) if len(below) else None
    floor_since = None
    now = float(values[-1])
    if now < 0.5 * peak:
        # The end of a cosine is nearly level as well: a floor is level to a thousandth, over a twentieth of the run.
        moving = np.flatnonzero(np.abs(values - now) > 0.001 * max(now, 0.01 * peak))
        first = int(moving[-1]) + 1 if len(moving) else 0
        if steps[-1] - steps[first] >= 0.05 * steps[-1]:
            floor_since = float(steps[first])
    final = None
    if config is not None and planned:
        final = learning_rate(config, int(planned))
    return Rate(now, peak, final, floor_since, decay_from, steps, values, source)


def full_cooldown(parameters: float | None) -> tuple[Interval, str]:
    """What annealing from the peak to zero gains in all, and what that rests on."""
    to_zero = 1 / (1 - 0.1 ** POWER[1])
    if parameters is None:
        return Interval(0.03, 0.09, 0.18), "schedule laws, parameters unknown"
    x = math.log(parameters)
    xs = [math.log(n) for n, _ in _TO_TENTH]
    ys = [g for _, g in _TO_TENTH]
    slope = (ys[-1] - ys[0]) / (xs[-1] - xs[0])
    mid = max(float(np.interp(x, xs, ys)) + slope * (min(0.0, x - xs[0]) + max(0.0, x - xs[-1])), 0.03) * to_zero
    if CALIBRATED[0] <= parameters <= CALIBRATED[1]:
        return Interval(0.75 * mid, mid, 1.35 * mid), "published cooldowns of 25M to 400M models"
    return Interval(mid / 3, mid, 5 * mid), "published cooldowns of 25M to 400M models, far from this size"


def annealing(rate: Rate | None, parameters: float | None, final: float) -> tuple[Interval, str] | None:
    """Nats that annealing from the rate now to ``final`` gains; None where the rate is unknown.

    ``final`` is a learning rate. The gain is that of the cooldown alone, without what more tokens bring.
    """
    if rate is None:
        return None
    full, basis = full_cooldown(parameters)
    now, end = rate.share, min(final / rate.peak, rate.share)
    low, mid, high = (now**p - end**p for p in POWER)
    ordered = sorted((low, mid, high))
    return full.scaled(*ordered), basis
