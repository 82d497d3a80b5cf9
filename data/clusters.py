"""Clusters of copies as they are looked at: which are the largest, duplicate of what, how alike."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from data.sketch import PERMUTATIONS, similarity
from data.sketches import Sketches

I64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Cluster:
    """Copies of one document. ``id`` is its representative's number; ``wasted`` is what the others weigh, in tokens
    where those are known (``Clusters.weigh``), else in bytes."""

    id: int
    documents: int
    exact_copies: int
    wasted: float
    file: str
    row: int


@dataclass(frozen=True)
class Member:
    """A document of a cluster, the representative first: ``similarity`` to it (Jaccard, as signatures tell it; 1 for
    an exact copy), and whether it is an exact copy of a member before it."""

    id: int
    file: str
    row: int
    bytes: int
    similarity: float
    exact: bool


class Clusters:
    """Every document of some sketched shards, numbered by file and row, and what it is a copy of.

    Attributes:
        files: paths, in order. ``base``: int64 [files + 1], each file's first document.
        rows, bytes: int64 [documents], row in the file, UTF-8 bytes of the text.
        exact: int64 [documents], the first document of the same text (itself where it is the first).
        representative: int64 [documents], the first document of its cluster.
        weights: float64 [documents], bytes until ``weigh`` says tokens.
        signatures: uint8 [documents, 112], on disk.
    """

    def __init__(self, made: Sequence[Sketches]) -> None:
        self.made = list(made)
        self.files = [sketches.identity.path for sketches in made]
        self.base: I64 = np.concatenate(([0], np.cumsum([s.documents for s in made]))).astype(np.int64)
        total = int(self.base[-1])
        self.rows: I64 = np.zeros(total, np.int64)
        self.bytes: I64 = np.zeros(total, np.int64)
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the object)
        self.signatures: npt.NDArray[np.uint8] = (
            np.memmap(self._file, np.uint8, "w+", shape=(total, PERMUTATIONS))
            if total
            else np.zeros((0, PERMUTATIONS), np.uint8)
        )
        hashes = np.zeros((total, 2), np.uint64)
        for at, batch in self._batches(["row", "bytes", "exact_0", "exact_1", "signature"]):
            here = slice(at, at + len(batch))
            self.rows[here] = batch.column("row").to_numpy()
            self.bytes[here] = batch.column("bytes").to_numpy()
            hashes[here, 0] = batch.column("exact_0").to_numpy()
            hashes[here, 1] = batch.column("exact_1").to_numpy()
            column = batch.column("signature")
            raw = np.frombuffer(column.buffers()[1], np.uint8).reshape(-1, PERMUTATIONS)
            self.signatures[here] = raw[column.offset : column.offset + len(column)]
        self.exact = _first_of_same(hashes)
        self.representative = self.exact
        self.weights: npt.NDArray[np.float64] = self.bytes.astype(np.float64)

    def close(self) -> None:
        """Give back the temporary file."""
        self.signatures = np.zeros((0, PERMUTATIONS), np.uint8)
        self._file.close()

    def __len__(self) -> int:
        return len(self.rows)

    def place(self, document: int) -> tuple[str, int]:
        """A document's file and row."""
        file = int(np.searchsorted(self.base, document, side="right")) - 1
        return self.files[file], int(self.rows[document])

    def find(self, file: str, row: int) -> int | None:
        """The document at a row; None where that row has no text, or the file is not among these."""
        if file not in self.files:
            return None
        index = self.files.index(file)
        begin, end = int(self.base[index]), int(self.base[index + 1])
        at = begin + int(np.searchsorted(self.rows[begin:end], row))
        return at if at < end and self.rows[at] == row else None

    def weigh(self, tokens: npt.NDArray[np.float64]) -> None:
        """Take each document's tokens, float64 [documents], for its weight."""
        if len(tokens) != len(self):
            raise ValueError(f"{len(tokens)} weights for {len(self)} documents")
        self.weights = tokens

    def exact_duplicates(self) -> npt.NDArray[np.bool_]:
        """Documents whose text was there before: bool [documents]."""
        return self.exact != np.arange(len(self))

    def near_duplicates(self) -> npt.NDArray[np.bool_]:
        """Documents that are no exact copies, and not the first of their cluster: bool [documents]."""
        return (self.representative != np.arange(len(self))) & ~self.exact_duplicates()

    def largest(self, limit: int | None = None) -> list[Cluster]:
        """The clusters of more than one document, by what they waste, the most first."""
        ids, inverse, sizes = np.unique(self.representative, return_inverse=True, return_counts=True)
        mass = np.bincount(inverse, self.weights, len(ids)) - self.weights[ids]
        copies = np.bincount(inverse, self.exact_duplicates(), len(ids))
        several = np.flatnonzero(sizes > 1)
        order = several[np.argsort(-mass[several], kind="stable")][:limit]
        return [
            Cluster(int(ids[i]), int(sizes[i]), int(copies[i]), float(mass[i]), *self.place(int(ids[i]))) for i in order
        ]

    def members(self, cluster: int, limit: int | None = None) -> list[Member]:
        """The documents of a cluster (its id, or any member's number), the representative first."""
        first = int(self.representative[cluster])
        ids = np.flatnonzero(self.representative == first)[:limit]
        alike = similarity(self.signatures[ids], self.signatures[np.full(len(ids), first)])
        copies = self.exact_duplicates()
        return [
            Member(
                id=int(i),
                file=self.place(int(i))[0],
                row=int(self.rows[i]),
                bytes=int(self.bytes[i]),
                similarity=1.0 if self.exact[i] == first else float(s),
                exact=bool(copies[i]),
            )
            for i, s in zip(ids, alike, strict=True)
        ]

    def _batches(self, columns: list[str]) -> Iterator[tuple[int, pa.RecordBatch]]:
        for sketches, base in zip(self.made, self.base[:-1].tolist(), strict=True):
            at = base
            with pq.ParquetFile(sketches.path) as file:
                for batch in file.iter_batches(1 << 16, columns=columns, use_threads=False):
                    yield at, batch
                    at += len(batch)


def _first_of_same(hashes: npt.NDArray[np.uint64]) -> I64:
    """The index of the first row equal to each row: int64 [rows]."""
    order = np.lexsort((hashes[:, 1], hashes[:, 0]))  # stable
    ordered = hashes[order]
    new = np.ones(len(order), bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    first = np.zeros(len(order), np.int64)
    first[order] = order[np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))]
    return first
