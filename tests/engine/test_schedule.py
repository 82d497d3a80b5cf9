from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config import Config, ConfigError, resolve
from engine.plan import steps_of_epochs
from engine.schedule import learning_rate


def config(**schedule: Any) -> Config:
    changes = {"kind": "cosine", "warmup_steps": 500, "min_lr": 1e-4, **schedule}
    return Config().replace(schedule=changes, optim={"lr": 1e-3}, train={"max_steps": 20_000})


def nanogpt(it: int, lr: float, warmup: int, decay: int, floor: float) -> float:
    if it < warmup:
        return lr * (it + 1) / (warmup + 1)
    if it > decay:
        return floor
    ratio = (it - warmup) / (decay - warmup)
    return floor + 0.5 * (1.0 + math.cos(math.pi * ratio)) * (lr - floor)


@given(st.integers(0, 30_000))
def test_cosine_is_nanogpts(it: int) -> None:
    expected = nanogpt(it, 1e-3, 500, 20_000, 1e-4)
    assert learning_rate(config(), it + 1) == pytest.approx(expected, rel=1e-12)


def test_the_seed_run_at_step_14000() -> None:
    assert learning_rate(config(), 14_000) == pytest.approx(2.94e-4, abs=1e-6)


def test_linear_and_constant() -> None:
    linear = config(kind="linear", min_lr=0.0, warmup_steps=0)
    assert learning_rate(linear, 1) == 1e-3
    assert learning_rate(linear, 10_001) == pytest.approx(5e-4)
    assert learning_rate(linear, 20_000) == pytest.approx(1e-3 / 20_000)  # the last step is not wasted on 0
    assert learning_rate(config(kind="constant"), 20_000) == 1e-3


@pytest.mark.parametrize(("shape", "half"), [("linear", 0.5), ("1-sqrt", 1 - math.sqrt(0.5))])
def test_wsd_is_stable_then_cools(shape: str, half: float) -> None:
    c = config(kind="wsd", cooldown_steps=4000, cooldown_shape=shape, min_lr=0.0)
    assert {learning_rate(c, step) for step in (501, 8000, 16_000, 16_001)} == {1e-3}
    assert learning_rate(c, 18_001) == pytest.approx(1e-3 * half)
    assert 0 < learning_rate(c, 20_000) < 2e-5
    assert learning_rate(c, 20_001) == 0


def test_the_warm_up_begins_above_zero_and_reaches_the_peak() -> None:
    rates = [learning_rate(config(), s) for s in range(1, 502)]
    assert rates[0] == pytest.approx(1e-3 / 501) and rates[-1] == 1e-3
    assert rates == sorted(rates)


@given(
    kind=st.sampled_from(["cosine", "linear", "wsd", "constant"]), warmup=st.integers(0, 50),
    cooldown=st.integers(0, 50), decay=st.integers(1, 50), step=st.integers(1, 100),
)  # fmt: skip
def test_no_choice_leaves_the_range(kind: str, warmup: int, cooldown: int, decay: int, step: int) -> None:
    c = config(kind=kind, warmup_steps=warmup, cooldown_steps=cooldown, decay_steps=decay)
    assert 0 < learning_rate(c, step) <= 1e-3 * (1 + 1e-12)


def test_steps_count_from_one() -> None:
    with pytest.raises(ValueError, match="count from 1"):
        learning_rate(config(), 0)


def test_a_cooldown_that_is_not_set_is_a_fifth() -> None:
    c = resolve(sets=["schedule.kind=wsd", "train.max_steps=1000", "schedule.min_lr=0"])
    assert c.schedule.cooldown_steps is None and c.cooldown_steps == 200
    assert learning_rate(c, 801) == c.optim.lr > learning_rate(c, 802)
    assert c.replace(schedule={"decay_steps": 500}).cooldown_steps == 100
    modern = resolve(sets=["model.preset=modern-6m"])
    assert modern.cooldown_steps == modern.train.max_steps // 5
    with pytest.raises(ConfigError, match="cooldown_steps"):
        resolve(sets=["schedule.kind=wsd", "schedule.cooldown_steps=3000", "train.max_steps=2000"])


def test_batches_of_a_schedule() -> None:
    sets = ["train.micro_batch=2", "train.grad_accum=1", "train.max_steps=100", "model.block_size=8"]
    c = resolve(sets=[*sets, "train.batch_schedule=[[0.1, 4], [0.5, 8]]"])
    assert [c.micro_batches(s) for s in (1, 10, 11, 50, 51, 100)] == [1, 1, 2, 2, 4, 4]
    assert c.tokens_after(100) == 8 * (10 * 2 + 40 * 4 + 50 * 8)
    assert all(c.tokens_after(s) - c.tokens_after(s - 1) == 8 * 2 * c.micro_batches(s) for s in range(1, 101))
    assert resolve(overrides={f"{s}.{k}": v for s, vs in c.to_dict().items() for k, v in vs.items()}) == c
    epochs = c.replace(train={"epochs": 2.0})
    assert steps_of_epochs(epochs, 8 * 290) == 100


@pytest.mark.parametrize("value", ["[[0.1, 3]]", "[[10, 4], [5, 8]]", "[[0.1, 4], [50, 8]]", "[4]", "[[1.5, 4]]"])
def test_impossible_batches_are_refused(value: str) -> None:
    with pytest.raises(ConfigError, match=r"train\.batch_schedule"):
        resolve(sets=["train.micro_batch=2", f"train.batch_schedule={value}"])
