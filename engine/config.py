"""The configuration of a run: presets, TOML in and out.

Precedence: preset < ``--config FILE`` < ``--set key=value`` (the last one wins). Torch-free.
"""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from data.bounded import parse_toml, read_toml
from engine.presets import FAMILIES, KINDS, PRESETS, SYNONYMS
from engine.sections import SECTIONS, Config, ConfigError, Data, Eval, Model, Optim, Schedule, Train, fields_of
from engine.validate import validate

__all__ = [
    "FAMILIES", "KINDS", "PRESETS", "SECTIONS", "SYNONYMS", "Config", "ConfigError", "Data", "Eval", "Model", "Optim",
    "Schedule", "Train", "fields_of", "load", "parse_set", "resolve", "suggest", "validate",
]  # fmt: skip


def parse_set(text: str) -> tuple[str, Any]:
    """``"optim.lr=3e-4"`` → ``("optim.lr", 0.0003)``; the value is TOML, else a bare string.

    Raises:
        ConfigError: no ``=`` in the text.
    """
    key, equals, raw = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {text!r}: write it as key=value, for example --set optim.lr=3e-4")
    raw = raw.strip()
    try:
        value = parse_toml(f"value = {raw}")["value"] if raw and "\n" not in raw else raw
    except ValueError:
        value = None if raw in ("null", "none") else raw
    return key.strip(), value


def resolve(
    file: str | Path | None = None, sets: Iterable[str] = (), overrides: Mapping[str, Any] | None = None
) -> Config:
    """Resolve preset < file < sets < overrides into one validated configuration.

    Args:
        file: TOML file with sections as in ``Config``.
        sets: ``key=value`` texts as of ``--set``.
        overrides: ``{"section.key": value}``, for callers that hold values rather than text.

    Raises:
        ConfigError: file unreadable, unknown key (the nearest known one is named), wrong type, or impossible value.
    """
    layers: list[tuple[str, dict[str, Any]]] = []
    if file is not None:
        layers.append((str(file), _flatten(_read_toml(Path(file)))))
    layers.append(("--set", dict(parse_set(s) for s in sets)))
    layers.append(("override", dict(overrides or {})))

    values: dict[str, Any] = {}
    for where, layer in layers:
        for key, value in layer.items():
            values[_known_key(key, where)] = value

    preset = values.get("model.preset", Model.preset)
    if preset not in PRESETS:
        raise ConfigError(f"model.preset {preset!r} is not known; known: {', '.join(PRESETS)}")
    for section, changes in PRESETS[preset].items():
        for name, value in changes.items():
            values.setdefault(f"{section}.{name}", value)
    for field_name, table in (("model.family", FAMILIES), ("optim.kind", KINDS)):
        for key, value in table.get(str(values.get(field_name)), {}).items():
            values.setdefault(key, value)

    sections = {
        section: cls(
            **{
                name: _coerce(values[f"{section}.{name}"], typing.get_type_hints(cls)[name], f"{section}.{name}")
                for name in fields_of(section)
                if f"{section}.{name}" in values
            }
        )
        for section, cls in SECTIONS.items()
    }
    config = Config(**sections)
    validate(config)
    return config


def load(path: str | Path) -> Config:
    """Read a run's ``config.toml``. Raises ConfigError as ``resolve`` does."""
    return resolve(path)


def suggest(word: str, known: Iterable[str]) -> str:
    """The nearest known word, or "" if none is near."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return near[0] if near else ""


def _known_key(key: str, where: str) -> str:
    known = [f"{section}.{name}" for section in SECTIONS for name in fields_of(section)]
    if key in known:
        return key
    by_leaf = {k.partition(".")[2]: k for k in known}
    leaf = key.rpartition(".")[2]
    near = SYNONYMS.get(leaf) or by_leaf.get(leaf) or suggest(key, known) or by_leaf.get(suggest(leaf, by_leaf), "")
    hint = f"did you mean {near}?" if near else f"sections: {', '.join(SECTIONS)}"
    raise ConfigError(f"unknown configuration key {key!r} in {where}; {hint}")


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return read_toml(path)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such configuration file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as a configuration: {error}") from None
    except ValueError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None


def _flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for section, values in tree.items():
        if isinstance(values, dict):
            flat.update({f"{section}.{name}": value for name, value in values.items()})
        else:
            flat[section] = values
    return flat


def _coerce(value: Any, hint: Any, key: str) -> Any:
    """Check ``value`` against a field's type; integers stand for floats, and 1e3 for an integer."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        return _coerce(value, next(a for a in typing.get_args(hint) if a is not type(None)), key)
    if origin is tuple:
        item = typing.get_args(hint)[0]
        if typing.get_origin(item) is tuple:
            return _coerce_rows(value, typing.get_args(item), key)
        values = [value] if isinstance(value, item if item is not float else (int, float)) else value
        if not isinstance(values, (list, tuple)):
            raise ConfigError(f"{key} must be a list of {item.__name__}, not {value!r}")
        return tuple(_coerce(v, item, key) for v in values)
    if hint is bool and isinstance(value, bool):
        return value
    if hint is str and isinstance(value, str):
        return value
    if hint is str and isinstance(value, bool) and key == "train.compile":
        return "on" if value else "off"
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise ConfigError(f"{key} must be a finite number") from None
    if hint is int and not isinstance(value, bool):
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int):
            if abs(value) >= 1 << 53:  # beyond it floats, which events and figures hold, count no more
                raise ConfigError(f"{key} must be a whole number below 2^53")
            return value
    raise ConfigError(f"{key} must be {_type_name(hint)}, not {value!r}")


def _coerce_rows(value: Any, hints: tuple[Any, ...], key: str) -> tuple[tuple[Any, ...], ...]:
    rows = value if isinstance(value, (list, tuple)) else [value]
    if any(not isinstance(row, (list, tuple)) or len(row) != len(hints) for row in rows):
        raise ConfigError(f"{key} must be a list of lists of {len(hints)} numbers each, not {value!r}")
    return tuple(tuple(_coerce(v, hint, key) for v, hint in zip(row, hints, strict=True)) for row in rows)


def _type_name(hint: type) -> str:
    return {int: "a whole number", float: "a number", bool: "true or false", str: "text"}.get(hint, str(hint))
