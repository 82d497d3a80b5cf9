"""A recipe: which documents are trained on and which are held out, as TOML. ``choose`` applies it.

::

    deduplicate = "near"            # none, exact or near

    [filter]                        # a row without a value does not pass
    min_score = 2.5
    language = ["en"]
    min_tokens = 64
    source = ["rust-lang/rfcs"]     # values of source_column
    where = ["url ~ example.org", "score < 4"]

    [held_out]
    fraction = 0.01                 # or documents = 400
    apart = "near"                  # no near copy of a held-out document is trained on; or "exact"
"""

from __future__ import annotations

import difflib
import json
import math
import typing
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any

from data.bounded import parse_toml, read_text
from data.catalogue import Column
from data.files import ShardError
from data.filters import Filter, parse

MODES = ("none", "exact", "near")
APART = ("exact", "near")


class RecipeError(ShardError):
    """A recipe that cannot be read or applied: one line."""


@dataclass(frozen=True)
class Filters:
    """What a document must be. None and () ask for nothing. Bounds are included."""

    min_score: float | None = None
    max_score: float | None = None
    score_column: str = "score"
    language: tuple[str, ...] = ()
    language_column: str = "language"
    source: tuple[str, ...] = ()
    source_column: str = "dump"
    min_tokens: int | None = None
    max_tokens: int | None = None
    min_characters: int | None = None
    max_characters: int | None = None
    where: tuple[str, ...] = ()

    def on_columns(self) -> tuple[Filter, ...]:
        """The conditions on columns; lengths are not among them."""
        made: list[Filter] = []
        if self.min_score is not None:
            made.append(Filter(self.score_column, ">=", self.min_score))
        if self.max_score is not None:
            made.append(Filter(self.score_column, "<=", self.max_score))
        if self.language:
            made.append(Filter(self.language_column, "in", list(self.language)))
        if self.source:
            made.append(Filter(self.source_column, "in", list(self.source)))
        return (*made, *(each for line in self.where for each in parse(line)))


@dataclass(frozen=True)
class HeldOut:
    """How many documents are held out (a fraction of the documents kept, or a count; neither: the run's
    ``data.val_fraction``), and what may not stand on both sides: exact copies, or near copies too."""

    fraction: float | None = None
    documents: int | None = None
    apart: str = "near"


@dataclass(frozen=True)
class Recipe:
    """A whole recipe. ``read`` and ``parse_text`` make it; ``to_toml`` writes what they read back unchanged."""

    deduplicate: str = "none"
    filter: Filters = field(default_factory=Filters)
    held_out: HeldOut = field(default_factory=HeldOut)

    def __post_init__(self) -> None:
        _check(self)

    @property
    def needs_near(self) -> bool:
        """Whether clusters of near duplicates are needed to apply it."""
        return self.deduplicate == "near" or self.held_out.apart == "near"

    def to_toml(self) -> str:
        """TOML text; what is not set is left out."""
        lines = [f"deduplicate = {json.dumps(self.deduplicate)}"]
        for name in ("filter", "held_out"):
            given = asdict(getattr(self, name))
            default = asdict(type(getattr(self, name))())
            changed = {key: value for key, value in given.items() if value != default[key]}
            if changed:
                lines += ["", f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in changed.items())]
        return "\n".join(lines) + "\n"

    def check_columns(self, columns: Sequence[Column]) -> None:
        """Raise RecipeError where a file of these columns cannot be judged by the filters."""
        try:
            for each in self.filter.on_columns():
                each.sql(columns)
        except ShardError as error:
            raise RecipeError(f"recipe filter: {error}") from None


def read(path: str | Path) -> Recipe:
    """A recipe from its file. Raises RecipeError."""
    try:
        text = read_text(Path(path).expanduser())
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such recipe; check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise RecipeError(f"{path}: cannot be read as a recipe: {reason}") from None
    return parse_text(text, str(path))


