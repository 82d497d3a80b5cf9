"""The options of a run as the Launch screen edits them: values over a preset, checked by the engine's own rules."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.config import PRESETS, SECTIONS, Config, ConfigError, fields_of, parse_set, resolve

MAIN = (
    "model.preset", "train.max_steps", "train.epochs", "train.micro_batch", "train.grad_accum", "optim.lr",
    "schedule.kind", "schedule.warmup_steps", "schedule.min_lr", "model.block_size", "model.dropout", "eval.every",
    "train.device", "train.processes", "data.val_fraction",
)  # fmt: skip
_ELSEWHERE = {"data.paths"}  # chosen on the Data screen
_OWN = {"data.paths", "train.branched_from"}  # of a run alone


@dataclass
class Options:
    """What was changed by hand (``changes``: key → value), and what follows from it with the preset."""

    changes: dict[str, Any] = field(default_factory=lambda: {"model.preset": "gpt2-10m"})

    def keys(self, every: bool) -> list[str]:
        """The options shown: the main ones, or all."""
        if not every:
            return list(MAIN)
        return [
            f"{section}.{name}"
            for section in SECTIONS
            for name in fields_of(section)
            if f"{section}.{name}" not in _ELSEWHERE
        ]

    def config(self, paths: Sequence[str] = (), changes: dict[str, Any] | None = None) -> Config:
        """The configuration. Raises ConfigError where a value is impossible."""
        return resolve(overrides={**self.changes, **(changes or {}), "data.paths": list(paths)})

    def check(self, key: str, text: str) -> str | None:
        """Why ``text`` cannot be the value of ``key``; None if it can."""
        try:
            self.config(changes={key: value_of(key, text)})
        except ConfigError as error:
            return str(error)
        return None

    def put(self, key: str, text: str) -> None:
        """Take a checked value. Another preset keeps what was changed by hand, as ``--set`` does."""
        self.changes[key] = value_of(key, text)

    def reset(self, key: str) -> None:
        """Back to the preset's value."""
        if key != "model.preset":
            self.changes.pop(key, None)

    def next_preset(self) -> str:
        """The preset behind the one chosen, the first again behind the last."""
        names = list(PRESETS)
        current = self.changes.get("model.preset", names[0])
        chosen = names[(names.index(current) + 1) % len(names)] if current in names else names[0]
        self.changes["model.preset"] = chosen
        return chosen

    def shown(self, config: Config, key: str) -> str:
        """A value as one would type it."""
        section, _, name = key.partition(".")
        return text_of(getattr(getattr(config, section), name))


def changes_of(config: Config) -> dict[str, Any]:
    """What a configuration has that its preset has not, as ``Options.changes``; where it came from is left out."""
    preset = config.model.preset
    before, now = resolve(overrides={"model.preset": preset}).to_dict(), config.to_dict()
    found: dict[str, Any] = {"model.preset": preset}
    for section, values in now.items():
        for name, value in values.items():
            key = f"{section}.{name}"
            if key not in _OWN and value != before[section][name]:
                found[key] = value
    return found


def help_of(key: str) -> str:
    """An option's one-line help, with its choices."""
    section, _, name = key.partition(".")
    if key == "model.preset":
        return f"named shape ({' | '.join(PRESETS)})"
    metadata = fields_of(section)[name].metadata
    choices = f" ({' | '.join(metadata['choices'])})" if metadata["choices"] else ""
    return f"{metadata['help']}{choices}"


def choices_of(key: str) -> list[str]:
    """The values an option can take, if they are a few names."""
    if key == "model.preset":
        return list(PRESETS)
    section, _, name = key.partition(".")
    return list(fields_of(section)[name].metadata["choices"])


def value_of(key: str, text: str) -> Any:
    """The value that a typed text means, as ``--set`` reads it; empty is null."""
    if not text.strip():
        return None if _may_be_null(key) else ""
    return parse_set(f"{key}={text.strip()}")[1]


def text_of(value: Any) -> str:
    """The other way."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return json.dumps(list(value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _may_be_null(key: str) -> bool:
    section, _, name = key.partition(".")
    return "None" in str(fields_of(section)[name].type)
