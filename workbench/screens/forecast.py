"""What the Launch screen foretells beyond the plan: final loss, what the explainer would warn of, the inverse."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.config import PRESETS, Config, resolve
from engine.plan import Plan, parameter_count
from workbench.plateau import law, propose, signals
from workbench.plateau.causes import batch_too_large
from workbench.plateau.interval import Interval
from workbench.widgets.format import count, duration

FEW_DOCUMENTS = 100  # held out; below, the noise of an evaluation hides what a plateau would show
STRONG_DROPOUT, FEW_EPOCHS = 0.2, 4
MANY_PER_PARAMETER = 200  # tokens a parameter; ten times what is compute-optimal


@dataclass(frozen=True)
class Forecast:
    """Unknown is None. ``effective``: effective unique tokens trained on; ``basis``: what the loss rests on."""

    effective: float | None
    loss: Interval | None
    basis: str
    warnings: tuple[str, ...]


def forecast(config: Config, plan: Plan, figures: Mapping[str, Any] | None, effective: float | None = None) -> Forecast:
    """For a plan over shards of which ``figures`` are known; ``effective``: of what a recipe chooses."""
    kept = 1.0 if config.data.val_paths else 1.0 - config.data.val_fraction
    known = (figures or {}).get("effective_tokens")
    if effective is None and known is not None:
        effective = kept * float(known)
    worth = law.effective_tokens(plan.total_tokens, effective) if effective else None
    expected = law.expected_loss(plan.parameters, plan.total_tokens, worth, config.model.vocab_size)
    warnings = []
    documents = (figures or {}).get("documents")
    if documents and not config.data.val_paths and not config.data.recipe:
        held = max(1, round(documents * config.data.val_fraction))
        if held < FEW_DOCUMENTS:
            warnings.append(
                f"about {held} held-out document{'s' * (held != 1)}: too few to tell a plateau from noise; raise "
                "data.val_fraction"
            )
    if plan.parameters and plan.total_tokens > MANY_PER_PARAMETER * plan.parameters:
        warnings.append(
            f"{plan.total_tokens / plan.parameters:.0f} tokens a parameter: capacity will bound the loss before the "
            "data do; a larger preset gives more for the same time"
        )
    warnings += _settings(config, plan)
    return Forecast(effective, expected.loss, expected.basis, tuple(warnings))


def _settings(config: Config, plan: Plan) -> list[str]:
    """Settings that the explainer would name once the run is flat."""
    found = []
    ratio = signals.rate_ratio(config.optim.lr, plan.parameters, plan.total_tokens, config.optim.kind)
    if ratio is not None and not 1 / signals.FAR <= ratio <= signals.FAR:
        far = f"{ratio:.2g}×" if ratio > 1 else f"1/{1 / ratio:.2g} of"
        found.append(
            f"optim.lr {config.optim.lr:.3g} is {far} the published optimum for {config.optim.kind} at this size"
        )
    optimum = signals.batch_optimum(plan.total_tokens)
    if plan.tokens_per_step > batch_too_large.FAR * optimum:
        found.append(
            f"{plan.tokens_per_step:,} tokens a step are {plan.tokens_per_step / optimum:.0f}× the published optimum "
            "for this plan: a smaller batch makes more steps of the same tokens"
        )
    if config.model.dropout >= STRONG_DROPOUT and plan.epochs is not None and plan.epochs <= FEW_EPOCHS:
        found.append(
            f"model.dropout {config.model.dropout:g} at {plan.epochs:.1f} epochs: text read so seldom needs none"
        )
    return found


def goal_of(text: str) -> tuple[str, float]:
    """("loss", 3.2) of "3.2", ("hours", 8.0) of "8h". Raises propose.Unreachable for what is neither."""
    stripped = text.strip().lower()
    kind = "hours" if stripped.endswith(("h", "hours")) else "loss"
    try:
        value = float(stripped.removesuffix("hours").removesuffix("h"))
    except ValueError:
        raise propose.Unreachable(f"{text!r}: write a loss such as 3.2, or hours such as 8h") from None
    return kind, value


def proposal_for(goal: str, plan: Plan, effective: float | None, shards: int) -> propose.Proposal:
    """What would reach the goal; the speed is that of the plan on this device, None where not known. Raises
    propose.Unreachable."""
    speed = plan.flops / plan.seconds if plan.seconds else None
    per_shard = effective / shards if effective and shards else None
    kind, value = goal_of(goal)
    if kind == "loss":
        return propose.for_loss(value, speed, unique=effective, unique_per_shard=per_shard)
    if speed is None:
        raise propose.Unreachable("the speed of this device is not known yet: name a loss instead")
    try:
        return propose.for_hours(value, speed, unique=effective, unique_per_shard=per_shard)
    except propose.Unreachable as error:
        if value <= 0:
            raise
        smallest = duration(6 * law.FITTED_PARAMETERS[0] * law.FITTED_TOKENS[0] / speed)
        raise propose.Unreachable(
            f"outside what the law was fitted on: its smallest run, {count(law.FITTED_PARAMETERS[0])} parameters on "
            f"{count(law.FITTED_TOKENS[0])} tokens, takes {smallest} on this device"
        ) from error


def proposal_lines(goal: str, found: propose.Proposal, family: str, known: bool) -> list[str]:
    """The proposal, a line each, for a model family; ``known``: whether the shards at hand are counted."""
    lines = [
        f"goal {goal}: {_range(found.parameters)} parameters on {_range(found.tokens)} tokens",
        f"final loss {found.loss}" if goal_of(goal)[0] == "hours" else f"in {_hours(found.hours)} on this device",
    ]
    if not known:
        lines.append(f"needs {_range(found.unique_needed)} effective unique tokens")
    elif found.unique_to_add.high <= 0:
        lines.append("the selected shards are enough")
    else:
        more = "" if found.shards_to_add is None else f", {_range(found.shards_to_add)} shards like these"
        lines.append(f"add {_range(found.unique_to_add)} effective unique tokens{more}")
    preset = options_for(found, family)["model.preset"]
    lines.append(f"T plans {preset}, the nearest preset, on {count(found.tokens.mid)} tokens")
    return [*lines, found.basis]


def options_for(found: propose.Proposal, family: str) -> dict[str, Any]:
    """Options of a run like the proposed one, as ``Options.changes``: of the model family the preset nearest in size,
    and its steps."""
    presets = {name: resolve(overrides={"model.preset": name}) for name in PRESETS}
    known = {name: config for name, config in presets.items() if config.model.family == family} or presets
    preset = min(known, key=lambda n: abs(math.log(parameter_count(known[n].model) / found.parameters.mid)))
    steps = max(1, round(found.tokens.mid / known[preset].tokens_per_step))
    return {"model.preset": preset, "train.max_steps": steps}


def _range(value: Interval) -> str:
    if value.low == value.high:
        return count(value.mid)
    return f"{count(value.mid)} ({count(value.low)} to {count(value.high)})"


def _hours(value: Interval | None) -> str:
    if value is None:
        return "a time that is not known"
    low, mid, high = (duration(3600 * x) for x in (value.low, value.mid, value.high))
    return f"{mid} ({low} to {high})"
