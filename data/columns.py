"""Columns: what a column holds over many shards, how it is spread, and how each file stores it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import duckdb

from data.catalogue import SCAN, Catalogue, FileProblem, ShardFile, escaped, interruptible, quoted, reading
from data.files import ShardError, read_footer, unreadable
from data.filters import find, is_number
from data.footer import FooterError
from data.workers import Cancelled

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
CHARACTERS, TOKENS = "length in characters", "length in tokens"  # of documents; names that may stand for a column
_SHOWN = 80
_WIDE = 50  # a spread from median to 99% of more than so many times is shown on a logarithmic axis


@dataclass(frozen=True)
class ColumnStatistics:
    """One column over the files that have it.

    Attributes:
        types: its DuckDB types; more than one where files differ.
        rows, nulls: of the files read. distinct: approximate (HyperLogLog, a few per cent); not for duplicate rates.
        low, high: smallest and largest value as text. quantiles: of the values for numbers, of the length in
            characters for text, None for other types; approximate (t-digest).
        missing_in: files without the column. errors: files that could not be read.
    """

    name: str
    types: tuple[str, ...]
    rows: int
    nulls: int
    distinct: int
    low: str | None
    high: str | None
    mean: float | None
    quantiles: dict[float, float] | None
    missing_in: int
    errors: list[FileProblem] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {**asdict(self), "quantiles": {str(k): v for k, v in (self.quantiles or {}).items()} or None}


@dataclass(frozen=True)
class Histogram:
    """Counts of values in [edges[i], edges[i + 1]), the last bin closed; ``log``: edges grow by a factor.

    ``below`` counts values a logarithmic axis cannot show (0 and less).
    """

    name: str
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    nulls: int
    log: bool
    below: int = 0
    errors: list[FileProblem] = field(default_factory=list)


@dataclass(frozen=True)
class StoredColumn:
    """How one file stores a column: bytes on disk and before compression, codecs, encodings."""

    name: str
    type: str
    compressed: int
    uncompressed: int
    codecs: str
    encodings: str


@dataclass(frozen=True)
class Layout:
    """A file's row groups (rows, bytes on disk, bytes before compression) and columns."""

    file: str
    row_groups: tuple[tuple[int, int, int], ...]
    columns: tuple[StoredColumn, ...]


def column_statistics(
    catalogue: Catalogue,
    column: str,
    files: Sequence[ShardFile] | None = None,
    *,
    cancelled: Callable[[], bool] | None = None,
) -> ColumnStatistics:
    """Nulls, extremes, quantiles and distinct values of a column. Raises ShardError where no file has it, Cancelled."""
    reader = _Reader(catalogue, list(catalogue.files if files is None else files), column, cancelled)
    numeric = all(map(is_number, reader.kinds))
    measure = "value" if numeric else "length(value)" if reader.kinds == ("VARCHAR",) else "NULL::DOUBLE"
    with reader:
        row = reader.over_files(
            f"""SELECT count(*), count(*) - count(value), approx_count_distinct(value), min(value), max(value),
                       avg({measure})::DOUBLE,
                       approx_quantile({measure}::DOUBLE, [{", ".join(map(str, QUANTILES))}]) FROM ($)"""
        )[0]
    rows, nulls, distinct, low, high, mean, quantiles = row
    return ColumnStatistics(
        name=column,
        types=reader.kinds,
        rows=rows,
        nulls=nulls,
        distinct=min(distinct, rows - nulls),
        low=None if low is None else str(low)[:_SHOWN],
        high=None if high is None else str(high)[:_SHOWN],
        mean=mean,
        quantiles=None if quantiles is None or quantiles[0] is None else dict(zip(QUANTILES, quantiles, strict=True)),
        missing_in=reader.missing,
        errors=reader.errors,
    )


