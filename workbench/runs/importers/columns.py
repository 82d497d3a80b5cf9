"""Rows of named numbers, by whatever writer: which column is the step, the training loss, the held-out loss …"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from workbench.runs.importers.importer import Event, Stage, to_float

_NAMES = {
    "step": ("step", "global_step", "iter", "iteration", "steps", "iter_num", "train_step", "optimizer_step"),
    "val": ("val_loss", "valid_loss", "validation_loss", "eval_loss", "heldout_loss", "test_loss", "loss_val",
            "loss_valid", "loss_validation", "loss_eval", "loss_test", "lm_loss_validation",
            "lm_loss_validation_lm_loss_validation", "validation_lm_loss", "validation_metrics_loss"),
    "loss": ("loss", "train_loss", "training_loss", "lm_loss", "loss_train", "loss_training", "train_loss_step",
             "lm_loss_training_lm_loss", "loss_metrics_global_avg_loss"),
    "lr": ("lr", "learning_rate", "train_lr", "train_learning_rate", "learning_rate_learning_rate"),
    "grad_norm": ("grad_norm", "gradient_norm", "gnorm", "train_grad_norm", "grad_norm_grad_norm"),
    "tokens": ("tokens", "tokens_seen", "total_tokens", "consumed_tokens"),
    "epoch": ("epoch", "train_epoch"),
    "tokens_per_s": ("tokens_per_s", "tokens_per_second", "tok_s"),
}  # fmt: skip


def plain_name(column: object) -> str:
    """A column's name in lower case with underscores; a prefix of the kind ``run-name - val/loss`` is looked past."""
    return re.sub(r"[^a-z0-9]+", "_", str(column).lower().rpartition(" - ")[2]).strip("_")


def role_of(name: str) -> str | None:
    """The role that a single name has, or None."""
    plain = plain_name(name)
    return next((role for role, names in _NAMES.items() if plain in names), None)


def roles(columns: Mapping[str, Any] | list[str]) -> dict[str, str]:
    """Role → the column's own name."""
    found: dict[str, str] = {}
    plain = {c: plain_name(c) for c in columns}
    for role, names in _NAMES.items():
        for name in names:
            matches = [c for c, p in plain.items() if p == name]
            if matches:
                found[role] = matches[0]
                break
    return found


def usable(found: Mapping[str, str]) -> bool:
    """Whether the columns make a curve: a step and some loss."""
    return "step" in found and ("loss" in found or "val" in found)


class Rows:
    """Turns rows into events; empty cells are left out."""

    def __init__(self) -> None:
        self._stage = Stage()

    def events(self, line_number: int, row: Mapping[str, Any], found: Mapping[str, str]) -> Iterator[Event]:
        """Events of one row: an ``eval`` where it has a held-out loss, a ``step`` where it has a training loss."""
        step = _value(row, found, "step")
        if step is None or not 0 <= step <= 2**53:
            return
        loss, val, lr = _value(row, found, "loss"), _value(row, found, "val"), _value(row, found, "lr")
        if loss is None and val is None and lr is None:
            return
        number = int(step)
        yield from self._stage.restart(number, line_number)
        if val is not None:
            yield {"event": "eval", "step": number, "split": "heldout", "loss": val}
        if loss is not None or lr is not None:
            event: Event = {"event": "step", "step": number}
            for key in ("loss", "lr", "grad_norm", "tokens", "epoch", "tokens_per_s"):
                value = _value(row, found, key)
                if value is not None:
                    event[key] = value
            yield event


def _value(row: Mapping[str, Any], found: Mapping[str, str], role: str) -> float | None:
    raw = row.get(found.get(role, ""))
    if isinstance(raw, bool) or raw is None or raw == "":
        return None
    try:
        if isinstance(raw, (int, float)):
            return float(raw)
    except OverflowError:
        return None
    if not isinstance(raw, str) or not raw.strip():
        return None
    value = to_float(raw.strip())
    return None if value != value and raw.strip().lower() not in ("nan",) else value
