"""Typed predicates on columns: ``score >= 3.5 and language = en and text ~ neural``. Values are bound, never pasted."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from data.catalogue import Column, quoted
from data.database import scratch
from data.files import ShardError

OPERATORS = ("=", "!=", "<", "<=", ">", ">=", "~", "!~", "is null", "is not null", "in")
_PART = re.compile(
    r"""\s*(?P<column>"(?:[^"]|"")+"|[\w.\-]+)\s*
        (?:(?P<null>is\s+(?:not\s+)?null)
         |(?P<op><=|>=|!=|<>|==|=|<|>|!~|~)\s*(?P<value>'(?:[^']|'')*'|"[^"]*"|.+?))\s*$""",
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_SYNONYMS = {"<>": "!=", "==": "="}
_NUMBERS = (
    "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT",
    "FLOAT", "DOUBLE", "DECIMAL",
)  # fmt: skip


@dataclass(frozen=True)
class Filter:
    """One condition on a column. ``~`` holds where the column, as text, contains the value, whatever the case."""

    column: str
    operator: str
    value: Any = None

    def __post_init__(self) -> None:
        if self.operator not in OPERATORS:
            raise ShardError(
                f"filter on {self.column}: no operator {self.operator!r}; use one of {' '.join(OPERATORS)}"
            )

    def __str__(self) -> str:
        value = "" if self.operator.startswith("is ") else f" {self.value}"
        return f"{self.column} {self.operator}{value}"

    def sql(self, columns: Sequence[Column]) -> tuple[str, list[Any]]:
        """The condition and its parameters over a file of these columns.

        Raises ShardError where the file has no such column, or the value is none of its type.
        """
        column = find(self.column, columns)
        name = quoted(column.name)
        if self.operator.startswith("is "):
            return f"{name} {self.operator.upper()}", []
        if self.operator in ("~", "!~"):
            found = f"contains(lower({name}::VARCHAR), lower(?))"
            return (found if self.operator == "~" else f"NOT {found}"), [str(self.value)]
        if self.operator == "in":
            values = [checked(column, value) for value in self.value]
            return (f"{name} IN ({', '.join('?' * len(values))})" if values else "false"), values
        return f"{name} {self.operator} ?", [checked(column, self.value)]


def parse(text: str) -> tuple[Filter, ...]:
    """``column operator value``, joined by ``and``; a word alone is looked for in the text column.

    Raises ShardError for what is no such line.
    """
    filters = []
    for part in _split(text):
        match = _PART.match(part)
        if match is None:
            raise ShardError(
                f"filter {part.strip()!r}: write it as column operator value, for example score >= 3 and text ~ word"
            )
        column = match["column"]
        if column.startswith('"'):
            column = column[1:-1].replace('""', '"')
        if match["null"]:
            filters.append(Filter(column, " ".join(match["null"].lower().split())))
            continue
        value = match["value"]
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1].replace("''", "'")
        filters.append(Filter(column, _SYNONYMS.get(match["op"], match["op"]), value))
    return tuple(filters)


def conditions(filters: Iterable[Filter], columns: Sequence[Column]) -> tuple[str, list[Any]]:
    """All filters as one condition ("true" where there are none) with its parameters."""
    made = [each.sql(columns) for each in filters]
    return " AND ".join(sql for sql, _ in made) or "true", [value for _, values in made for value in values]


def find(name: str, columns: Sequence[Column]) -> Column:
    """The column of that name; ShardError names the nearest one instead."""
    for column in columns:
        if column.name == name:
            return column
    names = [column.name for column in columns]
    near = difflib.get_close_matches(name, names, 1, 0.5)
    raise ShardError(f"no column {name!r}; " + (f"did you mean {near[0]}?" if near else f"it has {', '.join(names)}"))


def is_number(kind: str) -> bool:
    """Whether a DuckDB type holds numbers."""
    return kind.startswith(_NUMBERS) and not kind.endswith("]")


def checked(column: Column, value: Any) -> Any:
    """A value as a parameter for a comparison with the column. ShardError where it is none of the column's type."""
    kind = column.type
    if kind == "VARCHAR" or kind.startswith("ENUM"):
        if isinstance(value, (int, float)):
            raise ShardError(f"column {column.name} holds {kind}, no numbers: it cannot be compared with {value}")
        return str(value)
    if kind.endswith("]") or kind.startswith(("STRUCT", "MAP", "UNION")):
        raise ShardError(f"column {column.name} holds {kind}: filter it with ~ instead")
    if is_number(kind):
        try:
            # A double against an integer column compares right; text against it would be cast to an integer.
            return value if isinstance(value, (int, float)) else _number(str(value))
        except ValueError:
            raise ShardError(f"column {column.name} holds {kind}: {str(value)[:60]!r} is no number") from None
    with scratch("64MB") as connection:
        try:
            return connection.execute(f"SELECT ?::{kind}", [value]).fetchall()[0][0]
        except duckdb.Error:
            raise ShardError(f"column {column.name} holds {kind}: {str(value)[:60]!r} is none") from None


def _number(text: str) -> int | float:
    text = text.replace(",", "").replace("_", "")
    try:
        return int(text)
    except ValueError:
        return float(text)


def _split(text: str) -> list[str]:
    """Parts between ``and``s that stand outside quotes."""
    parts, begin, quote = [], 0, ""
    for match in re.finditer(r"'|\"|\band\b", text, re.IGNORECASE):
        token = match[0]
        if token in "'\"":
            quote = "" if quote == token else quote or token
        elif not quote:
            parts.append(text[begin : match.start()])
            begin = match.end()
    parts.append(text[begin:])
    return [part for part in parts if part.strip()]
