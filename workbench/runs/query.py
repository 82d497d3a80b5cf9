"""Choosing runs by a line of text: words, comparisons of configuration and figures, AND, OR, NOT, brackets.

``demo not failed``, ``lr>3e-4 and layers=12``, ``(val<3 or state=running) and preset~40m``. Words stand for runs whose
name, state, verdict or note holds them; what stands side by side must hold together. (W&B LEET's run query, and names
that may be left short: ``lr`` for ``optim.lr``.)
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from data.bounded import read_toml
from engine.config import SECTIONS, fields_of, suggest
from workbench.errors import UserError
from workbench.runs.store import RunSummary

Test = Callable[[RunSummary], bool]
SUMMARY = ("name", "state", "step", "max_steps", "val_loss", "verdict", "tokens_per_s", "created", "note")
_SHORT = {
    "val": "val_loss", "loss": "val_loss", "speed": "tokens_per_s", "layers": "model.n_layer",
    "heads": "model.n_head", "width": "model.n_embd", "context": "model.block_size", "batch": "train.micro_batch",
}  # fmt: skip
_TOKEN = re.compile(r"\s*(?:([()])|\"([^\"]*)\"|([\w.]+)\s*(>=|<=|!=|==|=|>|<|~)\s*(\"[^\"]*\"|[^\s()]+)|([^\s()]+))")
_MULTIPLES = {"k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}
_DEEPEST = 50


def parse(text: str) -> Test:
    """The test that ``text`` means; an empty one lets every run pass.

    Raises:
        UserError: an unknown field (with the nearest known), or brackets that do not close.
    """
    tokens: list[tuple[str, ...]] = []
    at, text = 0, text.strip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise UserError(f"the filter cannot be read from {text[at : at + 20]!r} on")
        bracket, quoted, field, op, value, word = match.groups()
        at = match.end()
        if bracket:
            tokens.append((bracket,))
        elif field:
            tokens.append(("compare", known_field(field), op, value.strip('"')))
        elif word and word.casefold() in ("and", "or", "not"):
            tokens.append((word.casefold(),))
        else:
            tokens.append(("word", (word or quoted or "").casefold()))
    parser = _Parser(tokens)
    test = parser.either(0) if tokens else _always
    if parser.at < len(tokens):
        raise UserError("the filter has a bracket that opens nowhere")
    return test


def known_field(name: str) -> str:
    """The full name of a field. Raises UserError, naming the nearest, where there is none."""
    name = _SHORT.get(name.casefold(), name)
    options = [f"{section}.{option}" for section in SECTIONS for option in fields_of(section)]
    if name in SUMMARY or name in options:
        return name
    ends = [option for option in options if option.endswith(f".{name}")]
    if ends:
        return ends[0]
    bare = [option.partition(".")[2] for option in options]
    near = suggest(name, [*SUMMARY, *_SHORT, *options, *bare])
    raise UserError(f"no field {name!r} to filter by" + (f"; did you mean {near}?" if near else ""))


class _Parser:
    def __init__(self, tokens: list[tuple[str, ...]]) -> None:
        self.tokens, self.at = tokens, 0

    def next_is(self, *kinds: str) -> bool:
        return self.at < len(self.tokens) and self.tokens[self.at][0] in kinds

    def either(self, depth: int) -> Test:
        tests = [self.together(depth)]
        while self.next_is("or"):
            self.at += 1
            tests.append(self.together(depth))
        return tests[0] if len(tests) == 1 else lambda run: any(test(run) for test in tests)

    def together(self, depth: int) -> Test:
        tests: list[Test] = []
        while self.at < len(self.tokens) and not self.next_is("or", ")"):
            if self.next_is("and"):
                self.at += 1
                continue
            tests.append(self.single(depth + 1))
        return lambda run: all(test(run) for test in tests)

    def single(self, depth: int) -> Test:
        if depth > _DEEPEST:
            raise UserError("the filter has too many brackets within brackets")
        if self.at >= len(self.tokens):
            return _always
        kind, *rest = self.tokens[self.at]
        if kind in (")", "or", "and"):  # what is to come is still being typed
            return _always
        self.at += 1
        if kind == "not":
            inner = self.single(depth + 1)
            return lambda run: not inner(run)
        if kind == "(":
            inner = self.either(depth)
            if self.next_is(")"):
                self.at += 1
            return inner
        if kind == "compare":
            field, op, value = rest
            return lambda run: _compare(field_of(run, field), op, value)
        return lambda run: rest[0] in f"{run.name} {run.state} {run.verdict or ''} {run.note}".casefold()


def field_of(run: RunSummary, field: str) -> Any:
    """A field's value for a run; None where it is not known."""
    if field in SUMMARY:
        return getattr(run, field)
    section, _, option = field.partition(".")
    values = configuration(Path(run.run)).get(section)
    return values.get(option) if isinstance(values, dict) else None


def configuration(run_dir: Path) -> dict[str, Any]:
    """A run's resolved configuration by section; {} where it has none that can be read."""
    path = run_dir / "config.toml"
    try:
        return _read_toml(path, path.stat().st_mtime_ns)
    except (OSError, ValueError):
        return {}


@lru_cache(maxsize=20_000)
def _read_toml(path: Path, modified: int) -> dict[str, Any]:
    return read_toml(path)


def _always(run: RunSummary) -> bool:
    return True


def _compare(have: Any, op: str, want: str) -> bool:
    if have is None:
        return op == "!="
    if op == "~":
        return want.casefold() in str(have).casefold()
    number = _number(want)
    if number is not None and isinstance(have, (int, float)) and not isinstance(have, bool):
        left: Any = float(have)
        right: Any = number
    else:
        left, right = str(have).casefold(), want.casefold()
        if op in ("<", ">", "<=", ">="):
            return False
    results = {"=": left == right, "==": left == right, "!=": left != right}
    if op in results:
        return bool(results[op])
    return bool({"<": left < right, ">": left > right, "<=": left <= right, ">=": left >= right}[op])


def _number(text: str) -> float | None:
    scale = _MULTIPLES.get(text[-1:].casefold(), 1.0)
    try:
        return float(text[:-1] if scale != 1.0 else text) * scale
    except ValueError:
        return None
