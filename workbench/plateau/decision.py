"""The line a person can act on: where the run ends if it goes on, if it cools down now, or with the best lever."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.schedule import learning_rate
from workbench.plateau import rate
from workbench.plateau.advice import NO_FIGURE
from workbench.plateau.cause import Action
from workbench.plateau.evidence import Evidence, annealing_left
from workbench.plateau.interval import Interval, as_dict
from workbench.plateau.law import SLOPE_CAP
from workbench.plateau.levers import Lever
from workbench.plateau.rate import config_of
from workbench.plateau.verdict import DIVERGING, NOT_ENOUGH, Verdict

# Share of the propagated interval within which nine of ten ends lay: the 90% quantile of |error| / half width (split
# conformal) over the runs named ``FITTED`` in ``tests/benchmarks/forecast.py``, which also judges it on other runs.
WIDENING = 0.9
NEVER_ANNEALED = 0.3  # share of the peak from which on the end of a run leaves most of the annealing undone
ANNEALED = 0.02  # share of the peak below which there is nothing left to cool down
STEEP = 2 * SLOPE_CAP  # nats per e-fold of steps, as small runs fall in their first few hundred steps
WORTH = 0.005  # nats: less is not worth going on for (a 124M model's seeds differ by 0.002)
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
    newest = _newest(e)
    level = float(e.main.loss[newest].mean())
    gain = Interval(0.0, 0.0, 0.0)
    if e.rate is not None and final_lr is not None:
        gain = annealing_left(e, final_lr) or gain
    elif final_lr is None:
        gain = Interval(0.0, 0.04, 0.12)  # nothing is known of the rate: the plan may anneal, or not
    begin, end = float(e.main.step[newest].mean()), _end(e, steps, ahead)
    progress = _progress(e, final_lr is not None, _span(e, begin, end))
    if e.trend.gain.mid > STEEP:  # before the power law's time the pace may last, and annealing gains far more
        most = e.trend.gain.mid * math.log((e.step + steps) / begin)
        progress = Interval(progress.low, progress.mid, max(progress.high, most))
    end_loss = Interval(level - noise, level, level + noise) - progress - gain
    mid = end_loss.mid
    return Interval(mid - WIDENING * (mid - end_loss.low), mid, mid + WIDENING * (end_loss.high - mid))


def _newest(e: Evidence) -> slice:
    return slice(-3, None) if len(e.main) >= 3 else slice(-1, None)


def _end(e: Evidence, steps: float, ahead: float | None) -> float:
    """Learning rates summed up to the end of ``steps`` more steps."""
    now = e.rate.now if e.rate is not None else 1.0
    return _summed(e, e.step) + (now * steps if ahead is None else ahead)


def _span(e: Evidence, behind: float, end: float) -> float:
    """What the window's slope is multiplied with to go from step ``behind`` to a sum of rates ``end``."""
    assert e.trend is not None
    done = _summed(e, e.step)
    width = math.log(done / max(_summed(e, e.trend.first), 1e-12 * done))
    # The window's slope is that of its middle; along the power law it has become flatter since.
    here = e.window_change() / max(width, 1e-9) * math.exp(-EXPONENT * width / 2)
    return here * (1 - (_summed(e, behind) / end) ** EXPONENT) / EXPONENT


def _progress(e: Evidence, anneals: bool, span: float) -> Interval:
    """Nats that going on gains, without what annealing gives."""
    assert e.trend is not None
    slope = e.trend.gain
    if e.rate is not None and anneals:
        slope = slope - _annealed_within(e)
    progress = Interval(slope.low * span, slope.mid * span, slope.high * span)
    # A loss that rises now may go on rising; one that falls may go on at half or at one and a half times the pace.
    if progress.mid > 0:
        progress = Interval(min(progress.low, 0.5 * progress.mid), progress.mid, max(progress.high, 1.5 * progress.mid))
    return progress


def between(e: Evidence, left: float, ahead: float | None, cooldown: float) -> Interval | None:
    """Nats by which the plan ends below a cooldown now (negative: above it); None where that cannot be computed.

    Both go on from the same loss at the same pace: those errors cancel, which they do not between two forecasts.
    """
    if e.trend is None or e.rate is None or e.rate.final is None:
        return None
    begin = float(e.main.step[_newest(e)].mean())
    ends = _end(e, left, ahead), _end(e, cooldown, 0.5 * e.rate.now * cooldown)
    later = _progress(e, True, _span(e, begin, ends[0]) - _span(e, begin, ends[1]))
    beyond = beyond_plan(e)
    return None if beyond is None else later - beyond


