"""What would make the run better whether or not anything is wrong with it, with its gain and on what terms.

Gains come from the two terms of the law and from the schedule laws; outside their range they are null. At equal tokens
a larger model always wins and costs accordingly, so levers are compared at equal compute: ordered only where their
intervals separate there; those of one tier have no honest order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from workbench.plateau import law
from workbench.plateau.cause import Action
from workbench.plateau.causes import capacity
from workbench.plateau.evidence import Evidence, annealing_left
from workbench.plateau.interval import Interval, as_dict
from workbench.text import count

# Compute per token grows more slowly than parameters: attention does not grow with width as matrices do.
_COMPUTE = (0.90, 0.95, 1.0)
# Share of the steps that a GPT-2 of the same size needs more than one with a newer block, for the same loss. Few: most
# single changes hardly transfer (Narang et al. 2021, arXiv 2102.11972); many: ReLU², QK norm, zero-initialised
# projections and a padded vocabulary together took KellerJordan/modded-nanogpt from 22.3 to 15.2 minutes (2024-10-14).
MODERN = (0.05, 0.25, 0.45)


@dataclass(frozen=True)
class Lever:
    """A change and its gains in nats.

    Attributes:
        gain: at the lever's own cost, ``cost`` times the compute of the run as planned (0: next to nothing).
        equal_tokens, equal_compute: None where that is no comparison, or not computable.
        tier: its place among all levers, 1 the best; levers of one tier have no honest order.
    """

    id: str
    text: str
    gain: Interval | None
    equal_tokens: Interval | None
    equal_compute: Interval | None
    action: Action
    cost: float = 1.0
    tier: int = 0

    @property
    def compared(self) -> Interval | None:
        """The gain by which levers are ordered."""
        return self.equal_compute if self.equal_compute is not None else self.gain

    def to_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "text": self.text,
            "gain": as_dict(self.gain),
            "gain_equal_tokens": as_dict(self.equal_tokens),
            "gain_equal_compute": as_dict(self.equal_compute),
            "compute": self.cost,
            "tier": self.tier,
            "action": self.action.to_dict(),
        }


def levers(e: Evidence) -> list[Lever]:
    """All levers, best tier first; those without a figure last."""
    found = [_larger(e), _more_tokens(e), _fresh(e), _modern(e), _anneal(e)]
    return _tiers([lever for lever in found if lever is not None])


def _in_range(e: Evidence) -> tuple[float, float] | None:
    n, tokens = e.facts.number("parameters"), e.facts.number("tokens_seen")
    return (n, tokens) if n and tokens and e.expected.loss is not None else None


def _worth(e: Evidence, tokens: float) -> float:
    """So many tokens of this run's data, as fresh ones."""
    unique = e.facts.number("effective_unique_tokens") or e.facts.number("unique_tokens")
    return law.effective_tokens(tokens, unique, e.facts.text("sampling") == "with_replacement") if unique else tokens


def _larger(e: Evidence) -> Lever:
    n, tokens = e.facts.number("parameters"), e.facts.number("tokens_seen")
    equal_tokens = capacity.gain(n, tokens)
    equal_compute = None
    times = f"{capacity.LARGER:.0f}×"
    size = f" ({count(n)} → {count(capacity.LARGER * n)})" if n else ""
    if equal_tokens is not None and (known := _in_range(e)):
        full = law.data_term(_worth(e, known[1]))
        costs = [law.data_term(_worth(e, known[1] / capacity.LARGER**p)) - full for p in reversed(_COMPUTE)]
        equal_compute = Interval(equal_tokens.low - costs[0], equal_tokens.mid - costs[1], equal_tokens.high - costs[2])
    text = f"a model of {times} the parameters{size}"
    return Lever("larger_model", text, equal_tokens, equal_tokens, equal_compute,
                 Action("restart", capacity.larger(e)), capacity.LARGER)  # fmt: skip


def _more_tokens(e: Evidence) -> Lever:
    """Twice the tokens; at equal compute they go with half the size."""
    gain = half = None
    sets = {}
    if planned := e.facts.number("max_steps"):
        sets = {"train.max_steps": int(2 * planned)}
    if known := _in_range(e):
        mid = law.data_term(e.effective or known[1]) - law.data_term(2 * known[1])
        gain = Interval(0.75 * mid, mid, 1.25 * mid)
        if known[0] / 2 >= law.FITTED_PARAMETERS[0]:
            lost = law.size_term(known[0] / 2) - law.size_term(known[0])
            half = gain - Interval(0.8 * lost, lost, 1.2 * lost)
    return Lever("more_tokens", "twice the tokens, fresh ones", gain, None, half, Action("data", sets), 2.0)


def _fresh(e: Evidence) -> Lever:
    gain = None
    if (known := _in_range(e)) and e.effective is not None:
        mid = max(law.data_term(e.effective) - law.data_term(known[1]), 0.0)
        gain = Interval(0.5 * mid, mid, 2 * mid)
    epochs = e.epochs
    repeated = f" (the run made {epochs:.1f} epochs)" if epochs else " (unique tokens unknown)"
    return Lever("fresh_data", f"fresh tokens in place of repeated ones{repeated}", gain, gain, gain, Action("data"))


def _modern(e: Evidence) -> Lever | None:
    """What the same size and tokens give with a newer block; None for a run that has it."""
    known = e.facts.text("architecture")
    if known == "modern":
        return None
    gain = None
    if found := _in_range(e):
        # So many more steps are worth so many nats: the tokens' slope here.
        gain = Interval(*(law.BETA * law.data_term(found[1]) * math.log1p(share) for share in MODERN))
    unless = "" if known else ", if it has not got them already"
    text = f"a modern architecture (rotary positions, RMSNorm, SwiGLU){unless}"
    return Lever("modern_architecture", text, gain, gain, gain, Action("restart", {"model.family": "modern"}))


def _anneal(e: Evidence) -> Lever:
    gain = annealing_left(e, 0.0)
    cooldown = max(1, round(0.2 * e.step))
    sets = {"schedule.kind": "wsd", "schedule.cooldown_steps": cooldown, "schedule.min_lr": 0.0}
    left = " (the rate is unknown)"
    if e.rate is not None:
        plan = (
            f"; the plan ends at {e.rate.final / e.rate.peak:.0%}" if e.rate.final is not None and not e.ended else ""
        )
        left = f" (now {e.rate.share:.0%} of the peak{plan})"
    return Lever("anneal_to_zero", f"annealing the learning rate to zero{left}", gain, gain, gain,
                 Action("branch", sets, e.step or None), 0.0)  # fmt: skip


def _tiers(found: list[Lever]) -> list[Lever]:
    """Sorted by the middle; a new tier begins only where a lever's interval lies wholly below all before it."""
    known = sorted((v for v in found if v.compared is not None), key=lambda v: -(v.compared.mid if v.compared else 0))
    result: list[Lever] = []
    tier, lowest = 1, float("inf")
    for lever in known:
        assert lever.compared is not None
        if result and lever.compared.high < lowest:
            tier, lowest = tier + 1, float("inf")
        lowest = min(lowest, lever.compared.low)
        result.append(replace(lever, tier=tier))
    return result + [replace(v, tier=tier + 1) for v in found if v.compared is None]
