"""Sketches on a cluster, by Daft: its native runner uses this machine, its Ray runner a cluster (extra ``cluster``).

``sketch_on_daft`` runs our own stage, one task a shard, and fills the very cache that this machine's workers fill.
``minhash_on_daft`` has Daft's own MinHash (Rust) sketch a table of documents: another algorithm, whose files carry
another identity, so that the two are never mixed; only clusters are comparable, after verification. Call
``daft.set_runner_ray()`` before either to run on Ray. ``cache`` must be a folder that every node sees.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import daft
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from daft import DataType, col
from daft.functions import minhash

from data.files import FileIdentity, ShardError, identify
from data.packing import documents
from data.sketch import BAND_COLUMNS, BANDS, PERMUTATIONS, SCHEMA, SEED, band_keys, eight_bits, exact_hashes, fixed
from data.sketches import Sketches, find, sketch_shard, write

WORDS = 5
_FILES_AT_ONCE = 64  # whose sketches are brought together on the driver

OnError = Callable[[str, ShardError], None]


def sketch_on_daft(
    paths: Sequence[str], *, column: str = "text", cache: str, on_error: OnError | None = None
) -> list[Sketches]:
    """Sketches of shards as ``sketches.sketch_shards`` makes them, each in a task of Daft's; cached ones are found.

    Args:
        on_error: told of a shard that cannot be sketched, which is then left out; without it the error is raised.
    """

    @daft.func(return_dtype=DataType.string())
    def task(path: str) -> str:
        try:
            sketch_shard(path, column=column, cache=cache)
        except ShardError as error:
            return str(error)
        return ""

    frame = daft.from_pydict({"path": list(paths)}).into_partitions(max(1, len(paths)))
    answers = frame.with_column("error", task(col("path"))).to_pydict()
    errors = dict(zip(answers["path"], answers["error"], strict=True))
    return list(_found(paths, errors, lambda path: find(identify(path), column, cache), on_error))


def minhash_on_daft(
    paths: Sequence[str], *, column: str = "text", cache: str, on_error: OnError | None = None
) -> list[Sketches]:
    """Sketches by Daft's ``minhash``, over documents as a table (file, row, text), in the same schema; without lines.

    Args:
        on_error: as ``sketch_on_daft``'s.
    """
    errors: dict[str, str] = {}
    for begin in range(0, len(paths), _FILES_AT_ONCE):
        identities: dict[str, FileIdentity] = {}
        for path in paths[begin : begin + _FILES_AT_ONCE]:
            try:
                identity = identify(path)
                if find(identity, column, cache, daft_algorithm()) is None:
                    identities[path] = identity
            except ShardError as error:
                errors[path] = str(error)
        if identities:
            _minhash(identities, column, cache, errors)
    return list(_found(paths, errors, lambda path: find(identify(path), column, cache, daft_algorithm()), on_error))


def daft_algorithm() -> dict[str, Any]:
    """What decides the content of a sketch by Daft's ``minhash``."""
    return {
        "normaliser": "daft lower, runs of non-word characters to a blank, 1",
        "words": WORDS,
        "permutations": PERMUTATIONS,
        "bands": BANDS,
        "seed": SEED,
        "kernel": f"daft minhash xxhash3_64 {importlib.metadata.version('daft')}",
    }


def _minhash(identities: dict[str, FileIdentity], column: str, cache: str, errors: dict[str, str]) -> None:
    document = DataType.struct({"row": DataType.int64(), "text": DataType.string(), "error": DataType.string()})

    @daft.func(return_dtype=document)
    def read(path: str) -> Iterator[dict[str, Any]]:
        try:
            for first, texts in documents(path, column):
                for row, text in enumerate(texts.to_pylist(), first):
                    if text:
                        yield {"row": row, "text": text, "error": None}
        except ShardError as error:
            yield {"row": -1, "text": "", "error": str(error)}

    @daft.func.batch(return_dtype=DataType.binary())
    def exact(texts: daft.Series) -> daft.Series:
        halves = exact_hashes(texts.to_arrow().cast(pa.large_string()))
        joined = np.stack([half.to_numpy() for half in halves], axis=1)
        return daft.Series.from_arrow(pa.array([row.tobytes() for row in joined], pa.large_binary()))

    frame = daft.from_pydict({"path": list(identities)}).into_partitions(len(identities))
    frame = frame.select(col("path"), read(col("path")).alias("document"))
    frame = frame.select(col("path"), *(col("document").get(name).alias(name) for name in ("row", "text", "error")))
    words = col("text").lower().regexp_replace(r"[^\w]+", " ").lstrip().rstrip()
    frame = frame.with_column("words", words)
    table = frame.select(
        col("path"), col("row"), col("error"),
        exact(col("text")).alias("exact"),
        col("text").length_bytes().alias("bytes"),
        (col("words").length_bytes() - col("words").regexp_replace(" ", "").length_bytes()).alias("blanks"),
        minhash(col("words"), num_hashes=PERMUTATIONS, ngram_size=WORDS, seed=SEED, hash_function="xxhash3_64")
        .alias("minhash"),
    ).to_arrow()  # fmt: skip
    for path, identity in identities.items():
        mine = table.filter(pc.equal(table["path"], path)).sort_by("row")  # Daft keeps no order
        wrong = [error for error in mine["error"].to_pylist() if error]
        try:
            if wrong:
                raise ShardError(wrong[0])
            write(identity, column, cache, iter([_table(mine)]), daft_algorithm())
        except ShardError as error:
            errors[path] = str(error)


def _table(found: pa.Table) -> pa.Table:
    """Daft's columns in the cache's schema."""
    counts = np.maximum(0, found["blanks"].to_numpy().astype(np.int64) + 1 - (WORDS - 1))
    lists = found["minhash"].combine_chunks()
    signatures = np.asarray(lists.flatten().to_numpy(), np.uint32).reshape(len(found), PERMUTATIONS)
    exact = np.frombuffer(b"".join(found["exact"].to_pylist()), "<u8").reshape(-1, 2)
    empty = pa.array(np.zeros(len(found) + 1, np.int32))
    columns: list[Any] = [found["row"].combine_chunks(), *(pa.array(exact[:, i].copy()) for i in range(2))]
    columns += [pa.array(found["bytes"].to_numpy().astype(np.int64)), pa.array(counts)]
    columns += [pa.array(keys, mask=counts == 0) for keys in band_keys(signatures)]
    columns.append(fixed(eight_bits(signatures)))
    columns.append(pa.ListArray.from_arrays(empty, pa.array([], pa.uint64())))
    columns.append(pa.ListArray.from_arrays(empty, pa.array([], pa.int32())))
    assert len(columns) == len(SCHEMA) and len(BAND_COLUMNS) == BANDS
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def _found(
    paths: Sequence[str],
    errors: dict[str, str],
    look_up: Callable[[str], Sketches | None],
    on_error: OnError | None,
) -> Iterator[Sketches]:
    for path in paths:
        try:
            if errors.get(path):
                raise ShardError(errors[path])
            sketches = look_up(path)
            if sketches is None:
                raise ShardError(f"{path}: the file changed while it was being read; run it again")
            yield sketches
        except ShardError as error:
            if on_error is None:
                raise
            on_error(path, error)