def beyond_plan(e: Evidence) -> Interval | None:
    """Nats that annealing to zero gains over annealing to the plan's last rate; None where either is unknown."""
    if e.rate is None or e.rate.final is None:
        return None
    full, _ = rate.full_cooldown(e.facts.number("parameters"))
    share = min(e.rate.final, e.rate.now) / e.rate.peak
    return full.scaled(*sorted(share**p for p in rate.POWER))


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


@dataclass(frozen=True)
class Fix:
    """The fix of a probable cause: its id, what to do, its gain (None: not computable) and how it is done."""

    id: str
    text: str
    gain: Interval | None
    action: Action


def decide(
    e: Evidence, verdict: Verdict, levers: list[Lever], fixes: list[Fix], suspects: Sequence[str] = ()
) -> dict[str, Any]:
    """The ``decision`` of the report.

    Args:
        levers: as ranked. fixes: of the causes more probable than not, in the order in which to undo them.
        suspects: ids of causes that are less probable than not, and still worth a word.

    Returns:
        ``continue``, ``cool_down_now`` and ``best_lever``, each with the final loss and the hours of a device that are
        still to spend; ``accept``: why to stop here, None where that is not right; ``line``: what to do, one sentence.
    """
    planned = e.facts.number("max_steps")
    left = None if planned is None else 0.0 if e.ended else max(0.0, planned - e.step)
    go_on = now = ahead = None
    lost = verdict.name == DIVERGING  # no trend goes on from there
    if left is not None and not lost:
        ahead = _planned(e, left)
        go_on = forecast(e, left, e.rate.final if e.rate is not None else None, ahead)
    cooldown = max(1.0, round(0.1 * e.step)) if can_cool_down(e) and not lost else None
    if cooldown is not None and e.rate is not None:
        now = forecast(e, cooldown, 0.0, 0.5 * e.rate.now * cooldown)
    accept = None if lost else _accept(e, verdict, go_on, now, fixes)
    if accept is not None and suspects:
        accept = f"{accept[:-1]} (suspected, though less probable than not: {', '.join(suspects)})."
    apart = None if not left or cooldown is None or now is None else between(e, left, ahead, cooldown)
    hours = _hours(e, left), _hours(e, cooldown)
    return {
        "continue": {"final_loss": as_dict(go_on), "gpu_hours": hours[0], "steps": left},
        "cool_down_now": {
            "final_loss": as_dict(now),
            "gpu_hours": hours[1],
            "steps": cooldown,
            "action": _cooldown(e, cooldown),
        },
        "best_lever": _best(e, [] if lost else levers, fixes, go_on, planned, left),
        "accept": accept,
        "hours_of": hours_of(e),
        "line": accept or _line(e, verdict, fixes, apart, left, cooldown),
    }


def can_cool_down(e: Evidence) -> bool:
    """Whether there is a cooldown to offer: of a run that has ended, only where its rate is still high."""
    if e.ended:
        return e.rate is not None and e.rate.share > NEVER_ANNEALED
    return e.rate is None or e.rate.share >= ANNEALED


def _accept(
    e: Evidence, verdict: Verdict, go_on: Interval | None, now: Interval | None, fixes: list[Fix]
) -> str | None:
    """That this loss is to be taken as it is, and why; None where a fix is due, or going on gains something."""
    if any(fix.action.kind != "stop" for fix in fixes) or verdict.name == NOT_ENOUGH or not math.isfinite(e.loss):
        return None
    lead = "Accept this floor and stop: "
    if e.ended:
        if can_cool_down(e) or e.above:
            return None
        return f"{lead}the plan is done, what would go lower is another run, and nothing is left to undo."
    ends = [end for end in (go_on, now) if end is not None]
    if ends and all(e.loss - end.mid < WORTH for end in ends):
        most = max(e.loss - end.low for end in ends)
        return f"{lead}neither going on nor cooling down gains more than {max(most, 0.0):.3f} nats."
    return None


