"""Keep-lists: which rows of each shard a deduplicated selection keeps. Recipes and training apply them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import numpy.typing as npt

from data.catalogue import ROW, SCAN, Catalogue, escaped, interruptible, quoted, reading
from data.files import ShardError, unchanged
from data.workers import Cancelled

MODES = ("none", "exact", "near")
Rows = npt.NDArray[np.int64]


def keep(
    catalogue: Catalogue,
    mode: str = "none",
    *,
    cache: Path | None = None,
    on_progress: Callable[[str, float], None] | None = None,
    on_error: Callable[[str, ShardError], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> dict[str, Rows]:
    """Rows kept, by file: int64 [kept], ascending. Files come in the catalogue's order.

    Args:
        mode: "none": every row with a text; "exact": the first of each text (by file, then row); "near": the first
            of each cluster of near duplicates (``near.clusters``), exact copies among them.
        cache: where sketches are kept for "near"; by default the user's cache.
        on_error: told of a file that cannot be read, which is then left out; without it the ShardError is raised.
        cancelled: asked several times a second; yes raises Cancelled.

    Rows with a null or empty text are never kept. Raises ShardError for an unknown mode.
    """
    if mode not in MODES:
        raise ShardError(f"deduplicate: {mode!r} is not known; use {', '.join(MODES)}")
    if mode == "near":
        from data.near import clusters

        found = clusters(catalogue, cache=cache, on_progress=on_progress, on_error=on_error, cancelled=cancelled)
        try:
            return found.kept()
        finally:
            found.close()
    cursor = catalogue.cursor()
    try:
        return _Pass(catalogue, cursor, on_progress, on_error, cancelled).run(mode == "exact")
    finally:
        cursor.close()


class _Pass:
    def __init__(
        self,
        catalogue: Catalogue,
        cursor: duckdb.DuckDBPyConnection,
        on_progress: Callable[[str, float], None] | None,
        on_error: Callable[[str, ShardError], None] | None,
        cancelled: Callable[[], bool] | None,
    ) -> None:
        self.catalogue, self.cursor = catalogue, cursor
        self.on_progress, self.on_error, self.cancelled = on_progress, on_error, cancelled

    def run(self, exact: bool) -> dict[str, Rows]:
        files = [file for file in self.catalogue.files if file.text_column is not None]
        self._query("CREATE TEMP TABLE texts (file INTEGER, row BIGINT, hash UBIGINT, bytes BIGINT)")
        read = {}
        for index, file in enumerate(files):
            if self.on_progress is not None:
                self.on_progress("reading documents", index / len(files))
            text = quoted(file.text_column or "")
            try:
                with reading(file.path):
                    self._query(
                        f"INSERT INTO texts SELECT {index}, {ROW}, hash({text}), strlen({text}) FROM {SCAN} "
                        f"WHERE {text} <> ''",
                        [escaped(file.path)],
                    )
                unchanged(file.identity)
            except ShardError as error:
                self._query(f"DELETE FROM texts WHERE file = {index}")
                if self.on_error is None:
                    raise
                self.on_error(file.path, error)
                continue
            read[index] = file.path
        if exact:
            # Few texts have copies: only those are ordered, so that memory does not follow the corpus.
            self._query(
                """CREATE TEMP TABLE dropped AS SELECT file, row FROM
                (SELECT file, row, row_number() OVER (PARTITION BY hash, bytes ORDER BY file, row) AS copy
                 FROM texts SEMI JOIN
                      (SELECT hash, bytes FROM texts GROUP BY hash, bytes HAVING count(*) > 1) USING (hash, bytes))
                WHERE copy > 1"""
            )
            self._query("CREATE TEMP TABLE kept AS SELECT file, row FROM texts ANTI JOIN dropped USING (file, row)")
        else:
            self._query("CREATE TEMP TABLE kept AS SELECT file, row FROM texts")
        kept = {}
        for index, path in read.items():
            self._query(f"SELECT row FROM kept WHERE file = {index} ORDER BY row")
            kept[path] = self.cursor.fetchnumpy()["row"].astype(np.int64)
        return kept

    def _query(self, sql: str, parameters: list[str] | None = None) -> None:
        if self.cancelled is not None and self.cancelled():
            raise Cancelled
        with interruptible(self.cursor, self.cancelled):
            try:
                self.cursor.execute(sql, parameters)
            except duckdb.InterruptException:
                raise Cancelled from None
