"""Rows of many shards as one long table: paged, filtered, sorted, searched, without loading it.

A row is (file, row in the file). Without a filter its place follows from the footers. With one, matches are looked for
window by window, as far as they are asked for: one row more than a page tells whether there are more, and nothing is
counted. Sorted, the order is made once, of one column, as a table of (file, row) in DuckDB, which spills to disk.
"""

from __future__ import annotations

import bisect
import itertools
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb

from data.catalogue import ROW, SCAN, Catalogue, FileProblem, ShardFile, escaped, interruptible, quoted, reading
from data.files import ShardError, untouched
from data.filters import Filter, conditions, find, is_number
from data.workers import Cancelled

FIRST_WINDOW = 20_000  # rows looked through at once for matches, doubled as long as they are rare
LAST_WINDOW = 2_000_000

Key = tuple[int, int]  # index of the file, row in it


@dataclass(frozen=True)
class Hit:
    """A row found: where it lies, and its values by column; none where it could not be read, for the reason given."""

    file: str
    row: int
    values: dict[str, Any]
    error: str = ""


@dataclass(frozen=True)
class Page:
    """``hits`` from the place asked for; ``more``: at least one row follows."""

    hits: list[Hit]
    more: bool


@dataclass
class Rows:
    """The rows of some of a catalogue's files that pass ``filters``, in the order of ``sort``.

    Use it from one thread at a time; ``cancel`` from any. A file that fails is named in ``errors`` and left out from
    there on; the others go on.
    """

    catalogue: Catalogue
    files: Sequence[ShardFile]
    filters: tuple[Filter, ...] = ()
    sort: str | None = None
    descending: bool = False
    errors: list[FileProblem] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self._cursor = self.catalogue.cursor()
        self._cancelled = threading.Event()
        self._starts = [0, *itertools.accumulate(file.rows for file in self.files)]
        self._bad: set[int] = set()
        self._found: list[Key] = []
        self._at: Key = (0, 0)  # where the search for matches goes on
        self._ordered: int | None = None
        self._usable = [self._accepts(index) for index in range(len(self.files))]
        for wanted in [each.column for each in self.filters] + ([self.sort] if self.sort else []):
            if self.files and not any(wanted in {c.name for c in file.columns} for file in self.files):
                find(wanted, [c for file in self.files for c in file.columns])

    @property
    def total(self) -> int | None:
        """Rows in all; None while that is not known."""
        if self.sort is not None:
            return self._ordered
        if not self.filters:
            return self._starts[-1]
        return len(self._found) if self._at[0] >= len(self.files) else None

    @property
    def known(self) -> int:
        """Rows found so far."""
        total = self.total
        return len(self._found) if total is None else total

    def cancel(self) -> None:
        """End the work under way in another thread, which raises Cancelled; the next call goes on where it was."""
        self._cancelled.set()

    def close(self) -> None:
        """Give the cursor back, and with it the order."""
        self._cursor.close()

    def page(
        self, first: int, limit: int, *, columns: Sequence[str] | None = None, max_chars: int | None = 400
    ) -> Page:
        """Rows ``first`` …, at most ``limit``. Raises Cancelled, and ShardError where the order cannot be made."""
        self._cancelled.clear()
        keys = self.keys(first, limit + 1)
        wanted = keys[:limit]
        hits: dict[Key, Hit] = {}
        for index, group in itertools.groupby(sorted(wanted), key=lambda key: key[0]):
            file, rows = self.files[index], [row for _, row in group]
            try:
                for values in self._fetch(file, rows, columns, max_chars):
                    hits[index, values[ROW]] = Hit(file.path, values[ROW], values)
            except ShardError as error:
                self._fail(index, error)
                for row in rows:  # the place stays, so that rows do not move while one looks at them
                    hits[index, row] = Hit(file.path, row, {ROW: row}, str(error))
        return Page([hits[key] for key in wanted if key in hits], len(keys) > limit)

    def keys(self, first: int, limit: int) -> list[Key]:
        """Where rows ``first`` … lie, at most ``limit`` of them."""
        if self.sort is not None:
            self._order()
            with self._working():
                found: list[Key] = self._cursor.execute(
                    "SELECT file, row FROM ordered WHERE rowid >= ? AND rowid < ? ORDER BY rowid",
                    [first, first + limit],
                ).fetchall()
            return found
        if self.filters:
            while len(self._found) < first + limit and self._at[0] < len(self.files):
                self._look_further(first + limit - len(self._found))
            return self._found[first : first + limit]
        keys: list[Key] = []
        place = max(0, first)
        while len(keys) < limit and place < self._starts[-1]:
            index = bisect.bisect_right(self._starts, place) - 1
            row = place - self._starts[index]
            count = min(limit - len(keys), self.files[index].rows - row)
            keys += [(index, row + i) for i in range(count)]
            place += count
        return keys

    def place_of(self, file: str, row: int) -> int | None:
        """Where a row stands in an unfiltered, unsorted table; else among the rows found so far; None if nowhere."""
        index = next((i for i, f in enumerate(self.files) if f.path == file), None)
        if index is None or not 0 <= row < self.files[index].rows:
            return None
        if not self.filters and self.sort is None:
            return self._starts[index] + row
        if self.sort is not None:
            self._order()
            found = self._cursor.execute(
                "SELECT rowid FROM ordered WHERE file = ? AND row = ?", [index, row]
            ).fetchone()
            return int(found[0]) if found else None
        try:
            return self._found.index((index, row))
        except ValueError:
            return None

    def find_next(self, after: int, text: str, column: str | None = None) -> int | None:
        """The next place behind ``after`` whose text contains ``text``; None if there is none."""
        self._cancelled.clear()
        step = FIRST_WINDOW
        place = after + 1
        while True:
            keys = self.keys(place, step)
            if not keys:
                return None
            matches = set()
            for index, group in itertools.groupby(sorted(keys), key=lambda key: key[0]):
                file, rows = self.files[index], [row for _, row in group]
                name = column or file.text_column
                if name is None or index in self._bad:
                    continue
                try:
                    where, values = conditions([Filter(name, "~", text)], file.columns)
                    found = self._query(
                        file, f"SELECT {ROW} FROM {SCAN} WHERE {_among(rows)} AND {where} ORDER BY {ROW}", values
                    )
                    matches |= {(index, row) for (row,) in found}
                except ShardError as error:
                    self._fail(index, error)
            for offset, key in enumerate(keys):
                if key in matches:
                    return place + offset
            place += len(keys)
            step = min(2 * step, LAST_WINDOW)

    def _look_further(self, wanted: int) -> None:
        """Look through the next windows of one file until ``wanted`` more are found, or the file ends."""
        index, row = self._at
        file = self.files[index]
        window = FIRST_WINDOW
        while self._usable[index] and index not in self._bad and row < file.rows and wanted > 0:
            try:
                where, values = conditions(self.filters, file.columns)
                found = self._query(
                    file,
                    f"SELECT {ROW} FROM {SCAN} WHERE {ROW} >= {row} AND {ROW} < {row + window} AND {where} "
                    f"ORDER BY {ROW} LIMIT {wanted}",
                    values,
                )
            except ShardError as error:
                self._fail(index, error)
                break
            self._found += [(index, at) for (at,) in found]
            wanted -= len(found)
            row = found[-1][0] + 1 if wanted <= 0 else row + window
            self._at = (index, row)
            window = min(2 * window, LAST_WINDOW)
        if wanted > 0:
            self._at = (index + 1, 0)

    def _order(self) -> None:
        """Make the sorted table of keys, once."""
        if self._ordered is not None:
            return
        assert self.sort is not None
        types = {c.type for f in self.files for c in f.columns if c.name == self.sort}
        kind = types.pop() if len(types) == 1 else "DOUBLE" if all(map(is_number, types)) else "VARCHAR"
        self._run(f"CREATE OR REPLACE TEMP TABLE sorting (file INTEGER, row BIGINT, key {kind})")
        for index, file in enumerate(self.files):
            if not self._usable[index] or index in self._bad:
                continue
            try:
                where, values = conditions(self.filters, file.columns)
                key = quoted(self.sort) if any(c.name == self.sort for c in file.columns) else "NULL"
                self._query(
                    file, f"INSERT INTO sorting SELECT {index}, {ROW}, {key}::{kind} FROM {SCAN} WHERE {where}", values
                )
            except ShardError as error:
                self._fail(index, error)
                self._run(f"DELETE FROM sorting WHERE file = {index}")
        way = "DESC" if self.descending else "ASC"
        self._run(
            "CREATE OR REPLACE TEMP TABLE ordered AS "
            f"SELECT file, row FROM sorting ORDER BY key {way} NULLS LAST, file, row"
        )
        self._run("DROP TABLE sorting")
        self._ordered = int(self._run("SELECT count(*) FROM ordered")[0][0])

    def _fetch(
        self, file: ShardFile, rows: list[int], columns: Sequence[str] | None, max_chars: int | None
    ) -> list[dict[str, Any]]:
        untouched(file.identity)
        with interruptible(self._cursor, self._cancelled.is_set):
            if rows[-1] - rows[0] + 1 == len(rows):
                return self.catalogue.page(file, rows[0], len(rows), columns, max_chars, cursor=self._cursor)
            return self.catalogue.rows(file, rows, columns, max_chars, cursor=self._cursor)

    def _accepts(self, index: int) -> bool:
        """Whether the filters can be asked of a file; one that lacks a column is named and left out."""
        try:
            conditions(self.filters, self.files[index].columns)
            return True
        except ShardError as error:
            self._fail(index, error)
            return False

    def _fail(self, index: int, error: ShardError) -> None:
        if index not in self._bad:
            self._bad.add(index)
            self.errors.append(FileProblem.of(self.files[index].path, error))

    def _query(self, file: ShardFile, sql: str, values: Sequence[Any]) -> list[Any]:
        untouched(file.identity)
        with self._working(), reading(file.path):
            return self._cursor.execute(sql, [escaped(file.path), *values]).fetchall()

    def _run(self, sql: str) -> list[Any]:
        try:
            with self._working():
                return self._cursor.execute(sql).fetchall()
        except duckdb.InterruptException:
            raise Cancelled from None
        except duckdb.Error as error:
            reason = str(error).splitlines()[0][:300]
            raise ShardError(f"sorting: {reason}; free memory or disk space, or choose fewer files") from None

    def _working(self) -> Any:
        if self._cancelled.is_set():
            raise Cancelled
        return interruptible(self._cursor, self._cancelled.is_set)


def _among(rows: Sequence[int]) -> str:
    """The condition that a row is one of ``rows``, which are sorted."""
    if rows[-1] - rows[0] + 1 == len(rows):
        return f"{ROW} >= {rows[0]} AND {ROW} <= {rows[-1]}"
    return f"{ROW} IN ({', '.join(map(str, rows))})"
