"""Lines that many documents repeat: navigation, licences, notices. What they take beyond their first appearance.

A line counts from ``shingles.LINE_BYTES`` bytes on; lines of the same words and length are one. It is boilerplate where
``DOCUMENTS`` or more of the documents *kept* (near duplicates counted once) hold it: a page in many versions is none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from data.catalogue import escaped, interruptible
from data.clusters import Clusters
from data.database import scratch
from data.files import ShardError
from data.shingles import hash_slice, slices
from data.workers import Cancelled

DOCUMENTS = 5
_LINES_AT_ONCE = 2_000_000  # the lines are counted in parts by their hash, so that memory does not follow the corpus
_MEMORY = "384MB"


@dataclass(frozen=True)
class RepeatedLine:
    """A line, by its hash: how many documents hold it, what it takes beyond the first, and the first's place."""

    hash: int
    documents: int
    wasted: float
    file: str
    row: int


@dataclass(frozen=True)
class Boilerplate:
    """``mass``: float64 [files], what repeated lines take in each file, in the clusters' weights; the ``lines`` that
    take most, the most first."""

    mass: npt.NDArray[np.float64]
    lines: list[RepeatedLine]


def boilerplate(
    found: Clusters,
    *,
    documents: int = DOCUMENTS,
    most: int = 200,
    on_progress: Callable[[str, float], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Boilerplate:
    """Count the lines of the documents kept. Each repeated line is charged to every file but the first's document."""
    mass = np.zeros(len(found.files))
    kept = np.flatnonzero(found.representative == np.arange(len(found)))
    if not len(kept):
        return Boilerplate(mass, [])
    file = np.searchsorted(found.base, kept, side="right") - 1
    parts = -(-_lines_in(found) // _LINES_AT_ONCE)
    lines: list[tuple[float, int, int, int]] = []
    try:
        with scratch(_MEMORY) as database:
            database.register("bases", pa.table({"filename": [s.path for s in found.made], "base": found.base[:-1]}))
            rate = found.weights[kept] / np.maximum(1, found.bytes[kept])
            database.register("kept", pa.table({"id": kept, "file": file, "rate": rate}))
            paths = [escaped(sketches.path) for sketches in found.made]
            for part in range(parts):
                if on_progress is not None:
                    on_progress("counting repeated lines", part / parts)
                if cancelled is not None and cancelled():
                    raise Cancelled
                with interruptible(database, cancelled):
                    _count(database, paths, part, parts, documents)
                    for index, taken in database.execute("SELECT file, sum(mass) FROM taken GROUP BY file").fetchall():
                        mass[index] += taken
                    lines += database.execute(
                        f"""SELECT sum(mass) AS wasted, hash, any_value(documents), any_value(first) FROM taken
                        GROUP BY hash ORDER BY wasted DESC, hash LIMIT {most}"""
                    ).fetchall()
    except duckdb.InterruptException:
        raise Cancelled from None
    except duckdb.Error as error:
        reason = str(error).splitlines()[0][:300]
        raise ShardError(f"repeated lines: {reason}; free disk space, or choose fewer files") from None
    lines.sort(key=lambda line: (-line[0], line[1]))
    top = [RepeatedLine(hash_, n, wasted, *found.place(first)) for wasted, hash_, n, first in lines[:most]]
    return Boilerplate(mass, top)


def holders(found: Clusters, line_hash: int, most: int = 500) -> list[tuple[str, int]]:
    """Places (file, row) of the documents kept that hold a line, the first ones. Raises ShardError."""
    kept = found.representative == np.arange(len(found))
    places: list[tuple[str, int]] = []
    try:
        with scratch(_MEMORY) as database:
            for index, sketches in enumerate(found.made):
                numbers = database.execute(
                    "SELECT file_row_number FROM read_parquet(?, file_row_number = true) "
                    "WHERE list_contains(lines, ?::UBIGINT) ORDER BY 1",
                    [escaped(sketches.path), line_hash],
                ).fetchnumpy()["file_row_number"]
                ids = np.asarray(numbers, np.int64) + found.base[index]
                places += [found.place(int(i)) for i in ids[kept[ids]][: most - len(places)]]
                if len(places) >= most:
                    break
    except duckdb.Error as error:
        raise ShardError(f"repeated lines: {str(error).splitlines()[0][:300]}; run it again") from None
    return places


def line_text(text: str, line_hash: int) -> str | None:
    """The line of a document that has this hash; None where it has no such line."""
    candidates = text.split("\n")
    for array, first, _ in slices(pa.array(candidates, pa.large_string())):
        hashes = hash_slice(array)
        where = np.flatnonzero(hashes.lines == np.uint64(line_hash))
        if len(where):
            return candidates[first + int(hashes.line_documents[where[0]])]
    return None


def _count(database: duckdb.DuckDBPyConnection, paths: list[str], part: int, parts: int, documents: int) -> None:
    """A table ``taken`` of what repeated lines take, one row a line and file."""
    database.execute(
        f"""CREATE OR REPLACE TEMP TABLE taken AS
        WITH lines AS MATERIALIZED (
            SELECT id, file, hash, bytes * rate AS mass FROM
            (SELECT base + file_row_number AS id, unnest(lines) AS hash, unnest(line_bytes) AS bytes
             FROM read_parquet(?, filename = true, file_row_number = true) JOIN bases USING (filename))
            JOIN kept USING (id) WHERE hash % {parts} = {part}),
        repeated AS (
            SELECT hash, min(id) AS first, count(DISTINCT id) AS documents FROM lines
            WHERE hash IN (SELECT hash FROM lines GROUP BY hash HAVING count(*) >= {documents})
            GROUP BY hash HAVING count(DISTINCT id) >= {documents})
        SELECT file, hash, any_value(documents) AS documents, any_value(first) AS first, sum(mass) AS mass
        FROM lines JOIN repeated USING (hash) WHERE id <> first GROUP BY file, hash""",
        [paths],
    )


def _lines_in(found: Clusters) -> int:
    total = 0
    for sketches in found.made:
        metadata = pq.read_metadata(sketches.path)
        column = metadata.schema.names.index("element")
        total += sum(metadata.row_group(g).column(column).num_values for g in range(metadata.num_row_groups))
    return max(1, total)
