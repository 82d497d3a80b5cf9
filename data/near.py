"""Clusters of copies over any number of shards: exact ones, and near duplicates found by sketches and verified.

Two documents are near duplicates where their sets of word 5-grams have a Jaccard similarity of ``THRESHOLD`` or more;
clusters are what such pairs connect. Candidates share a band; DuckDB joins one band at a time, within a memory limit.
A candidate is compared with the first of its bucket by signature where that decides (three standard errors away), by
its shingles where not (``verify``). The first document of a cluster, by file and row, represents it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from data import packed
from data.catalogue import Catalogue, escaped, interruptible
from data.clusters import Clusters
from data.database import scratch
from data.files import ShardError
from data.sketch import BAND_COLUMNS, similarity
from data.sketches import Sketches, share_of, sketch_shards
from data.verify import THRESHOLD, ShingleSets
from data.workers import Cancelled

# Signature similarities beyond which no text is read: three standard errors from 0.8.
SURE, HOPELESS = THRESHOLD + 0.12, THRESHOLD - 0.14
_LEADERS = 16  # that a bucket's documents are compared with, one after the other, until one is near
_MEMORY = "256MB"
_BLOCK = 1 << 14  # pairs compared at once

I64 = npt.NDArray[np.int64]
Progress = Callable[[str, float], None]


def clusters(
    catalogue: Catalogue,
    *,
    cache: Path | None = None,
    workers: int | None = None,
    on_progress: Progress | None = None,
    on_error: Callable[[str, ShardError], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Clusters:
    """Sketch the catalogue's shards (in worker processes, resumed from the cache) and cluster their documents.

    Args:
        on_progress: stage and fraction done, in [0, 1].
        on_error: told of a file that cannot be answered for, which is then left out; without it the error is raised.
        cancelled: asked several times a second; yes raises Cancelled; sketches made by then stay in the cache.
    """
    files = [file for file in catalogue.files if file.text_column is not None]
    made = sketch_shards(
        [file.path for file in files],
        column=catalogue.column,
        cache=cache or packed.default_cache(),
        workers=workers,
        on_progress=share_of(sum(file.rows for file in files), "sketching", on_progress),
        on_error=on_error,
        cancelled=cancelled,
    )
    return join(made, column=catalogue.column, on_progress=on_progress, on_error=on_error, cancelled=cancelled)


def join(
    made: list[Sketches],
    *,
    column: str = "text",
    on_progress: Progress | None = None,
    on_error: Callable[[str, ShardError], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Clusters:
    """Cluster the documents of sketched shards; the sketches may come from anywhere, if one algorithm made them all.

    A shard whose text cannot be read again to verify a pair is told to ``on_error`` and its undecided pairs are taken
    for different.
    """
    found = Clusters(made)
    parent = found.exact.copy()
    undecided = _by_signature(found, parent, on_progress, cancelled)
    apart = undecided[parent[undecided[:, 0]] != parent[undecided[:, 1]]]
    if len(apart):
        with ShingleSets(
            found, np.unique(apart), column=column, on_progress=on_progress, on_error=on_error, cancelled=cancelled
        ) as sets:
            _by_shingles(sets, apart, parent, on_progress, cancelled)
    found.representative = parent
    return found


def connect(parent: I64, a: I64, b: I64) -> None:
    """Join what ``a[i]`` and ``b[i]`` belong to. ``parent`` [documents] holds each one's least member, before and
    after."""
    while True:
        low, high = np.minimum(parent[a], parent[b]), np.maximum(parent[a], parent[b])
        apart = low < high
        if not apart.any():
            return
        np.minimum.at(parent, high[apart], low[apart])
        while True:
            further = parent[parent]
            if np.array_equal(further, parent):
                break
            parent[:] = further


def _by_shingles(
    sets: ShingleSets, pairs: I64, parent: I64, on_progress: Progress | None, cancelled: Callable[[], bool] | None
) -> None:
    """Connect the pairs that are near: for each document one at a time, since most need no second."""
    total = len(pairs)
    while len(pairs):
        if on_progress is not None:
            on_progress("verifying near duplicates", 1 - len(pairs) / total)
        if cancelled is not None and cancelled():
            raise Cancelled
        _, now = np.unique(pairs[:, 1], return_index=True)
        now = now[:_BLOCK]
        near = np.array([sets.near(a, b) for a, b in pairs[now].tolist()])
        connect(parent, pairs[now[near], 0], pairs[now[near], 1])
        pairs = np.delete(pairs, now, axis=0)
        pairs = pairs[parent[pairs[:, 0]] != parent[pairs[:, 1]]]


def _by_signature(
    found: Clusters, parent: I64, on_progress: Progress | None, cancelled: Callable[[], bool] | None
) -> I64:
    """Connect in ``parent`` the pairs that signatures are sure of; return those they leave open: int64 [pairs, 2]."""
    undecided = [np.zeros((0, 2), np.int64)]
    if not found.made:  # no shard could be sketched: what there is to say was said to on_error
        return undecided[0]
    with scratch(_MEMORY) as database:
        database.register("bases", pa.table({"filename": [s.path for s in found.made], "base": found.base[:-1]}))
        database.register("copies", pa.table({"id": np.flatnonzero(found.exact_duplicates())}))
        for band, name in enumerate(BAND_COLUMNS):
            if on_progress is not None:
                on_progress("finding near duplicates", band / len(BAND_COLUMNS))
            ids, keys = _shared(database, name, found.made, cancelled)
            undecided.append(_compare(found, parent, ids, keys))
    return np.unique(np.concatenate(undecided), axis=0)


def _shared(
    database: duckdb.DuckDBPyConnection, band: str, made: list[Sketches], cancelled: Callable[[], bool] | None
) -> tuple[I64, npt.NDArray[np.uint64]]:
    """Documents that share a band's key with another, ordered by key, then document; exact copies left out."""
    if cancelled is not None and cancelled():
        raise Cancelled
    with interruptible(database, cancelled):
        try:
            columns = database.execute(
                f"""WITH band AS MATERIALIZED (
                    SELECT base + file_row_number AS id, {band} AS key
                    FROM read_parquet(?, filename = true, file_row_number = true) JOIN bases USING (filename)
                    WHERE {band} IS NOT NULL AND NOT (base + file_row_number IN (SELECT id FROM copies)))
                SELECT id, key FROM band SEMI JOIN (SELECT key FROM band GROUP BY key HAVING count(*) > 1) USING (key)
                ORDER BY key, id""",
                [[escaped(sketches.path) for sketches in made]],
            ).fetchnumpy()
        except duckdb.InterruptException:
            raise Cancelled from None
        except duckdb.Error as error:
            reason = str(error).splitlines()[0][:300]
            raise ShardError(f"near duplicates: {reason}; free disk space, or choose fewer files") from None
    return np.asarray(columns["id"], np.int64), np.asarray(columns["key"], np.uint64)


def _compare(found: Clusters, parent: I64, ids: I64, keys: npt.NDArray[np.uint64]) -> I64:
    """Compare each document with its bucket's first; those unlike it with the first among them, and so on."""
    undecided = [np.zeros((0, 2), np.int64)]
    left = np.arange(len(ids))
    for _ in range(_LEADERS):
        if not len(left):
            break
        new = np.concatenate(([True], keys[left][1:] != keys[left][:-1]))
        leaders = left[np.maximum.accumulate(np.where(new, np.arange(len(left)), 0))]
        apart = parent[ids[left]] != parent[ids[leaders]]
        left, leaders = left[apart], leaders[apart]
        alike = np.zeros(len(left))
        for at in range(0, len(left), _BLOCK):
            here = slice(at, at + _BLOCK)
            alike[here] = similarity(found.signatures[ids[left[here]]], found.signatures[ids[leaders[here]]], 1)
        sure, hopeless = alike >= SURE, alike < HOPELESS
        connect(parent, ids[left[sure]], ids[leaders[sure]])
        open_ = ~sure & ~hopeless
        undecided.append(np.stack((ids[leaders[open_]], ids[left[open_]]), axis=1))
        left = left[hopeless]
    return np.concatenate(undecided)
