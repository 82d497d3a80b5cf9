"""The law the other way round: from a loss, or from hours of a device, to a model's size, tokens and data to add.

Compute-optimal as Hoffmann et al. 2022 pose it: of all sizes N and tokens D with 6 N D FLOPs, the pair with the lowest
loss, repeated tokens counted as in ``law.effective_tokens``. Data are enough where no token is needed more than
``EPOCHS`` times (Muennighoff et al. 2023: up to about there a repeat is worth nearly as much as a fresh token).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from workbench.plateau.interval import Interval
from workbench.plateau.law import (
    BETA,
    FITTED_PARAMETERS,
    FITTED_TOKENS,
    OFFSET,
    OFFSET_SPREAD,
    B,
    E,
    data_term,
    effective_tokens,
    size_term,
)

EPOCHS = 4.0
_SIZES = 120  # sizes looked at, evenly spread over ln N
_SPEED_SPREAD = 0.25  # of the utilisation that hours rest on: it was measured on one kind of card


class Unreachable(ValueError):
    """No run within the law's range does that: one line that says what would."""


@dataclass(frozen=True)
class Proposal:
    """A run to plan.

    Attributes:
        parameters, tokens: of the model, trained on. flops: 6 N D.
        loss: held-out loss at the end, nats a token. hours: of the device; None where its speed is not known.
        unique_needed: effective unique tokens that keep it within ``EPOCHS`` epochs.
        unique_to_add: what is missing of them, 0 where nothing is.
        shards_to_add: in shards like those at hand; None where these are not known.
        basis: what the intervals stand for.
    """

    parameters: Interval
    tokens: Interval
    flops: Interval
    loss: Interval
    hours: Interval | None
    unique_needed: Interval
    unique_to_add: Interval
    shards_to_add: Interval | None
    basis: str


def for_hours(
    hours: float, flops_per_second: float, *, unique: float | None = None, unique_per_shard: float | None = None
) -> Proposal:
    """The best run that fits into some hours.

    Args:
        flops_per_second: that training reaches (the card's peak times its utilisation).
        unique: effective unique tokens at hand; None: as many as it takes.
        unique_per_shard: of them in a shard.

    Raises:
        Unreachable: so little compute, or so much, that the law was not fitted there.
    """
    if not hours > 0 or not flops_per_second > 0:
        raise Unreachable("hours and speed must be above 0")
    flops = hours * 3600 * flops_per_second
    found = [_best(flops * factor, unique) for factor in (1 - _SPEED_SPREAD, 1.0, 1 + _SPEED_SPREAD)]
    low, mid, high = (level + OFFSET for _, _, level in found[::-1])
    return _proposal(
        Interval.of(*(n for n, _, _ in found)),
        Interval.of(*(d for _, d, _ in found)),
        Interval(low - OFFSET_SPREAD, mid, high + OFFSET_SPREAD),
        Interval(hours, hours, hours),
        unique,
        unique_per_shard,
        f"speed known to ±{_SPEED_SPREAD:.0%}, loss to ±{OFFSET_SPREAD} since no run on this corpus anchors the law",
    )


def for_loss(
    target: float,
    flops_per_second: float | None = None,
    *,
    unique: float | None = None,
    unique_per_shard: float | None = None,
) -> Proposal:
    """The cheapest run on enough fresh data whose held-out loss ends at ``target`` (nats a GPT-2 token).

    Args as ``for_hours``; without ``flops_per_second`` the hours are None. Raises Unreachable.
    """
    if not math.isfinite(target):
        raise Unreachable("the loss must be a finite number")
    least = E + size_term(FITTED_PARAMETERS[1]) + data_term(FITTED_TOKENS[1]) + OFFSET
    most = E + size_term(FITTED_PARAMETERS[0]) + data_term(FITTED_TOKENS[0]) + OFFSET
    if not least < target < most:
        raise Unreachable(f"a loss of {target:g} is outside {least:.2f} to {most:.2f}, where the law was fitted")
    # The corpus may be harder or easier by the spread: then the same loss takes more or less.
    found = [_cheapest(max(least, min(most, target + by)) - OFFSET) for by in (OFFSET_SPREAD, 0.0, -OFFSET_SPREAD)]
    sizes, tokens = Interval.of(*(n for n, _ in found)), Interval.of(*(d for _, d in found))
    hours = None
    if flops_per_second:
        needed = [6 * n * d / flops_per_second / 3600 for n, d in found]
        hours = Interval(needed[0] * (1 - _SPEED_SPREAD), needed[1], needed[2] * (1 + _SPEED_SPREAD))
    basis = f"target known to ±{OFFSET_SPREAD} since no run on this corpus anchors the law"
    return _proposal(sizes, tokens, Interval(target, target, target), hours, unique, unique_per_shard, basis)


def _proposal(
    sizes: Interval,
    tokens: Interval,
    loss: Interval,
    hours: Interval | None,
    unique: float | None,
    unique_per_shard: float | None,
    basis: str,
) -> Proposal:
    needed = tokens.scaled(1 / EPOCHS, 1 / EPOCHS, 1 / EPOCHS)
    missing = (needed + -unique).at_least(0.0) if unique is not None else needed
    shards = None
    if unique_per_shard:
        shards = Interval(*(float(math.ceil(x / unique_per_shard)) for x in (missing.low, missing.mid, missing.high)))
    flops = Interval(*(6 * n * d for n, d in _pairs(sizes, tokens)))
    return Proposal(sizes, tokens, flops, loss, hours, needed, missing, shards, basis)


def _pairs(sizes: Interval, tokens: Interval) -> list[tuple[float, float]]:
    return [(sizes.low, tokens.low), (sizes.mid, tokens.mid), (sizes.high, tokens.high)]


def _sizes() -> list[float]:
    low, high = (math.log(n) for n in FITTED_PARAMETERS)
    return [math.exp(low + (high - low) * i / (_SIZES - 1)) for i in range(_SIZES)]


def _best(flops: float, unique: float | None) -> tuple[float, float, float]:
    """Size, tokens and loss (without the corpus's constant) of the best run of so many FLOPs."""
    found: list[tuple[float, float, float]] = []
    for size in _sizes():
        tokens = flops / (6 * size)
        if FITTED_TOKENS[0] <= tokens <= FITTED_TOKENS[1]:
            worth = tokens if unique is None else effective_tokens(tokens, unique)
            found.append((E + size_term(size) + data_term(worth), size, tokens))
    if not found:
        least = 6 * FITTED_PARAMETERS[0] * FITTED_TOKENS[0]
        raise Unreachable(
            f"{flops:.2g} FLOPs are outside the law's range: a model of 20M parameters on 300M tokens takes {least:.2g}"
        )
    level, size, tokens = min(found)
    return size, tokens, level


def _cheapest(level: float) -> tuple[float, float]:
    """Size and tokens of the fewest FLOPs that reach a loss (without the corpus's constant) on fresh data."""
    found: list[tuple[float, float, float]] = []
    for size in _sizes():
        left = level - E - size_term(size)
        if left <= 0:
            continue
        tokens = max((B / left) ** (1 / BETA), FITTED_TOKENS[0])
        if tokens <= FITTED_TOKENS[1] * (1 + 1e-9):
            found.append((size * tokens, size, tokens))
    if not found:  # at the edge of the range, between two sizes
        return FITTED_PARAMETERS[1], FITTED_TOKENS[1]
    _, size, tokens = min(found)
    return size, tokens
