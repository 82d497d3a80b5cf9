"""Synthetic runs, made from published laws with a seed. They are no recordings: they test that the explainer follows
the science that it cites, not that the science is right.

Loss of an annealed run: E + A/N^α + B/D'^β (workbench.plateau.law), or, for models far too small for their tokens, the
form of Kaplan et al. 2020 (equation 1.5), which saturates. What a rate that is not annealed adds: the schedule law's
cooldown gain times (share of the peak)^0.85. Learning by heart: seen text falls with the epochs, and behind the turning
point E* = 98·(N/U)^−1.04 (fitted to published runs of repeated data) held-out text rises.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from engine.config import Config
from engine.schedule import learning_rate
from workbench.plateau import law, rate
from workbench.plateau.diagnose import Diagnosis, diagnose
from workbench.runs.anchors import Anchor
from workbench.runs.facts import Facts, derive
from workbench.runs.history import History

Shift = Callable[[float], float]  # nats to add, as a function of the share of the plan


@dataclass
class Run:
    """A run to be made up. ``until``: share of the plan done; ``hidden``: facts that the explainer is not told."""

    parameters: float = 124e6
    tokens_per_step: float = 524288.0
    steps: int = 10_000
    kind: str = "cosine"
    lr: float = 6e-4
    floor: float = 0.1  # final rate as a share of the peak
    decay: float = 1.0  # share of the plan at which the decay ends
    until: float = 1.0
    unique: float | None = None  # tokens; None: all fresh
    copies: float = 1.0  # how often each unique token stands in the files
    evals: int = 40
    noise: float = 0.004  # of an evaluation
    train_noise: float = 0.03
    seen: bool = True
    untrained: bool = False  # evaluated before the first step as well
    saturating: bool = False  # Kaplan's form
    slower: float = 1.0  # tokens count for this share (a rate too low)
    stuck: float | None = None  # share of the plan behind which nothing is gained (a floor of noise)
    heldout_shift: float = 0.0
    dropout_cost: float = 0.0
    level_se: float = math.nan
    extra: Shift | None = None  # added to the training loss
    heldout_extra: Shift | None = None
    gradient: Shift = field(default=lambda share: 0.5 + 0.3 * math.exp(-5 * share))
    facts: dict[str, Any] = field(default_factory=dict)
    hidden: bool = False
    noise_scale: float | None = None
    seed: int = 0


def config(run: Run) -> Config:
    """The run's schedule as the engine has it."""
    return Config().replace(
        optim={"lr": run.lr},
        schedule={
            "kind": run.kind, "warmup_steps": run.steps // 50, "min_lr": run.floor * run.lr,
            "decay_steps": int(run.decay * run.steps) if run.decay != 1 else None,
            "cooldown_steps": run.steps // 5 if run.kind == "wsd" else 0,
        },
        train={"max_steps": run.steps},
    )  # fmt: skip


def annealed(run: Run, tokens: float) -> float:
    """Loss of an annealed run on so many tokens."""
    if run.saturating:
        return float(((8.8e13 / run.parameters) ** (0.076 / 0.095) + 5.4e13 / tokens) ** 0.095)
    return law.E + law.size_term(run.parameters) + law.data_term(tokens) + law.OFFSET


def losses(run: Run, step: int, share_of_peak: float) -> tuple[float, float]:
    """Held-out loss and loss on seen text, without noise."""
    tokens = step * run.tokens_per_step
    if run.stuck is not None:
        tokens = min(tokens, run.stuck * run.steps * run.tokens_per_step)
    unique = run.unique if run.unique is not None else math.inf
    epochs = tokens / unique
    effective = law.effective_tokens(tokens, unique) if math.isfinite(unique) else tokens
    full = rate.full_cooldown(run.parameters)[0].mid
    base = annealed(run, effective * run.slower) + full * share_of_peak**0.85
    start = math.log(50304)
    base += (start - base) * math.exp(-step / max(1, run.steps / 100))
    heart = 0.0 if epochs <= 1 else 0.05 * (epochs - 1) ** 0.75 * min(1.0, run.parameters / 1e8) ** 0.3
    turn = 98 * (run.parameters / unique) ** -1.04 if math.isfinite(unique) else math.inf
    rise = 0.25 * math.log(epochs / turn) if epochs > turn else 0.0
    return base + rise, base - min(heart, 0.8 * base)


def history(run: Run) -> History:
    """The run's events."""
    rng = np.random.default_rng(run.seed)
    plan, result = config(run), History()
    start: dict[str, Any] = {"event": "start"}
    if not run.hidden:
        start |= {"parameters": run.parameters, "tokens_per_step": run.tokens_per_step, "max_steps": run.steps}
    result.apply(start)
    for split in ("heldout", "seen") if run.untrained else ():
        result.apply({"event": "eval", "step": 0, "split": split, "loss": math.log(50304)})
    last = int(run.until * run.steps)
    every = max(1, run.steps // run.evals)
    for step in range(max(1, run.steps // 1000), last + 1, max(1, run.steps // 1000)):
        lr = learning_rate(plan, step)
        held, seen = losses(run, step, lr / run.lr)
        share = step / run.steps
        loss = seen + run.dropout_cost + (run.extra(share) if run.extra else 0.0) + run.train_noise * rng.normal()
        event = {"event": "step", "step": step, "loss": loss, "lr": lr, "grad_norm": run.gradient(share)}
        if not run.hidden:
            event["tokens"] = step * run.tokens_per_step
        result.apply(event)
        if step % every == 0:
            level = held + run.heldout_shift + (run.heldout_extra(share) if run.heldout_extra else 0.0)
            common = {"event": "eval", "step": step, "se": run.level_se}
            result.apply({**common, "split": "heldout", "loss": level + run.noise * rng.normal()})
            if run.seen:
                result.apply({**common, "split": "seen", "loss": seen + run.noise * rng.normal()})
    if run.noise_scale:
        result.apply({"event": "noise_scale", "step": last, "b_noise": run.noise_scale})
    return result


def facts_of(run: Run, made: History) -> Facts:
    """What the explainer is told of a run."""
    facts = Facts()
    known: dict[str, Any] = {}
    if not run.hidden:
        known = {
            "parameters": run.parameters, "tokens_per_step": run.tokens_per_step, "max_steps": run.steps, "lr": run.lr,
            "schedule": run.kind, "warmup_steps": run.steps // 50, "dropout": 0.0, "weight_decay": 0.1,
            "grad_clip": 1.0, "vocab_size": 50304, "block_size": 1024, "val_documents": 400,
            "val_tokens": 400_000, "optimizer": "adamw",
        }  # fmt: skip
        if run.kind != "constant":
            known["min_lr"] = run.floor * run.lr
        if run.kind == "wsd":
            known["cooldown_steps"] = run.steps // 5
        if run.decay != 1:
            known["decay_steps"] = int(run.decay * run.steps)
        unique = run.unique or 10 * run.steps * run.tokens_per_step
        known |= {"unique_tokens": unique, "train_tokens": unique * run.copies}
    for key, value in (known | run.facts).items():
        facts.put(key, value, "test")
    derive(facts, made)
    return facts


def explain(run: Run, beside: Sequence[Run] = ()) -> Diagnosis:
    """The diagnosis of a synthetic run, with earlier ones on the same held-out documents ``beside`` it."""
    made = history(run)
    return diagnose(made, facts_of(run, made), None, [anchor(other, f"run-{i}") for i, other in enumerate(beside)])


def anchor(run: Run, name: str) -> Anchor:
    """A synthetic run as one that another is held against."""
    made = history(run)
    return Anchor(name, made, facts_of(run, made))
