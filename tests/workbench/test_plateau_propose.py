"""The law the other way round."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.plateau.law import FITTED_PARAMETERS, FITTED_TOKENS, effective_tokens, expected_loss
from workbench.plateau.propose import Unreachable, for_hours, for_loss

SPEED = 4e14  # FLOP/s


@given(st.floats(2.75, 4.2))
def test_a_loss_and_the_hours_it_takes_agree(target: float) -> None:
    cheapest = for_loss(target, SPEED)
    assert cheapest.hours is not None
    law = expected_loss(cheapest.parameters.mid, cheapest.tokens.mid, None).loss
    assert law is not None and law.mid <= target + 1e-9
    again = for_hours(cheapest.hours.mid, SPEED)
    assert again.loss.mid == pytest.approx(target, abs=0.01)
    for found in (cheapest.parameters, cheapest.tokens, cheapest.flops, cheapest.hours, again.loss):
        assert found.low <= found.mid <= found.high
    assert again.loss.low < again.loss.high


@given(st.floats(1.0, 300.0))
def test_no_other_size_does_better_in_the_same_hours(hours: float) -> None:
    unique = 2e9
    best = for_hours(hours, SPEED, unique=unique)
    flops = hours * 3600 * SPEED
    for i in range(40):
        size = math.exp(math.log(2e7) + i * math.log(1e3) / 39)
        tokens = flops / 6 / size
        law = expected_loss(size, tokens, effective_tokens(tokens, unique)).loss
        assert law is None or law.mid >= best.loss.mid - 0.01


def test_a_lower_loss_takes_more_of_everything_and_scarce_data_are_named() -> None:
    easy, hard = for_loss(3.5, SPEED, unique=1e8, unique_per_shard=1e7), for_loss(3.0, SPEED, unique=1e8)
    assert hard.flops.mid > 10 * easy.flops.mid and hard.tokens.mid > easy.tokens.mid
    assert easy.unique_to_add.mid == pytest.approx(easy.tokens.mid / 4 - 1e8)
    assert easy.shards_to_add is not None and easy.shards_to_add.mid == math.ceil(easy.unique_to_add.mid / 1e7)
    assert for_loss(3.5, unique=1e13).unique_to_add.high == 0 and for_loss(3.5).hours is None
    plenty, scarce = for_hours(24, SPEED), for_hours(24, SPEED, unique=3e8)
    assert scarce.loss.mid > plenty.loss.mid and scarce.tokens.mid < plenty.tokens.mid  # then rather a larger model


@pytest.mark.parametrize("target", [1.0, 2.0, 9.0, math.nan])
def test_what_the_law_was_not_fitted_for_is_refused(target: float) -> None:
    with pytest.raises(Unreachable):
        for_loss(target)
    with pytest.raises(Unreachable):
        for_hours(1e-6, 1e9)
    assert FITTED_PARAMETERS[0] * FITTED_TOKENS[0] > 0
