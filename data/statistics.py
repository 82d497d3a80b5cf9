"""What the shards hold: rows, tokens, duplicates, effective unique tokens, lengths; per file and over the selection.

What was not computed is None, never 0. Tokens do not count separators. Exact duplicates are rows beyond the first of
the same text (DuckDB's 64-bit hash and the length in bytes); rows with a null or empty text are no documents.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from data import packed, tokens
from data import worth as worths
from data.catalogue import ROW, SCAN, Catalogue, FileProblem, ShardFile, escaped, interruptible, quoted, reading
from data.database import release
from data.encoding import load
from data.figures import COLUMN, COUNTED, ESTIMATED, MIXED, FileStatistics, Lengths, Statistics
from data.files import ShardError, unchanged
from data.sketches import share_of
from data.workers import Cancelled

__all__ = ["FileStatistics", "Lengths", "Statistics", "statistics"]


def statistics(
    catalogue: Catalogue,
    *,
    exact_tokens: bool = False,
    near: str | None = "estimate",
    encoding: str = "gpt2",
    cache: Path | None = None,
    seed: int = 0,
    on_progress: Callable[[str, float], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Statistics:
    """Read every document once and answer for the files that can be read.

    Args:
        exact_tokens: encode every document: the shards are packed into ``cache`` (by default the one that training
            uses, so that the work is done once). Without it, a shard packed there already is counted all the same.
        near: "estimate" near duplicates and boilerplate from a sample (exactly, if all sketches are in ``cache``),
            look for all of them ("exact"), or for none (None).
        on_progress: stage and fraction done, in [0, 1].
        cancelled: asked several times a second; yes raises Cancelled.
    """
    work = _Work(catalogue, encoding, cache or packed.default_cache(), seed, on_progress, cancelled)
    try:
        return work.run(exact_tokens, near)
    finally:
        work.cursor.close()


@contextmanager
def documents(
    catalogue: Catalogue,
    *,
    exact_tokens: bool = False,
    encoding: str = "gpt2",
    cache: Path | None = None,
    on_progress: Callable[[str, float], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Iterator[tuple[duckdb.DuckDBPyConnection, list[ShardFile], Statistics]]:
    """Every document as a row of the table ``documents`` (file, row, hash, bytes, tokens) on the cursor given.

    ``file`` is an index into the files given; those that failed are in the statistics' errors and have no rows. The
    arguments are those of ``statistics``; without ``exact_tokens`` the tokens of a document may be an estimate.
    """
    work = _Work(catalogue, encoding, cache or packed.default_cache(), 0, on_progress, cancelled)
    try:
        work.read(exact_tokens)
        yield work.cursor, work.files, work.result
    finally:
        work.cursor.close()


@dataclass
class _Work:
    catalogue: Catalogue
    encoding: str
    cache: Path
    seed: int
    on_progress: Callable[[str, float], None] | None
    cancelled: Callable[[], bool] | None

    def __post_init__(self) -> None:
        self.cursor = self.catalogue.cursor()
        self.encoder = load(self.encoding)
        self.files = [file for file in self.catalogue.files if file.text_column is not None]
        self.result = Statistics(encoding=self.encoding, errors=list(self.catalogue.errors))
        self.confirming = self.blocks = 0  # documents that confirmed columns, blocks that estimates rest on
        self.disagreeing = 0  # files
        self.variance = 0.0

    def run(self, exact_tokens: bool, near: str | None) -> Statistics:
        self.read(exact_tokens)
        self.tell("finding exact duplicates", 1.0)
        self.find_copies()
        if near is not None and self.result.by_file:
            self.result.worth = self.measure(near == "exact")
        self.totals()
        return self.result

    def find_copies(self) -> None:
        """Documents of a text that has copies: which copy over all files, and in its own."""
        self.query(
            """CREATE OR REPLACE TEMP TABLE copies AS
            SELECT file, row, tokens, row_number() OVER (PARTITION BY hash, bytes ORDER BY file, row) AS copy,
                   row_number() OVER (PARTITION BY hash, bytes, file ORDER BY row) AS copy_here
            FROM documents SEMI JOIN
                 (SELECT hash, bytes FROM documents GROUP BY hash, bytes HAVING count(*) > 1) USING (hash, bytes)"""
        )

    def measure(self, exact: bool) -> worths.Worth:
        """Near duplicates and boilerplate; a file that cannot be read again is named, and leaves the answer."""
        index_of = {file.path: index for index, file in enumerate(self.files)}
        known = {entry.file for entry in self.result.by_file}
        bad: set[str] = set()

        def failed(path: str, error: ShardError) -> None:
            if path not in bad:
                self.result.errors.append(FileProblem.of(path, error))
            bad.add(path)

        parts = [self.tokens_in(index, file) for index, file in enumerate(self.files) if file.path in known]
        release(self.cursor)
        found = worths.measure(
            parts,
            exact=exact,
            column=self.catalogue.column,
            cache=self.cache,
            token_error=math.sqrt(self.variance),
            seed=self.seed,
            on_progress=self.on_progress,
            on_error=failed,
            cancelled=self.cancelled,
        )
        if bad:
            self.result.by_file = [entry for entry in self.result.by_file if entry.file not in bad]
            self.query(f"DELETE FROM documents WHERE file IN ({', '.join(str(index_of[path]) for path in bad)})")
            self.find_copies()
        return found

    def tokens_in(self, index: int, file: ShardFile) -> worths.FileTokens:
        self.query(
            f"""CREATE OR REPLACE TEMP TABLE part AS SELECT row, bytes, documents.tokens, coalesce(copy, 1) = 1 AS first
            FROM documents LEFT JOIN copies USING (file, row) WHERE file = {index}"""
        )
        found = self.cursor.execute("SELECT * FROM part ORDER BY row").fetchnumpy()
        return worths.FileTokens(
            identity=file.identity,
            rows=np.asarray(found["row"], np.int64),
            bytes=np.asarray(found["bytes"], np.int64),
            tokens=np.asarray(found["tokens"], np.float64),
            first=np.asarray(found["first"], bool),
        )

    def read(self, exact_tokens: bool) -> None:
        packs = self.pack() if exact_tokens else {}
        self.query("CREATE TEMP TABLE documents (file INTEGER, row BIGINT, hash UBIGINT, bytes BIGINT, tokens DOUBLE)")
        for index, file in enumerate(self.files):
            self.tell("reading documents", index / len(self.files))
            if exact_tokens and file.path not in packs:
                continue  # named in the errors by its packing
            try:
                self.result.by_file.append(self.one_file(index, file, packs.get(file.path)))
            except ShardError as error:
                self.result.errors.append(FileProblem.of(file.path, error))

    def pack(self) -> dict[str, packed.Pack]:
        found = packed.pack_shards(
            [file.path for file in self.files],
            encoding=self.encoding,
            column=self.catalogue.column,
            cache=self.cache,
            on_progress=share_of(sum(file.rows for file in self.files), "counting tokens", self.on_progress),
            on_error=lambda path, error: self.result.errors.append(FileProblem.of(path, error)),
            cancelled=self.cancelled,
        )
        packs = {pack.identity.path: pack for pack in found}
        release()
        return packs

    def one_file(self, index: int, file: ShardFile, pack: packed.Pack | None) -> FileStatistics:
        """Read one file's documents into the table. Raises ShardError, and then leaves none of them there."""
        text = quoted(file.text_column or "")
        column = f"{quoted(file.token_column)}::BIGINT" if file.token_column else "NULL::BIGINT"
        checked = tokens.sample_rows(file.identity, len(self.files), self.seed) if file.token_column else []
        drawn = ", ".join(map(str, checked)) or "-1"
        self.query(
            f"""CREATE OR REPLACE TEMP TABLE part AS
            SELECT {ROW} AS row, hash({text}) AS hash, strlen({text}) AS bytes, {column} AS tokens,
                   CASE WHEN {ROW} IN ({drawn}) AND strlen({text}) <= {tokens.LARGEST_CHECKED} THEN {text} END AS sample
            FROM {SCAN} WHERE {text} IS NOT NULL AND {text} <> ''""",
            file,
        )
        documents, size, known, lowest = self.query(
            "SELECT count(*), coalesce(sum(bytes), 0)::BIGINT, count(tokens), min(tokens) FROM part"
        )[0]
        counted, error, basis = self.tokens_of(file, pack, documents, size, known == documents and (lowest or 0) >= 0)
        unchanged(file.identity)
        total = self.query(f"SELECT coalesce(sum({counted}), 0) FROM part")[0][0]
        self.query(f"INSERT INTO documents SELECT {index}, row, hash, bytes, {counted} FROM part")
        self.variance += error**2
        margin = tokens.Z90 * error  # no token is shorter than a byte
        return FileStatistics(
            file=file.path,
            rows=file.rows,
            bytes=file.bytes,
            documents=documents,
            empty_rows=file.rows - documents,
            text_bytes=size,
            tokens=round(total),
            tokens_low=round(max(0.0, total - margin)),
            tokens_high=round(min(size, total + margin)),
            tokens_basis=basis,
        )

    def tokens_of(
        self, file: ShardFile, pack: packed.Pack | None, documents: int, size: int, complete: bool
    ) -> tuple[str, float, str]:
        """An SQL expression over ``part`` for a document's tokens, the standard error of its sum, and the basis."""
        pack = pack or self.cached_pack(file)
        if pack is not None and pack.documents == documents:
            self.put_tokens(pack.rows, np.diff(pack.offsets) - 1)  # less the separator
            return "tokens", 0.0, COUNTED
        if complete and self.column_confirmed():
            return "tokens", 0.0, COLUMN
        name, drawn = quoted(file.text_column or ""), tokens.draws(len(self.files))
        if size <= drawn * tokens.BLOCK:  # counting all is no more work than drawing
            found = self.query(f"SELECT {ROW}, {name} FROM {SCAN} WHERE {name} <> ''", file)
            counts = [tokens.count(self.encoder, text) for _, text in found]
            self.put_tokens(np.array([row for row, _ in found], np.int64), np.array(counts, np.int64))
            return "tokens", 0.0, COUNTED
        sizes = self.cursor.execute("SELECT row, bytes FROM part ORDER BY row").fetchnumpy()
        draw = tokens.draw_blocks(sizes["row"], sizes["bytes"], file.identity, len(self.files), self.seed)
        self.cursor.register("draw", pa.table({"row": draw.rows, "place": draw.places}))
        blocks = self.query(
            f"""SELECT substr({name}, 1 + {tokens.BLOCK} * (floor(place * length({name}) / {tokens.BLOCK})::BIGINT),
                              {tokens.BLOCK})
            FROM {SCAN} AS shard JOIN draw ON shard.{ROW} = draw.row ORDER BY row, place""",
            file,
        )
        self.cursor.unregister("draw")
        ratio, error = tokens.tokens_per_byte(self.encoder, [block for (block,) in blocks])
        self.blocks += len(blocks)
        return f"bytes * {ratio!r}::DOUBLE", error * size, ESTIMATED

    def column_confirmed(self) -> bool:
        rows = self.query("SELECT sample, tokens FROM part WHERE sample IS NOT NULL ORDER BY row")
        counted = [tokens.count(self.encoder, text) for text, _ in rows]
        agrees = tokens.column_agrees(counted, [column for _, column in rows])
        self.confirming += len(rows) if agrees else 0
        self.disagreeing += bool(rows) and not agrees
        return agrees

    def put_tokens(self, rows: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]) -> None:
        """Replace the column of ``part`` by counted tokens."""
        self.cursor.register("counted", pa.table({"row": np.asarray(rows), "tokens": counts}))
        self.query(
            "CREATE OR REPLACE TEMP TABLE part AS "
            "SELECT row, hash, bytes, counted.tokens FROM part JOIN counted USING (row)"
        )
        self.cursor.unregister("counted")

    def cached_pack(self, file: ShardFile) -> packed.Pack | None:
        try:
            folder = packed.pack_folder(file.identity, self.encoding, self.catalogue.column, self.cache)
            return packed.Pack.open(folder) if folder.exists() else None
        except ShardError:
            return None

    def totals(self) -> None:
        """Duplicates over all files, then the sums."""
        result, files = self.result, self.result.by_file
        if not files:
            return
        by_path = {entry.file: entry for entry in files}
        copies = self.query(
            """SELECT file, count(*) FILTER (copy > 1 AND copy_here = 1), count(*) FILTER (copy_here > 1),
                      coalesce(sum(tokens) FILTER (copy > 1), 0) FROM copies GROUP BY file"""
        )
        for entry in files:
            entry.unique_tokens = entry.tokens
        for index, elsewhere, here, mass in copies:
            entry = by_path[self.files[index].path]
            entry.copies_of_earlier_files, entry.exact_duplicate_rows = elsewhere, here
            entry.unique_tokens = entry.tokens - round(mass)
        result.files = len(files)
        for name in ("rows", "bytes", "documents", "empty_rows", "text_bytes", "tokens", "unique_tokens"):
            setattr(result, name, sum(getattr(entry, name) for entry in files))
        result.exact_duplicate_rows = sum(e.exact_duplicate_rows + e.copies_of_earlier_files for e in files)
        assert result.tokens is not None and result.unique_tokens is not None
        margin = tokens.Z90 * math.sqrt(self.variance)
        result.tokens_low = round(max(0.0, result.tokens - margin))
        result.tokens_high = round(min(result.text_bytes, result.tokens + margin))
        share = result.unique_tokens / result.tokens if result.tokens else 1.0
        result.effective_tokens_high = result.unique_tokens + round((result.tokens_high - result.tokens) * share)
        result.exact_duplicate_tokens = result.tokens - result.unique_tokens
        if result.worth is not None:
            self.put_worth(result.worth)
        bases = {entry.tokens_basis for entry in files}
        result.tokens_basis = bases.pop() if len(bases) == 1 else MIXED
        result.tokens_note = self.note()
        result.lengths = self.lengths()

    def put_worth(self, found: worths.Worth) -> None:
        result = self.result
        for name in ("near_duplicate_tokens", "boilerplate_tokens", "effective_tokens", "near_duplicate_rows",
                     "near_duplicate_rows_low", "near_duplicate_rows_high", "near_duplicate_tokens_low",
                     "near_duplicate_tokens_high", "boilerplate_tokens_low", "boilerplate_tokens_high"):  # fmt: skip
            setattr(result, name, getattr(found, name))
        result.effective_tokens_low, result.effective_tokens_high = found.low, found.high
        result.worth_basis = found.basis
        result.worth_note = (
            "every document compared" if found.basis == worths.EXACT else f"from {found.sampled:,} documents drawn"
        )
        by_path = {entry.file: entry for entry in result.by_file}
        for share in found.per_file:
            entry = by_path[share.file]
            for name in ("near_duplicate_rows", "near_duplicate_tokens", "boilerplate_tokens", "effective_tokens"):
                setattr(entry, name, getattr(share, name))
            entry.effective_tokens_low, entry.effective_tokens_high = share.effective_low, share.effective_high

    def note(self) -> str:
        """The basis in words."""
        files = self.result.by_file
        parts = []
        for basis, words in (
            (COUNTED, "every document counted"),
            (COLUMN, f"token_count column, which agrees with {self.confirming:,} documents counted"),
            (ESTIMATED, f"estimated from {self.blocks:,} blocks of text counted"),
        ):
            number = sum(entry.tokens_basis == basis for entry in files)
            if number:
                parts.append(words if number == len(files) else f"{number:,} files: {words}")
        if self.disagreeing:
            parts.append(f"token_count does not agree with the sample in {self.disagreeing:,} files and is not used")
        return "; ".join(parts)

    def lengths(self) -> Lengths | None:
        found = {
            exponent: (documents, mass)
            for exponent, documents, mass in self.query(
                "SELECT floor(log2(greatest(tokens, 1)))::INTEGER AS exponent, count(*), sum(tokens) "
                "FROM documents GROUP BY exponent"
            )
        }
        if not found:
            return None
        exponents = range(min(found), max(found) + 1)
        return Lengths(
            edges=tuple(2**e for e in range(min(found), max(found) + 2)),
            documents=tuple(found.get(e, (0, 0))[0] for e in exponents),
            tokens=tuple(round(found.get(e, (0, 0))[1]) for e in exponents),
        )

    def query(self, sql: str, file: ShardFile | None = None) -> list[Any]:
        """Run one statement; with ``file``, its one parameter is that file's path."""
        if self.cancelled is not None and self.cancelled():
            raise Cancelled
        with interruptible(self.cursor, self.cancelled):
            if file is not None:
                with reading(file.path):
                    return self.cursor.execute(sql, [escaped(file.path)]).fetchall()
            try:
                return self.cursor.execute(sql).fetchall()
            except duckdb.InterruptException:
                raise Cancelled from None
            except duckdb.Error as error:
                reason = str(error).splitlines()[0][:300]
                raise ShardError(f"statistics: {reason}; free memory or disk space, or choose fewer files") from None

    def tell(self, stage: str, fraction: float) -> None:
        if self.on_progress is not None:
            self.on_progress(stage, fraction)
