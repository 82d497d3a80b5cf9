"""The line a person can act on: where the run ends if it goes on, if it cools down now, or with the best lever."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from engine.schedule import learning_rate
from workbench.plateau import rate
from workbench.plateau.cause import Action
from workbench.plateau.evidence import Evidence, annealing_left
from workbench.plateau.interval import Interval, as_dict
from workbench.plateau.levers import Lever
from workbench.plateau.rate import config_of

# Share of the propagated interval within which nine of ten ends lay: the 90% quantile of |error| / half width (split
# conformal) over the runs named ``FITTED`` in ``tests/benchmarks/forecast.py``, which also judges it on other runs.
WIDENING = 0.9
ANNEALED = 0.02  # share of the peak below which there is nothing left to cool down
EXPONENT = 0.5  # of the power law along which the run goes on: between the law's 0.37 and the 0.6 of published curves


def forecast(e: Evidence, steps: float, final_lr: float | None, ahead: float | None = None) -> Interval | None:
    """Loss after ``steps`` more steps with the rate annealed to ``final_lr``; None where it cannot be computed.

    The run's own slope, less what annealing gave within it, goes on as a power law of the summed learning rate (Tissue
    et al. 2024: progress follows the sum of the rates, not the steps); what the rest of the annealing gains is added.
    The interval holds the slope's error, the gain's, and the noise of the newest loss; nominally 90%.

    Args:
        ahead: learning rates summed over those steps; None: as now.
    """
    if e.trend is None or not len(e.main) or e.step < 1:
        return None
    noise = 2 * (e.noise.eval_se or 0.05)
    if steps <= 0:
        return Interval(e.loss - noise, e.loss, e.loss + noise)
    newest = slice(-3, None) if len(e.main) >= 3 else slice(-1, None)
    level, behind = float(e.main.loss[newest].mean()), float(e.main.step[newest].mean())
    slope, gain = e.trend.gain, Interval(0.0, 0.0, 0.0)
    done = _summed(e, e.step)
    if e.rate is not None and final_lr is not None:
        slope = slope - _annealed_within(e)
        gain = annealing_left(e, final_lr) or gain
    elif final_lr is None:
        gain = Interval(0.0, 0.04, 0.12)  # nothing is known of the rate: the plan may anneal, or not
    now = e.rate.now if e.rate is not None else 1.0
    end = done + (now * steps if ahead is None else ahead)
    width = math.log(done / max(_summed(e, e.trend.first), 1e-12 * done))
    # The window's slope is that of its middle; along the power law it has become flatter since.
    here = e.window_change() / max(width, 1e-9) * math.exp(-EXPONENT * width / 2)
    span = here * (1 - (_summed(e, behind) / end) ** EXPONENT) / EXPONENT
    progress = Interval(slope.low * span, slope.mid * span, slope.high * span)
    # A loss that rises now may go on rising; one that falls may go on at half or at one and a half times the pace.
    if progress.mid > 0:
        progress = Interval(min(progress.low, 0.5 * progress.mid), progress.mid, max(progress.high, 1.5 * progress.mid))
    end_loss = Interval(level - noise, level, level + noise) - progress - gain
    mid = end_loss.mid
    return Interval(mid - WIDENING * (mid - end_loss.low), mid, mid + WIDENING * (end_loss.high - mid))


def _summed(e: Evidence, step: float) -> float:
    """Learning rates summed up to a step; the step itself where the rate is unknown (a constant one)."""
    if e.rate is None:
        return step
    steps = np.concatenate([e.rate.steps[e.rate.steps < step], [step]])
    values = np.interp(steps, e.rate.steps, e.rate.values)
    return max(float(np.trapezoid(values, steps)) + float(values[0] * steps[0]), 1e-9 * e.rate.peak)


def _planned(e: Evidence, steps: float) -> float | None:
    """Learning rates summed over the next ``steps`` of the plan, or None where the plan's schedule is unknown."""
    config = config_of(e.facts)
    if config is None or steps < 1:
        return None
    at = np.linspace(e.step + 1, e.step + steps, min(200, int(steps)))
    return float(np.mean([learning_rate(config, round(s)) for s in at]) * steps)