def parse_text(text: str, where: str = "recipe") -> Recipe:
    """A recipe from TOML text. Raises RecipeError, which names the nearest key for one that is not known."""
    try:
        tree = parse_toml(text)
    except ValueError as error:
        raise RecipeError(f"{where}: not valid TOML: {error}") from None
    sections: dict[str, type] = {"filter": Filters, "held_out": HeldOut}
    known = {name: name for name in ("deduplicate", *sections)}
    for section, cls in sections.items():
        known |= {f.name: f"{section}.{f.name}" for f in fields(cls)}
    values: dict[str, Any] = {}
    for key, value in tree.items():
        if key in sections:
            if not isinstance(value, dict):
                raise RecipeError(f"{where}: {key} is a section: write [{key}] and its keys below")
            hints = typing.get_type_hints(sections[key])
            for name in value:
                if name not in hints:
                    raise RecipeError(f"{where}: unknown key {key}.{name}; {_nearest(name, known)}")
            values[key] = sections[key](**{n: _typed(v, hints[n], f"{where}: {key}.{n}") for n, v in value.items()})
        elif key == "deduplicate":
            values[key] = _typed(value, str, f"{where}: {key}")
        else:
            raise RecipeError(f"{where}: unknown key {key}; {_nearest(key, known)}")
    try:
        return Recipe(**values)
    except RecipeError as error:
        raise RecipeError(f"{where}: {error}") from None


def save(recipe: Recipe, path: str | Path) -> None:
    """Write a recipe, whole or not at all. Raises RecipeError."""
    path = Path(path).expanduser()
    temporary = path.with_name(f".{path.name}.part")
    try:
        temporary.write_text(recipe.to_toml(), "utf-8")
        temporary.replace(path)
    except OSError as error:
        raise RecipeError(f"{path}: cannot be written: {error.strerror}") from None


def _check(recipe: Recipe) -> None:
    f, held = recipe.filter, recipe.held_out
    for name, value, choices in (
        ("deduplicate", recipe.deduplicate, MODES),
        ("held_out.apart", held.apart, APART),
    ):
        if value not in choices:
            raise RecipeError(f"{name} {value!r} is not known; use {', '.join(choices)}")
    for name in ("min_tokens", "max_tokens", "min_characters", "max_characters"):
        if (getattr(f, name) or 0) < 0:
            raise RecipeError(f"filter.{name} must not be below 0")
    for name in ("score", "tokens", "characters"):
        low, high = getattr(f, f"min_{name}"), getattr(f, f"max_{name}")
        if low is not None and high is not None and low > high:
            raise RecipeError(f"filter.min_{name} {low} is above filter.max_{name} {high}: no document passes")
    for name in ("min_score", "max_score"):
        if not math.isfinite(getattr(f, name) or 0.0):
            raise RecipeError(f"filter.{name} must be a finite number")
    try:
        f.on_columns()
    except ShardError as error:
        raise RecipeError(f"filter.where: {error}") from None
    if held.fraction is not None and held.documents is not None:
        raise RecipeError("held_out: give fraction or documents, not both")
    if held.fraction is not None and not 0 < held.fraction < 1:
        raise RecipeError(f"held_out.fraction must be between 0 and 1, not {held.fraction}")
    if held.documents is not None and held.documents < 1:
        raise RecipeError(f"held_out.documents must be above 0, not {held.documents}")


def _typed(value: Any, hint: Any, where: str) -> Any:
    if isinstance(hint, UnionType):
        hint = next(each for each in typing.get_args(hint) if each is not NoneType)
    if typing.get_origin(hint) is tuple:
        values = [value] if isinstance(value, str) else value
        if isinstance(values, list) and all(isinstance(each, str) for each in values):
            return tuple(values)
        raise RecipeError(f"{where} must be a list of texts, not {value!r}")
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise RecipeError(f"{where} must be a finite number") from None
    if hint in (int, str) and isinstance(value, hint) and not isinstance(value, bool):
        return value
    kind = {int: "a whole number", float: "a number", str: "text"}[hint]
    raise RecipeError(f"{where} must be {kind}, not {value!r}")


def _nearest(word: str, known: dict[str, str]) -> str:
    near = difflib.get_close_matches(word, known, 1, 0.5)
    return f"did you mean {known[near[0]]}?" if near else f"known: {', '.join(known.values())}"


def _toml(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(each) for each in value) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f") if isinstance(value, str) else repr(value)
