"""The sample that near duplicates are estimated from: documents drawn by a content key that copies tend to share.

A document's key is the smallest hash among its *anchors*: windows of 16 bytes in its first 8 KiB that begin where the
bytes say so. Two documents have the same key with probability s, the Jaccard similarity of their anchors (Broder
1997), whatever their cluster. All keys are taken first, at little cost beside reading. Then a hash of the key says
which documents are drawn, all of one key together, and likelier where several share one; only these are sketched.
Lines are sampled by their own hash, all appearances of one together.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data.rows import chosen
from data.shingles import LINE_BYTES
from data.sketch import SCHEMA, sketch

HEAD_BYTES = 8192
_WINDOW = 16
_EVERY = 32  # bytes to an anchor, about
_ALONE = 0.2
_FAMILY_KEYS = 4  # that documents of one family share: copies often do, pages of one template hardly

SAMPLE = pa.schema(
    [
        *SCHEMA,
        pa.field("anchors", pa.list_(pa.uint64())),
    ]
)
LINES = pa.schema([("line", pa.uint64()), ("family", pa.uint64()), ("document", pa.int64()), ("bytes", pa.int32())])

U64 = npt.NDArray[np.uint64]
F64 = npt.NDArray[np.float64]

_TABLES = [bytes(row) for row in np.random.Generator(np.random.PCG64(3)).integers(0, 256, (3, 256), np.uint8)]
_LETTERS = bytes(int(chr(b).isalnum() or b >= 128) for b in range(256))
_M1, _M2, _M3 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93), np.uint64(0xC2B2AE3D27D4EB4F)
_S32 = np.uint64(32)


@dataclass(frozen=True)
class Chances:
    """The probability with which each document is drawn, float64 [documents]: ``drawn`` as it is, one for all
    documents of a key; ``alone`` as it were if the document had a key of its own."""

    drawn: F64
    alone: F64


def chances(key: U64, sizes: npt.NDArray[np.int64], budget: float) -> Chances:
    """Chances by which the documents drawn have ``budget`` bytes in expectation.

    They grow with the root of the bytes of a key's documents, which keeps the variance small where few are long or
    many share a key, and are ``_ALONE`` times as high for a document whose key is its own: it is hardly a duplicate.
    """
    _, group, count = np.unique(key, return_inverse=True, return_counts=True)
    alone = np.sqrt(sizes.astype(np.float64)) * _ALONE
    shared = np.sqrt(np.bincount(group, sizes, len(count)))[group]
    root = np.where(count[group] > 1, shared, alone)
    if float(sizes.sum()) <= budget:
        return Chances(np.ones(len(key)), np.ones(len(key)))
    low, high = 0.0, 1.0
    while (sizes * np.minimum(1.0, high * root)).sum() < budget:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if (sizes * np.minimum(1.0, middle * root)).sum() < budget else (low, middle)
    return Chances(np.minimum(1.0, high * root), np.minimum(1.0, high * alone))


def keys(texts: pa.LargeStringArray, rows: npt.NDArray[np.int64], seed: int) -> tuple[U64, U64, npt.NDArray[np.int64]]:
    """(key of each document, all their anchors, offsets of each document's among these)."""
    heads = pc.binary_slice(texts.cast(pa.large_binary()), 0, HEAD_BYTES)
    ends = np.frombuffer(heads.buffers()[1], np.int64)[heads.offset : heads.offset + len(heads) + 1]
    raw = heads.buffers()[2].to_pybytes()[ends[0] : ends[-1]] + bytes(2 * _WINDOW)
    ends = ends - ends[0]
    a, b, c = (np.frombuffer(raw.translate(table), np.uint8) for table in _TABLES)
    at = np.flatnonzero(((a[:-2] ^ b[1:-1] ^ c[2:]) & np.uint8(_EVERY - 1)) == 0)
    owner = np.searchsorted(ends, at, side="right") - 1
    inside = (owner < len(texts)) & (at + _WINDOW <= ends[np.minimum(owner + 1, len(texts))])
    at, owner = at[inside], owner[inside]
    anchors = _spread(_window(raw, at), seed)
    offsets = np.searchsorted(owner, np.arange(len(texts) + 1))
    found = _spread(rows.astype(np.uint64) * _M3 + ends[1:].astype(np.uint64), seed + 1)  # of those without an anchor
    return smallest(anchors, offsets, found), anchors, offsets


def smallest(values: U64, offsets: npt.NDArray[np.int64], otherwise: U64) -> U64:
    """The least of ``values[offsets[i]:offsets[i + 1]]`` for each i; ``otherwise[i]`` where there are none."""
    found = otherwise.copy()
    some = np.flatnonzero(np.diff(offsets))
    if len(some):
        found[some] = np.minimum.reduceat(values, offsets[:-1][some])
    return found


def draws(found: U64, seed: int) -> F64:
    """u of each key, uniform in [0, 1)."""
    return _spread(found, seed + 2).astype(np.float64) / 2.0**64


def lines(
    texts: pa.LargeStringArray, families: U64, numbers: npt.NDArray[np.int64], share: float, seed: int
) -> pa.Table:
    """The lines that count, sampled by hash: ``LINES``. A line's hash: its ends, places between, its length.

    ``families``: a number that copies of a document mostly share; ``numbers``: one of its own.
    """
    size = int(pc.sum(pc.binary_length(texts)).as_py() or 0)
    ends = np.frombuffer(texts.buffers()[1], np.int64)[texts.offset : texts.offset + len(texts) + 1]
    raw = bytes(memoryview(texts.buffers()[2] or b"")[ends[0] : ends[-1]]) if size else b""
    ends = ends - ends[0]
    breaks = np.sort(np.concatenate((np.flatnonzero(np.frombuffer(raw, np.uint8) == 10), ends[1:])), kind="stable")
    begins = np.concatenate(([0], breaks[:-1]))
    begins = begins + (np.frombuffer(raw + b"\0", np.uint8)[begins] == 10)
    long = breaks - begins >= LINE_BYTES
    begins, breaks = begins[long], breaks[long]
    worded = np.zeros(len(begins), bool)  # rulers of tables have no words
    letters = np.frombuffer(raw.translate(_LETTERS), np.bool_)
    for at in (begins, begins + (breaks - begins) // 2 - 4, breaks - 8):
        worded |= letters[at[:, None] + np.arange(8)].any(axis=1)
    begins, breaks = begins[worded], breaks[worded]
    length = breaks - begins
    found = _window(raw, begins) * _M1 + _window(raw, breaks - _WINDOW) * _M2
    for quarter in (1, 2, 3):
        found += _window(raw, begins + length * quarter // 4 - _WINDOW // 2) * np.uint64(2 * quarter + 1)
    found += length.astype(np.uint64)
    found = _spread(found, seed + 3)
    chosen = found < np.uint64(min(1.0, share) * (2.0**64 - 2**12))
    owner = np.searchsorted(ends, begins[chosen], side="right") - 1
    columns = [found[chosen], families[owner], numbers[owner], length[chosen].astype(np.int32)]
    return pa.table(columns, schema=LINES)


def _window(raw: bytes, at: npt.NDArray[np.int64]) -> U64:
    """A hash of the ``_WINDOW`` bytes from each place on."""
    if not len(at):
        return np.zeros(0, np.uint64)
    eight = np.ndarray((len(raw) - 7,), "<u8", raw, strides=(1,))
    found: U64 = eight[at] * _M1
    found ^= found >> _S32
    found += eight[at + 8]
    found *= _M2
    return found


def _spread(values: U64, seed: int) -> U64:
    found: U64 = (values + np.uint64(seed * int(_M3) % (1 << 64))) * _M1
    for _ in range(2):
        found ^= found >> _S32
        found *= _M2
    found ^= found >> _S32
    return found


def look(
    path: str,
    identity: dict[str, Any],
    column: str,
    rows: str,
    line_share: float,
    seed: int,
    number: int,
    output: str,
    on_progress: Callable[[int, int], None],
) -> None:
    """A worker's job: a shard's keys to ``output``.keys.npy and its lines to ``output``.lines.

    Args:
        rows: a file of the rows that are looked at (first copies), int64; ``number``: added to a row, the document's
            number among all.
    """
    found = [np.zeros(0, np.uint64)]
    with pq.ParquetWriter(output + ".lines", LINES, compression="NONE", use_dictionary=False) as line_file:
        for here, texts in chosen(path, identity, column, np.load(rows), on_progress):
            key, anchors, offsets = keys(texts, here, seed)
            found.append(key)
            family = key.copy()
            for salt in range(_FAMILY_KEYS - 1):
                family = _spread(family ^ smallest(_spread(anchors, seed + 4 + salt), offsets, key), 0)
            line_file.write_table(lines(texts, family, here + number, line_share, seed))
    np.save(output + ".keys.npy", np.concatenate(found))


def draw(
    path: str,
    identity: dict[str, Any],
    column: str,
    rows: str,
    seed: int,
    output: str,
    on_progress: Callable[[int, int], None],
) -> int:
    """A worker's job: sketches and anchors of the rows drawn to ``output``.sample; returns how many."""
    drawn = 0
    with pq.ParquetWriter(output + ".sample", SAMPLE, compression="NONE", use_dictionary=False) as sample:
        for here, texts in chosen(path, identity, column, np.load(rows), on_progress):
            _, anchors, offsets = keys(texts, here, seed)
            kept = [np.unique(anchors[a:b]) for a, b in itertools.pairwise(offsets.tolist())]
            ends = np.concatenate(([0], np.cumsum([len(k) for k in kept])))
            sets = pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(np.concatenate(kept)))
            sample.write_table(sketch(here, texts).append_column(SAMPLE.field("anchors"), sets))
            drawn += len(here)
    return drawn
