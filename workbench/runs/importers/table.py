"""CSV (comma, semicolon or tab) with a header that names a step column and a loss column."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from typing import ClassVar

from workbench.runs.facts import Fact
from workbench.runs.importers import columns
from workbench.runs.importers.importer import Event, to_float


def _header(line: str) -> tuple[str, list[str]] | None:
    """The delimiter and the column names, or None where the line is no such header."""
    for delimiter in (",", ";", "\t"):
        names = _split(line, delimiter)
        if len(names) > 1 and columns.usable(columns.roles(names)):
            return delimiter, names
    return None


def _split(line: str, delimiter: str) -> list[str]:
    try:
        row = next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        row = line.split(delimiter)
    return [cell.strip() for cell in row]


class Table:
    """Reads a CSV; see the module."""

    name: ClassVar[str] = "CSV with a step and a loss column"

    def __init__(self) -> None:
        self.facts: dict[str, Fact] = {}
        self._rows = columns.Rows()
        self._delimiter = ""
        self._names: list[str] = []
        self._roles: dict[str, str] = {}

    @classmethod
    def score(cls, head: Sequence[str]) -> int:
        lines = [line for line in head if line.strip()]
        found = _header(lines[0].lstrip("\ufeff")) if lines else None
        if found is None:
            return 0
        delimiter, names = found
        at = names.index(columns.roles(names)["step"])
        rows = [_split(line, delimiter) for line in lines[1:]]
        return 2 * sum(1 for row in rows if len(row) > at and to_float(row[at]) == to_float(row[at]))

    def feed(self, line_number: int, line: str) -> Iterator[Event]:
        if not self._names:
            found = _header(line.lstrip("\ufeff"))
            if found:
                self._delimiter, self._names = found
                self._roles = columns.roles(self._names)
            return
        cells = _split(line, self._delimiter)
        yield from self._rows.events(line_number, dict(zip(self._names, cells, strict=False)), self._roles)

    def finish(self) -> Iterator[Event]:
        yield from ()
