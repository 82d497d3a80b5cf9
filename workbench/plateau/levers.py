"""What would make the run better whether or not anything is wrong with it, with its gain and on what terms.

Gains come from the two terms of the law and from the schedule laws; outside their range they are null. Levers are
ordered only where their intervals separate: those of one tier have no honest order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from workbench.plateau import law
from workbench.plateau.cause import Action
from workbench.plateau.causes import capacity
from workbench.plateau.evidence import Evidence, annealing_left
from workbench.plateau.interval import Interval, as_dict

# Compute per token grows more slowly than parameters: attention does not grow with width as matrices do.
_COMPUTE = (0.90, 0.95, 1.0)


@dataclass(frozen=True)
class Lever:
    """A change and its gains in nats; ``gain`` is the one by which levers are compared (at its own cost)."""

    id: str
    text: str
    gain: Interval | None
    equal_tokens: Interval | None
    equal_compute: Interval | None
    action: Action
    tier: int = 0

    def to_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "text": self.text,
            "gain": as_dict(self.gain),
            "gain_equal_tokens": as_dict(self.equal_tokens),
            "gain_equal_compute": as_dict(self.equal_compute),
            "tier": self.tier,
            "action": self.action.to_dict(),
        }


def levers(e: Evidence) -> list[Lever]:
    """All levers, best tier first; those without a figure last."""
    found = [_larger(e), _more_tokens(e), _fresh(e), _anneal(e)]
    return _tiers([lever for lever in found if lever is not None])


def _in_range(e: Evidence) -> tuple[float, float] | None:
    n, tokens = e.facts.number("parameters"), e.facts.number("tokens_seen")
    return (n, tokens) if n and tokens and e.expected.loss is not None else None


def _larger(e: Evidence) -> Lever:
    n, tokens = e.facts.number("parameters"), e.facts.number("tokens_seen")
    equal_tokens = capacity.gain(n, tokens)
    equal_compute = None
    times = f"{capacity.LARGER:.0f}×"
    size = f" ({n / 1e6:.3g}M → {capacity.LARGER * n / 1e6:.3g}M)" if n else ""
    if equal_tokens is not None and (known := _in_range(e)):
        costs = [law.data_term(known[1] / capacity.LARGER**p) - law.data_term(known[1]) for p in reversed(_COMPUTE)]
        equal_compute = Interval(equal_tokens.low - costs[0], equal_tokens.mid - costs[1], equal_tokens.high - costs[2])
    text = f"a model of {times} the parameters{size}"
    return Lever("larger_model", text, equal_tokens, equal_tokens, equal_compute, Action("restart"))


def _more_tokens(e: Evidence) -> Lever:
    gain = None
    sets = {}
    if planned := e.facts.number("max_steps"):
        sets = {"train.max_steps": int(2 * planned)}
    if known := _in_range(e):
        mid = law.data_term(e.effective or known[1]) - law.data_term(2 * known[1])
        gain = Interval(0.75 * mid, mid, 1.25 * mid)
    return Lever("more_tokens", "twice the tokens, fresh ones (at twice the compute)", gain, None, None,
                 Action("data", sets))  # fmt: skip


def _fresh(e: Evidence) -> Lever:
    gain = None
    if (known := _in_range(e)) and e.effective is not None:
        mid = max(law.data_term(e.effective) - law.data_term(known[1]), 0.0)
        gain = Interval(0.5 * mid, mid, 2 * mid)
    epochs = e.epochs
    repeated = f" (the run made {epochs:.1f} epochs)" if epochs else " (unique tokens unknown: no figure)"
    return Lever("fresh_data", f"fresh tokens in place of repeated ones{repeated}", gain, gain, gain, Action("data"))


def _anneal(e: Evidence) -> Lever:
    gain = annealing_left(e, 0.0)
    cooldown = max(1, round(0.2 * e.step))
    sets = {"schedule.kind": "wsd", "schedule.cooldown_steps": cooldown, "schedule.min_lr": 0.0}
    left = f" (now {e.rate.share:.0%} of the peak)" if e.rate else " (the rate is unknown: no figure)"
    return Lever("anneal_to_zero", f"annealing the learning rate to zero{left}", gain, gain, gain,
                 Action("branch", sets, e.step or None))  # fmt: skip


def _tiers(found: list[Lever]) -> list[Lever]:
    """Sorted by the middle; a new tier begins only where a lever's interval lies wholly below all before it."""
    known = sorted((v for v in found if v.gain is not None), key=lambda v: -(v.gain.mid if v.gain else 0))
    result: list[Lever] = []
    tier, lowest = 1, float("inf")
    for lever in known:
        assert lever.gain is not None
        if result and lever.gain.high < lowest:
            tier, lowest = tier + 1, float("inf")
        lowest = min(lowest, lever.gain.low)
        result.append(_with_tier(lever, tier))
    return result + [_with_tier(v, tier + 1) for v in found if v.gain is None]


def _with_tier(lever: Lever, tier: int) -> Lever:
    return Lever(lever.id, lever.text, lever.gain, lever.equal_tokens, lever.equal_compute, lever.action, tier)