def histogram(
    catalogue: Catalogue,
    column: str,
    files: Sequence[ShardFile] | None = None,
    *,
    bins: int = 40,
    log: bool | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Histogram:
    """How a numeric column, or the documents' length, is spread.

    Args:
        column: a numeric column, ``TOKENS`` (the shards' ``token_count``) or ``CHARACTERS``.
        log: logarithmic bins; by default where the values spread widely. Integers get bins no narrower than 1.

    Raises ShardError where no file has the column or it holds no numbers, Cancelled.
    """
    chosen = list(catalogue.files if files is None else files)
    name, expression = column, "value"
    if column == TOKENS:
        chosen = [file for file in chosen if file.token_column]
        name = "token_count"
        if not chosen:
            raise ShardError("no shard has a token_count column: its documents' length in characters can be shown")
    elif column == CHARACTERS:
        chosen = [file for file in chosen if file.text_column]
        name, expression = catalogue.column, "length(value)"
        if not chosen:
            raise ShardError(f"no shard has a column {catalogue.column!r} of text")
    reader = _Reader(catalogue, chosen, name, cancelled)
    if column != CHARACTERS and not all(map(is_number, reader.kinds)):
        raise ShardError(f"column {column} holds {', '.join(reader.kinds)}: a histogram needs numbers")
    whole = column == CHARACTERS or all("INT" in kind for kind in reader.kinds)
    with reader:
        reader.over_files(f"CREATE OR REPLACE TEMP TABLE measured AS SELECT ({expression})::DOUBLE AS x FROM ($)")
        low, high, median, p99, nulls, positive = reader.run(
            """SELECT min(x) FILTER (isfinite(x)), max(x) FILTER (isfinite(x)), approx_quantile(x, 0.5),
                      approx_quantile(x, 0.99), count(*) - count(x), min(x) FILTER (x > 0 AND isfinite(x))
               FROM measured"""
        )[0]
        if low is None:
            return Histogram(column, (), (), nulls, False, 0, reader.errors)
        if log is None:
            log = low >= 0 and positive is not None and high > _WIDE * max(median, positive) and p99 > 4 * median
        log = log and positive is not None
        edges = growing_edges(positive, high, bins, whole) if log else even_edges(low, high, bins, whole)
        place = (
            f"floor(ln(x / {edges[0]!r}) / {math.log(edges[1] / edges[0])!r})"
            if log
            else f"floor((x - {edges[0]!r}) / {edges[1] - edges[0]!r})"
        )
        found = dict(
            reader.run(
                f"""SELECT least(greatest({place}, 0), {len(edges) - 2})::INTEGER AS bin, count(*) FROM measured
                    WHERE isfinite(x) AND {"x > 0" if log else "true"} GROUP BY bin"""
            )
        )
        below = reader.run("SELECT count(*) FROM measured WHERE x <= 0")[0][0] if log else 0
    return Histogram(
        column, edges, tuple(found.get(i, 0) for i in range(len(edges) - 1)), nulls, log, below, reader.errors
    )


def measures(files: Sequence[ShardFile]) -> list[str]:
    """What ``histogram`` can show of these files: document length first, then ``score``, then other numbers."""
    names = {c.name: None for file in files for c in file.columns if is_number(c.type)}
    lengths = [TOKENS] if any(f.token_column for f in files) else []
    lengths += [CHARACTERS] if any(f.text_column for f in files) else []
    ordered = sorted(names, key=lambda name: (not name.endswith("score"), list(names).index(name)))
    return lengths + [name for name in ordered if name != "token_count"]


def layout(path: str) -> Layout:
    """How a file is stored, from its footer. Raises ShardError as ``files.identify``."""
    identity, footer = read_footer(path)
    try:
        groups = list(footer.row_groups())
    except FooterError as error:
        raise unreadable(path, error) from None
    stored: dict[str, dict[str, Any]] = {}
    for chunk in itertools.chain.from_iterable(group.chunks for group in groups):
        entry = stored.setdefault(
            chunk.path, {"type": chunk.type, "compressed": 0, "uncompressed": 0, "codecs": set(), "encodings": set()}
        )
        entry["compressed"] += chunk.compressed
        entry["uncompressed"] += chunk.uncompressed
        entry["codecs"].add(chunk.codec)
        entry["encodings"] |= set(chunk.encodings)
    return Layout(
        identity.path,
        tuple((g.rows, sum(chunk.compressed for chunk in g.chunks), g.bytes) for g in groups),
        tuple(
            StoredColumn(
                name, e["type"], e["compressed"], e["uncompressed"], "+".join(sorted(e["codecs"])),
                "+".join(sorted(e["encodings"])),
            )
            for name, e in stored.items()
        ),
    )  # fmt: skip


class _Reader:
    """One column of many files, as ``value``. Files are read in one query; only if that fails is each tried alone,
    and the bad ones are named in ``errors`` and left out. A context: it holds a cursor."""

    def __init__(
        self, catalogue: Catalogue, files: list[ShardFile], column: str, cancelled: Callable[[], bool] | None
    ) -> None:
        self.kinds = tuple(sorted({c.type for file in files for c in file.columns if c.name == column}))
        if not self.kinds:
            find(column, [c for file in files for c in file.columns])
        self.errors: list[FileProblem] = []
        self._column, self._cancelled = column, cancelled
        self._files = [file for file in files if any(c.name == column for c in file.columns)]
        self.missing = len(files) - len(self._files)
        self._cursor = catalogue.cursor()

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._cursor.close()

    def over_files(self, sql: str) -> list[Any]:
        """Run a statement whose ``$`` stands for the column of all files that can be read."""
        try:
            return self.run(sql, *self._source())
        except ShardError:
            good = []
            for file in self._files:
                try:
                    with reading(file.path):
                        self._execute(f"SELECT max(hash({quoted(self._column)})) FROM {SCAN}", [escaped(file.path)])
                    good.append(file)
                except ShardError as error:
                    self.errors.append(FileProblem.of(file.path, error))
            if not self.errors:
                raise
            if not good:
                raise ShardError(f"{self.errors[0].file}: {self.errors[0].error}") from None
            self._files = good
            return self.run(sql, *self._source())

    def run(self, sql: str, source: str = "", values: list[Any] | None = None) -> list[Any]:
        """Run a statement."""
        try:
            return self._execute(sql.replace("$", source), values or [])
        except duckdb.InterruptException:
            raise Cancelled from None
        except duckdb.Error as error:
            raise ShardError(f"column {self._column}: {str(error).splitlines()[0][:300]}") from None

    def _execute(self, sql: str, values: list[Any]) -> list[Any]:
        if self._cancelled is not None and self._cancelled():
            raise Cancelled
        with interruptible(self._cursor, self._cancelled):
            return self._cursor.execute(sql, values).fetchall()

    def _source(self) -> tuple[str, list[Any]]:
        kind = self.kinds[0] if len(self.kinds) == 1 else "DOUBLE" if all(map(is_number, self.kinds)) else "VARCHAR"
        by_type: dict[str, list[str]] = {}
        for file in self._files:
            own = next(c.type for c in file.columns if c.name == self._column)
            by_type.setdefault(own, []).append(escaped(file.path))
        part = f"SELECT {quoted(self._column)}::{kind} AS value FROM {SCAN}"
        return " UNION ALL ".join([part] * len(by_type)), list(by_type.values())


def even_edges(low: float, high: float, bins: int, whole: bool) -> tuple[float, ...]:
    """Edges of equal width, from ``low`` to ``high``; of integers (``whole``) no narrower than 1."""
    if whole:
        width = max(1, math.ceil((high - low + 1) / bins))
        count = max(1, math.ceil((high - low + 1) / width))
        return tuple(low + width * i for i in range(count + 1))
    if high == low:
        return (low, low + (abs(low) or 1.0) * 1e-6)
    return (*(low + (high - low) * i / bins for i in range(bins)), high)


def growing_edges(low: float, high: float, bins: int, whole: bool) -> tuple[float, ...]:
    """Edges that grow by a constant factor, from ``low`` to beyond ``high``."""
    top = high + 1 if whole else high * (1 + 1e-9)
    return tuple(low * (top / low) ** (i / bins) for i in range(bins + 1))
