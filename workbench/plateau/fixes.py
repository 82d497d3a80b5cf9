"""A fix as something that can be done: a branch of a checkpoint that is there, or a new run; and its command line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench.probes.site import Site
from workbench.text import quoted

NEW_RUN = ("restart", "data", "eval")


@dataclass(frozen=True)
class Fix:
    """``kind``: branch (from the checkpoint of ``step``), restart, or "" where there is nothing to start.

    ``sets`` are the options that differ from the run's; ``more``: other shards are what helps.
    """

    kind: str
    more: bool = False
    step: int | None = None
    sets: dict[str, Any] = field(default_factory=dict)


def fix_of(kind: str, sets: Mapping[str, Any], from_step: int | None, site: Site | None) -> Fix:
    """What an action comes to in a run: a branch needs a checkpoint at or before its step, else it is a new run.

    A run that has ended has no step left in its plan: a branch of it gets a fifth of its steps more.
    """
    if kind in NEW_RUN:
        return Fix("restart", kind == "data", None, dict(sets))
    if kind != "branch":
        return Fix("")
    if site is None:
        return Fix("branch", False, from_step, dict(sets))
    kept = next((k for k in site.checkpoints if from_step is None or k.step <= from_step), None)
    if kept is None:
        return Fix("restart", False, None, {key: value for key, value in sets.items() if key != "train.max_steps"})
    changes = dict(sets)
    if "train.max_steps" not in changes and kept.planned <= kept.step:
        changes["train.max_steps"] = kept.step + max(1, kept.step // 5)
    return Fix("branch", False, kept.step, changes)


def command_of(fix: Fix, run_dir: Path | None, name: str = "RUN") -> str:
    """The command that does a fix; "" where there is none."""
    sets = " ".join(f"--set {quoted(text)}" for text in set_texts(fix.sets))
    if fix.kind == "branch" and fix.step is not None:
        return f"gptbench branch {quoted(name)} --from-step {fix.step} {sets}".rstrip()
    if fix.kind not in ("branch", "restart"):
        return ""
    config = "" if run_dir is None else f" --config {quoted(_from_here(run_dir / 'config.toml'))}"
    shards = " OTHER_SHARDS" if fix.more else "" if config else " SHARDS"
    return f"gptbench train{shards}{config} {sets}".rstrip()


def set_texts(sets: Mapping[str, Any]) -> list[str]:
    """Options as ``--set`` takes them."""
    return [f"{key}={_value(value)}" for key, value in sets.items()]


def _from_here(path: Path) -> str:
    """A path as one would type it here."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _value(value: Any) -> str:
    if isinstance(value, (bool, list, tuple)):
        return json.dumps(value)
    return f"{value:g}" if isinstance(value, float) else str(value)