def _annealed_within(e: Evidence) -> Interval:
    """Nats per e-fold of the window's slope that came from annealing inside it."""
    assert e.rate is not None and e.trend is not None
    width = e.window_change()
    if width <= 0:
        return Interval(0.0, 0.0, 0.0)
    full, _ = rate.full_cooldown(e.facts.number("parameters"))
    before, now = e.rate.at(e.trend.first) / e.rate.peak, e.rate.share
    parts = sorted(max(before**p - now**p, 0.0) for p in rate.POWER)
    # At most what the slope holds: the gain of this run may be smaller than that of the published ones.
    most = max(e.trend.gain.mid, 0.0)
    low, mid, high = (min(f * p / width, most) for f, p in zip((full.low, full.mid, full.high), parts, strict=True))
    return Interval(low, mid, high)


def decide(e: Evidence, levers: list[Lever], fixes: list[tuple[str, str, Interval | None, Action]]) -> dict[str, Any]:
    """The ``decision`` of the report.

    Args:
        levers: as ranked.
        fixes: (id, fix, gain, action) of the causes more probable than not, first the likeliest.
    """
    planned = e.facts.number("max_steps")
    left = max(0.0, planned - e.step) if planned else None
    go_on = None
    if left is not None:
        final = e.rate.final if e.rate is not None else None
        go_on = forecast(e, left, final, _planned(e, left))
    cooldown = max(1.0, round(0.1 * e.step)) if can_cool_down(e) else None
    now = None
    if cooldown is not None and e.rate is not None:
        now = forecast(e, cooldown, 0.0, 0.5 * e.rate.now * cooldown)
    best = _best(e, levers, fixes, go_on, planned)
    return {
        "continue": {"final_loss": as_dict(go_on), "gpu_hours": _hours(e, left), "steps": left},
        "cool_down_now": {"final_loss": as_dict(now), "gpu_hours": _hours(e, cooldown), "steps": cooldown},
        "best_lever": best,
    }


def can_cool_down(e: Evidence) -> bool:
    """Whether there is a cooldown to offer: not behind the plan's end, nor where the rate has come down already."""
    return not e.ended and (e.rate is None or e.rate.share >= ANNEALED)


def _best(
    e: Evidence,
    levers: list[Lever],
    fixes: list[tuple[str, str, Interval | None, Action]],
    go_on: Interval | None,
    planned: float | None,
) -> dict[str, Any]:
    """A probable cause is undone first; else the best tier of levers, if it stands alone."""
    base = go_on or (Interval(e.loss, e.loss, e.loss) if math.isfinite(e.loss) else None)
    if fixes:
        name, text, gain, action = fixes[0]
        final = base - gain if base is not None and gain is not None else None
        hours = _hours(e, planned) if action.kind in ("restart", "data") else None
        return {"id": name, "text": text, "final_loss": as_dict(final), "gpu_hours": hours, "tied_with": []}
    first = [v for v in levers if v.tier == 1 and v.gain is not None]
    if not first:
        return {"id": None, "text": "no figure for any lever", "final_loss": as_dict(None), "gpu_hours": None,
                "tied_with": []}  # fmt: skip
    lever = first[0]
    final = base - lever.gain if base is not None and lever.gain is not None else None
    return {
        "id": lever.id,
        "text": lever.text,
        "final_loss": as_dict(final),
        "gpu_hours": None,
        "tied_with": [v.id for v in first[1:]],
    }


def _hours(e: Evidence, steps: float | None) -> float | None:
    seconds = e.facts.number("step_seconds")
    if steps is None or seconds is None:
        return None
    return round(steps * seconds * (e.facts.number("devices") or 1) / 3600, 4)
