"""The cache of sketches: one small parquet a shard, whole or absent, made in worker processes.

A file's name holds the shard's identity and the algorithm's, and a checksum of the file's own bytes: what was damaged,
or made from other bytes or by another algorithm, is not found, and made again. Merging is concatenation.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data import workers as processes
from data.files import FileIdentity, ShardError, absolute, identify, may_hold_giants, read_footer, unchanged
from data.packing import documents
from data.sketch import SCHEMA, algorithm, sketch
from data.unfinished import place, private, remove, sweep, writing

FORMAT = 1
SUFFIX = ".sketch.parquet"
_TEMPORARY = ".sketching-"
_GROUP_ROWS = 1 << 16
_COMPRESSION = dict.fromkeys(SCHEMA.names, "NONE") | {"line_bytes.list.element": "ZSTD", "row": "ZSTD"}


@dataclass(frozen=True)
class Sketches:
    """One shard's sketches, on disk.

    Attributes:
        path: the parquet file, in ``sketch.SCHEMA``, one row a document, in the shard's order.
        documents: its rows.
    """

    identity: FileIdentity
    path: str
    documents: int


def sketch_shard(
    path: str,
    *,
    column: str = "text",
    cache: str | Path,
    on_progress: Callable[[int, int], None] | None = None,
) -> Sketches:
    """A shard's sketches: from ``cache`` if they were made from these very bytes, else made now.

    Raises ShardError for a file that cannot be read to its end, that changes meanwhile, or has no such text column,
    and for a cache that cannot be written.
    """
    identity = identify(path)
    kept = find(identity, column, cache)
    if kept is not None:
        return kept

    def tables() -> Iterator[pa.Table]:
        done = 0
        for first, texts in documents(identity.path, column):
            yield sketch(np.arange(first, first + len(texts)), texts)
            done = first + len(texts)
            if on_progress is not None:
                on_progress(done, identity.rows)
        if done != identity.rows:
            raise ShardError(f"{path}: {done:,} rows of {identity.rows:,} could be read; download it again")

    return write(identity, column, cache, tables(), algorithm())


def sketch_shards(
    paths: Sequence[str],
    *,
    column: str = "text",
    cache: str | Path,
    workers: int | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
    on_error: Callable[[str, ShardError], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> list[Sketches]:
    """Sketches of many shards, in the order of ``paths``; what is not in ``cache`` is made in worker processes.

    Args:
        on_progress: called in this thread with path, rows done and the shard's rows.
        on_error: told of a shard that cannot be sketched, which is then left out; without it the error is raised.
        cancelled: asked several times a second; yes raises Cancelled. Shards done by then stay in the cache.
    """
    found: dict[int, Sketches | ShardError] = {}
    giant: set[int] = set()
    for index, path in enumerate(paths):
        try:
            identity, footer = read_footer(path)
            kept = find(identity, column, cache)
            if kept is not None:
                found[index] = kept
            elif may_hold_giants(footer, column):
                giant.add(index)
        except ShardError as error:
            found[index] = error
    missing = [index for index in range(len(paths)) if index not in found]

    def report(job: int, values: list[int]) -> None:
        if on_progress is not None:
            on_progress(paths[missing[job]], values[0], values[1])

    jobs = [{"path": absolute(paths[i]), "column": column, "cache": str(cache)} for i in missing]
    if jobs:
        count = min(workers or processes.cores(), len(jobs))
        alone = {job for job, index in enumerate(missing) if index in giant}
        for job, value in processes.run(
            "data.sketches:_job", jobs, workers=count, alone=alone, on_progress=report, cancelled=cancelled
        ):
            if not isinstance(value, ShardError):
                value = Sketches(FileIdentity(**value["identity"]), value["path"], value["documents"])
            found[missing[job]] = value
    result = []
    for index, path in enumerate(paths):
        value = found[index]
        if isinstance(value, Sketches):
            result.append(value)
        elif on_error is None:
            raise value
        else:
            on_error(path, value)
    return result


def share_of(
    rows: int, stage: str, on_progress: Callable[[str, float], None] | None
) -> Callable[[str, int, int], None]:
    """An ``on_progress`` of shards (path, rows done, its rows) that tells of the whole: ``stage``, share of rows."""
    done: dict[str, int] = {}

    def step(path: str, rows_done: int, _: int) -> None:
        done[path] = rows_done
        if on_progress is not None:
            on_progress(stage, sum(done.values()) / max(1, rows))

    return step


def find(
    identity: FileIdentity, column: str, cache: str | Path, made_by: dict[str, Any] | None = None
) -> Sketches | None:
    """A shard's sketches in the cache, checksum compared; None where there are none, or damaged ones (removed)."""
    stem = _stem(identity, column, made_by or algorithm())
    for path in sorted(_folder(cache).glob(f"{stem}.*{SUFFIX}")):
        stated = path.name.removesuffix(SUFFIX).rsplit(".", 1)[-1]
        try:
            if f"{_checksum(path):08x}" == stated:
                return Sketches(identity, str(path), pq.ParquetFile(path).metadata.num_rows)
        except (OSError, pa.ArrowException):
            pass
        with contextlib.suppress(OSError):
            path.unlink()
    return None


