"""The learning rate of each step, a pure function of the configuration. Torch-free.

Steps are optimiser steps counted from 1, as in the events. Step s is iteration s - 1 of nanoGPT's ``get_lr``, which
the cosine equals value for value: warm-up step s gives ``lr * s / (warmup_steps + 1)`` (so the first step is not
wasted on a rate of 0, and step ``warmup_steps + 1`` is the first at the peak); behind ``decay_steps`` the rate stays at
``min_lr``. The other shapes follow the same counting, so that a decay to 0 never spends a step at 0.
"""

from __future__ import annotations

import math

from engine.config import Config


def learning_rate(config: Config, step: int) -> float:
    """Learning rate of the matrices' group at optimiser step ``step`` (counted from 1).

    Shapes: ``cosine`` (Loshchilov & Hutter 2017, counted as in nanoGPT), ``linear``, ``wsd`` (warm-up, stable, then
    ``config.cooldown_steps`` of cooldown, linear or 1-sqrt: Hägele et al. 2024, arXiv 2405.18392), ``constant``.

    Raises:
        ValueError: ``step`` is below 1.
    """
    if step < 1:
        raise ValueError(f"steps count from 1, not {step}")
    peak, floor = config.optim.lr, config.schedule.min_lr
    warmup, end = config.schedule.warmup_steps, config.decay_steps
    done = step - 1  # steps already taken: nanoGPT's iteration
    if done < warmup:
        return peak * step / (warmup + 1)
    kind = config.schedule.kind
    if kind == "constant":
        return peak
    if done >= end:
        return floor
    if kind == "cosine":
        return floor + 0.5 * (1 + math.cos(math.pi * (done - warmup) / (end - warmup))) * (peak - floor)
    if kind == "linear":
        return peak + (floor - peak) * (done - warmup) / (end - warmup)
    return _cooldown(peak, floor, done, end, config)


def cooldown_begin(config: Config) -> int:
    """Steps taken when the cooldown of ``wsd`` begins (never before the warm-up ends)."""
    return max(config.schedule.warmup_steps, config.decay_steps - config.cooldown_steps)


def _cooldown(peak: float, floor: float, done: int, end: int, config: Config) -> float:
    begin = cooldown_begin(config)
    if done <= begin:
        return peak
    share = (done - begin) / (end - begin)
    fallen = math.sqrt(share) if config.schedule.cooldown_shape == "1-sqrt" else share
    return peak + (floor - peak) * fallen