def _best(
    e: Evidence,
    levers: list[Lever],
    fixes: list[Fix],
    go_on: Interval | None,
    planned: float | None,
    left: float | None,
) -> dict[str, Any]:
    """A probable cause is undone first; else the lever that gains most at equal compute, and what it is tied with."""
    base = go_on or (Interval(e.loss, e.loss, e.loss) if math.isfinite(e.loss) else None)
    if fixes:
        fix = fixes[0]
        final = base - fix.gain if base is not None and fix.gain is not None else None
        steps = {"restart": planned, "data": planned, "branch": left}.get(fix.action.kind)
        return _lever(fix.id, fix.text, final, fix.gain, _hours(e, steps), [], fix.action)
    beyond = beyond_plan(e) if go_on is not None else None
    gains = [(v, beyond if v.id == "anneal_to_zero" and beyond is not None else v.compared) for v in levers]
    paying = sorted(((v, g) for v, g in gains if g is not None and g.mid > WORTH), key=lambda pair: -pair[1].mid)
    if not paying:
        text = "none pays at equal compute" if any(v.compared for v in levers) else NO_FIGURE
        return _lever(None, text, None, None, None, [], Action("none"))
    lever, gain = paying[0]
    steps = planned or float(e.step)
    if lever.action.kind == "branch":
        steps = float(lever.action.set.get("schedule.cooldown_steps", steps))
    tied = [v.id for v, g in paying[1:] if g.high >= gain.low]
    return _lever(
        lever.id, lever.text, None if base is None else base - gain, gain, _hours(e, steps), tied, lever.action
    )


def _lever(
    name: str | None,
    text: str,
    final: Interval | None,
    gain: Interval | None,
    hours: float | None,
    tied: list[str],
    action: Action,
) -> dict[str, Any]:
    return {"id": name, "text": text, "final_loss": as_dict(final), "gain": as_dict(gain), "gpu_hours": hours,
            "tied_with": tied, "action": action}  # fmt: skip


def _cooldown(e: Evidence, steps: float | None) -> Action:
    """A branch that anneals to zero from here on (linearly: Bergsma et al. 2025, arXiv 2502.15938)."""
    if steps is None or e.step < 1:
        return Action("none")
    sets = {"schedule.kind": "wsd", "schedule.cooldown_steps": int(steps), "schedule.cooldown_shape": "linear",
            "schedule.min_lr": 0.0, "train.max_steps": e.step + int(steps)}  # fmt: skip
    return Action("branch", sets, e.step)


def _line(
    e: Evidence, verdict: Verdict, fixes: list[Fix], apart: Interval | None, left: float | None, cooldown: float | None
) -> str:
    """What to do, in one sentence. ``apart``: see ``between``."""
    if fixes:
        return fixes[0].text
    if e.ended and can_cool_down(e):
        return (
            f"Cool down from here: the plan is done, and its rate was never annealed (worth {annealing_left(e, 0.0)})."
        )
    if e.ended and not e.above and verdict.name == NOT_ENOUGH:
        return "Evaluate more often next time: too little was evaluated to tell how this run ended (eval.every)."
    if e.ended:
        return "Find out why it ended as it did: see the causes, and whether the facts hold."
    if verdict.name == NOT_ENOUGH:
        return "Go on, and look again: what there is does not tell a plateau from progress."
    if apart is None or not left or not cooldown:
        return "Continue as planned: nothing that is known speaks for anything else."
    hours, fewer = _hours(e, left), _hours(e, cooldown)
    spent = "" if hours is None or fewer is None else f", {hours - fewer:.3g} {hours_of(e)}"
    more = f"{left - cooldown:,.0f}"
    if apart.low > 0:
        return f"Continue as planned: it ends lower than a cooldown now, by {apart} ({more} more steps{spent})."
    if apart.high < 0:
        return f"Cool down now: it ends lower than the plan, by {-apart} ({more} fewer steps{spent})."
    if cooldown >= left:
        return "Continue as planned: cooling down now ends no lower that could be told, and takes no fewer steps."
    return (
        f"Continue as planned, or cool down now and stop: their ends cannot be told apart, and cooling down takes "
        f"{more} steps fewer{spent}."
    )


def hours_of(e: Evidence) -> str:
    """What the hours are hours of."""
    if e.history.start.get("device") == "cpu":
        return "CPU-hours"
    return "GPU-hours" if e.facts["devices"] is not None else "hours"


def _hours(e: Evidence, steps: float | None) -> float | None:
    seconds = e.facts.number("step_seconds")
    if steps is None or seconds is None:
        return None
    return round(steps * seconds * (e.facts.number("devices") or 1) / 3600, 4)