def write(
    identity: FileIdentity, column: str, cache: str | Path, tables: Iterator[pa.Table], made_by: dict[str, Any]
) -> Sketches:
    """Write a shard's sketches, renamed to their place once complete. Raises ShardError if the shard changed since
    ``identity`` was taken, or the cache cannot be written."""
    folder = _folder(cache)
    temporary = place(folder, _TEMPORARY)
    try:
        with _writing(folder):
            private(folder)
            sweep(folder, _TEMPORARY)
            writer = pq.ParquetWriter(temporary, SCHEMA, compression=_COMPRESSION, use_dictionary=False)
        try:
            waiting: list[pa.Table] = []
            count = 0
            for table in tables:
                waiting.append(table)
                count += len(table)
                if sum(len(t) for t in waiting) >= _GROUP_ROWS:
                    with _writing(folder):
                        writer.write_table(pa.concat_tables(waiting))
                    waiting = []
            with _writing(folder):
                if waiting:
                    writer.write_table(pa.concat_tables(waiting))
        finally:
            with _writing(folder):
                writer.close()
        unchanged(identity)
        with _writing(folder):
            path = folder / f"{_stem(identity, column, made_by)}.{_checksum(temporary):08x}{SUFFIX}"
            temporary.replace(path)
        return Sketches(identity, str(path), count)
    finally:
        remove(temporary)


def _job(path: str, column: str, cache: str, on_progress: Callable[[int, int], None]) -> dict[str, Any]:
    """``sketch_shard`` for a worker process."""
    pa.set_cpu_count(1)  # the workers share the cores
    made = sketch_shard(path, column=column, cache=cache, on_progress=on_progress)
    return {"identity": made.identity.to_dict(), "path": made.path, "documents": made.documents}


def _folder(cache: str | Path) -> Path:
    return Path(cache).expanduser().absolute() / "sketches"


def _stem(identity: FileIdentity, column: str, made_by: dict[str, Any]) -> str:
    key = json.dumps([FORMAT, identity.to_dict(), column, made_by], sort_keys=True)
    digest = hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=12).hexdigest()
    name = "".join(c if c.isalnum() or c in "-_" else "_" for c in Path(identity.path).stem[:60])
    return f"{name.encode('ascii', 'replace').decode().replace('?', '_')}-{digest}"


def _checksum(path: Path) -> int:
    value = 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            value = zlib.crc32(block, value)
    return value


def _writing(folder: Path) -> AbstractContextManager[None]:
    return writing(folder, "sketches", "set $GPTBENCH_CACHE to another folder")
