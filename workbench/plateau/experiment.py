"""Short experiments that settle a cause, as each cause's file states its own. What carries them out: workbench.probes.

An ``Arms`` experiment trains short branches of one checkpoint: with the change and without it, over the same tokens in
the same order, all annealed to zero (linearly: Bergsma et al. 2025, arXiv 2502.15938). Without the annealing a lower
rate or a larger batch would win by its smaller noise alone. A ``Measurement`` evaluates checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MARGIN = 0.02  # nats: what moves the loss by less is no cause worth naming
BUDGET = 0.05  # of the compute that the run has spent so far
HIGH = 0.3  # share of the peak rate that a checkpoint must have where the noise of rate or batch is the question


@dataclass(frozen=True)
class Arms:
    """What the changed arms have that the plain ones have not.

    Attributes:
        what: the experiment in words. label: of its arms' folders.
        rate, batch: factors of the learning rate and of the sequences a step.
        rewarm: share of the peak rate that the changed arms begin with, in place of the checkpoint's.
        at_most, at_least, set: options lowered, raised, or set.
        once: train on one of each set of exact copies.
        fresh: from the start in place of a checkpoint: what shapes a run from its first steps on is not undone by a
            short branch.
        high: only from a checkpoint whose rate is at ``HIGH`` of the peak or above.
        cooldown: the change is the annealing: the plain arms go on by the run's own schedule.
        calms: the change makes the noise of the steps smaller, which alone gains over so few tokens: what annealing
            gains a healthy run is set against it.
        refutes: nats of gain below which the cause is refuted; less where so few tokens show only a part of the gain;
            None where they can prove the cause but not disprove it.
    """

    what: str
    label: str
    rate: float = 1.0
    batch: float = 1.0
    rewarm: float | None = None
    at_most: Mapping[str, float] = field(default_factory=dict)
    at_least: Mapping[str, float] = field(default_factory=dict)
    set: Mapping[str, Any] = field(default_factory=dict)
    once: bool = False
    fresh: bool = False
    high: bool = False
    cooldown: bool = False
    calms: bool = False
    refutes: float | None = MARGIN
    cost: float = BUDGET


@dataclass(frozen=True)
class Measurement:
    """Losses of document sets (``engine.probe.document_sets``) at a checkpoint; ``judge`` names how they are read.

    Attributes:
        checkpoints: how many, the newest and the oldest that are kept.
        overfit: steps on one single batch.
    """

    what: str
    judge: str
    sets: tuple[str, ...]
    checkpoints: int = 1
    overfit: int = 0
    cost: float = 0.01


Experiment = Arms | Measurement
