"""Sketches: what is kept of a document so that its copies are found without its text.

MinHash (Broder 1997) over word 5-grams, 112 permutations in 14 bands of 8 (FineWeb's parameters, Penedo et al. 2024):
two documents of Jaccard similarity s share a band with probability 1 - (1 - s^8)^14, 92% at 0.8. The kernel is rensa's.
One function over a table of documents: ``sketch``. A shard's worker and a cluster's run the same.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import struct
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from rensa import RMinHash

from data import shingles
from data.packing import utf8

PERMUTATIONS, BANDS, SEED = 112, 14, 42
ROWS_A_BAND = PERMUTATIONS // BANDS
BAND_COLUMNS = tuple(f"band_{index:02d}" for index in range(BANDS))

SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64(), False),  # in the shard, from 0
        pa.field("exact_0", pa.uint64(), False),  # BLAKE2b-128 of the text's UTF-8, little-endian, as packs have it
        pa.field("exact_1", pa.uint64(), False),
        pa.field("bytes", pa.int64(), False),  # of the text's UTF-8
        pa.field("shingles", pa.int64(), False),  # repeated ones too; 0: shorter than one, and not in any band
        *(pa.field(name, pa.uint64()) for name in BAND_COLUMNS),  # null where there is no shingle
        pa.field("signature", pa.binary(PERMUTATIONS), False),  # 8 bits of each permutation's minimum
        pa.field("lines", pa.list_(pa.uint64()), False),  # hashes of the lines that count
        pa.field("line_bytes", pa.list_(pa.int32()), False),
    ]
)

_PACK = struct.Struct(f"<{PERMUTATIONS}I")
_EMPTY = 0xFFFFFFFF
_ODD = np.random.Generator(np.random.PCG64(112)).integers(1 << 63, 1 << 64, ROWS_A_BAND + 1, np.uint64) | np.uint64(1)


def algorithm() -> dict[str, Any]:
    """What decides a sketch's content beside the text. Sketches of different algorithms are never compared."""
    return {
        "normaliser": shingles.NORMALISER,
        "words": shingles.WORDS,
        "line_bytes": shingles.LINE_BYTES,
        "permutations": PERMUTATIONS,
        "bands": BANDS,
        "seed": SEED,
        "kernel": f"rensa {importlib.metadata.version('rensa')}",
    }


def sketch(rows: npt.NDArray[np.int64], texts: pa.LargeStringArray) -> pa.Table:
    """Sketches of documents: ``SCHEMA``, one row a document, in order.

    Args:
        rows: int64 [documents], their rows in the shard.
        texts: the documents; a null or empty text is none, and is left out.
    """
    present = np.asarray(pa.compute.greater(pa.compute.binary_length(texts), 0).fill_null(False))
    if not present.all():
        rows, texts = rows[present], texts.filter(pa.array(present))
    signatures = np.full((len(texts), PERMUTATIONS), _EMPTY, np.uint32)
    counts = np.zeros(len(texts), np.int64)
    lines: list[shingles.Hashes] = []
    for array, first, _ in shingles.slices(texts):
        found = shingles.hash_slice(array)
        here = slice(first, first + len(array))
        np.minimum(signatures[here], _signatures(found), out=signatures[here])
        counts[here] += np.diff(found.offsets)
        found.line_documents[:] += first
        lines.append(found)
    none = counts == 0
    columns: list[Any] = [pa.array(rows, pa.int64()), *exact_hashes(texts)]
    columns += [pa.compute.cast(pa.compute.binary_length(texts), pa.int64()), pa.array(counts)]
    columns += [pa.array(keys, mask=none) for keys in band_keys(signatures)]
    columns.append(fixed(eight_bits(signatures)))
    columns += _line_columns(lines, len(texts))
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def band_keys(signatures: npt.NDArray[np.uint32]) -> list[npt.NDArray[np.uint64]]:
    """Each band's key for each signature [documents, 112]: ``BANDS`` arrays, uint64 [documents]."""
    banded = signatures.reshape(-1, BANDS, ROWS_A_BAND)
    found = []
    for band in range(BANDS):
        key = np.full(len(signatures), band, np.uint64)
        for place in range(ROWS_A_BAND):
            key = (key ^ banded[:, band, place]) * _ODD[place]
            key ^= key >> np.uint64(29)
        found.append(key)
    return found


def similarity(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8], bands_shared: int = 0) -> npt.NDArray[np.float64]:
    """Jaccard similarity as eight-bit signatures [pairs, 112] tell it (Li & König 2010): float64 [pairs].

    Its standard error is sqrt(s (1 - s) / 112), 0.04 at 0.8. ``bands_shared``: bands that chose the pair, and thus
    say nothing about it.
    """
    chosen = bands_shared * ROWS_A_BAND
    same = ((a == b).sum(axis=1) - chosen) / (PERMUTATIONS - chosen)
    return np.clip((same - 1 / 256) / (1 - 1 / 256), 0.0, 1.0)


def _signatures(found: shingles.Hashes) -> npt.NDArray[np.uint32]:
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(
        found.shingles, found.offsets.astype(np.uint64), num_perm=PERMUTATIONS, seed=SEED
    )
    packed = b"".join([_PACK.pack(*row) for row in matrix.to_rows()])
    return np.frombuffer(packed, "<u4").reshape(-1, PERMUTATIONS)


def eight_bits(signatures: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint8]:
    """What is kept of signatures [documents, 112]: eight bits each."""
    return ((signatures * np.uint32(0x9E3779B1)) >> np.uint32(24)).astype(np.uint8)


def fixed(values: npt.NDArray[np.uint8]) -> pa.Array:
    """The rows of an array [documents, 112] as binary values."""
    return pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(PERMUTATIONS), len(values), [None, pa.py_buffer(np.ascontiguousarray(values))]
    )


def exact_hashes(texts: pa.LargeStringArray) -> list[pa.Array]:
    """BLAKE2b-128 of each text, as two columns of uint64."""
    digests = [hashlib.blake2b(raw, digest_size=16).digest() for raw in utf8(texts)]
    halves = np.frombuffer(b"".join(digests), "<u8").reshape(-1, 2)
    return [pa.array(np.ascontiguousarray(halves[:, index])) for index in range(2)]


def _line_columns(found: list[shingles.Hashes], documents: int) -> list[pa.Array]:
    owners = np.concatenate([f.line_documents for f in found]) if found else np.zeros(0, np.int64)
    offsets = pa.array(np.searchsorted(owners, np.arange(documents + 1)), pa.int32())
    hashes = np.concatenate([f.lines for f in found]) if found else np.zeros(0, np.uint64)
    sizes = np.concatenate([f.line_bytes for f in found]) if found else np.zeros(0, np.int64)
    return [
        pa.ListArray.from_arrays(offsets, pa.array(hashes)),
        pa.ListArray.from_arrays(offsets, pa.array(np.minimum(sizes, (1 << 31) - 1).astype(np.int32))),
    ]
