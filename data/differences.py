"""Two texts side by side: which lines and words differ, at a bounded cost."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from itertools import zip_longest

_LINES = 2000  # of each text that are compared; beyond, lines are paired as they stand
_WORDS = 400  # of a changed line that are compared
_WORD = re.compile(r"\s+|\w+|[^\w\s]")


@dataclass(frozen=True)
class Span:
    """A stretch of a line; ``changed`` where the other text has something else."""

    text: str
    changed: bool


@dataclass(frozen=True)
class Row:
    """A line of each text, side by side; None where one has no such line. ``kind``: same, changed, removed, added."""

    kind: str
    left: tuple[Span, ...] | None
    right: tuple[Span, ...] | None


def differences(a: str, b: str) -> list[Row]:
    """Align two texts by lines, and changed lines by words (difflib, Ratcliff & Obershelp).

    Quadratic at worst, so no more than 2,000 lines of each are aligned and 400 words of a line; what lies beyond is
    compared line by line in order.
    """
    left, right = a.split("\n"), b.split("\n")
    start = 0
    while start < min(len(left), len(right)) and left[start] == right[start]:
        start += 1
    stop = 0
    while stop < min(len(left), len(right)) - start and left[-1 - stop] == right[-1 - stop]:
        stop += 1
    rows = [_same(line) for line in left[:start]]
    middle_left, middle_right = left[start : len(left) - stop], right[start : len(right) - stop]
    matcher = difflib.SequenceMatcher(None, middle_left[:_LINES], middle_right[:_LINES], autojunk=True)
    for kind, i, j, k, m in matcher.get_opcodes():
        rows += _rows(kind == "equal", middle_left[i:j], middle_right[k:m])
    rows += _rows(False, middle_left[_LINES:], middle_right[_LINES:])
    return rows + [_same(line) for line in left[len(left) - stop :]]


def _rows(equal: bool, left: list[str], right: list[str]) -> list[Row]:
    if equal:
        return [_same(line) for line in left]
    rows = []
    for one, other in zip_longest(left, right):
        if one is None:
            rows.append(Row("added", None, (Span(other, True),)))
        elif other is None:
            rows.append(Row("removed", (Span(one, True),), None))
        elif one == other:
            rows.append(_same(one))
        else:
            rows.append(Row("changed", *_words(one, other)))
    return rows


def _words(one: str, other: str) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
    left, right = _WORD.findall(one), _WORD.findall(other)
    rest_left, rest_right = "".join(left[_WORDS:]), "".join(right[_WORDS:])
    spans_left: list[Span] = []
    spans_right: list[Span] = []
    matcher = difflib.SequenceMatcher(None, left[:_WORDS], right[:_WORDS], autojunk=False)
    for kind, i, j, k, m in matcher.get_opcodes():
        if j > i:
            spans_left.append(Span("".join(left[i:j]), kind != "equal"))
        if m > k:
            spans_right.append(Span("".join(right[k:m]), kind != "equal"))
    for spans, rest in ((spans_left, rest_left), (spans_right, rest_right)):
        if rest:
            spans.append(Span(rest, rest_left != rest_right))
    return tuple(spans_left), tuple(spans_right)


def _same(line: str) -> Row:
    return Row("same", (Span(line, False),), (Span(line, False),))
