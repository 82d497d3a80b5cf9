"""Which documents are trained on and which are held out, over all packs of a run. Torch-free.

The split is by content: every exact copy of a document falls on the same side, and which side depends on nothing but
the texts themselves, so that neither the order of shards nor a copy more or less moves a document across.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from data.packed import Pack

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Documents:
    """Some documents of some packs.

    Attributes:
        packs: where they lie. tokens: their token arrays as plain arrays (slicing a memmap is slow).
        pack: int64 [n], index into ``packs``. index: int64 [n], the document's index in its pack.
        begin: int64 [n], first token in its pack. lengths: int64 [n], tokens with the separator.
        hashes: uint64 [n, 2], of the text.
    """

    packs: tuple[Pack, ...]
    tokens: tuple[npt.NDArray[Any], ...]
    pack: Ints
    index: Ints
    begin: Ints
    lengths: Ints
    hashes: npt.NDArray[np.uint64]

    @classmethod
    def of(cls, packs: Sequence[Pack]) -> Documents:
        """All documents of the packs, in their order."""
        counts = [p.documents for p in packs]
        offsets = [np.asarray(p.offsets) for p in packs]
        return cls(
            packs=tuple(packs),
            tokens=tuple(np.asarray(p.tokens) for p in packs),
            pack=np.repeat(np.arange(len(packs)), counts),
            index=_concatenate([np.arange(n) for n in counts]),
            begin=_concatenate([o[:-1] for o in offsets]),
            lengths=_concatenate([np.diff(o) for o in offsets]),
            hashes=np.concatenate([np.asarray(p.hashes) for p in packs] or [np.zeros((0, 2), np.uint64)]),
        )

    def __len__(self) -> int:
        return len(self.pack)

    @property
    def total(self) -> int:
        """Tokens of all documents, separators included."""
        return int(self.lengths.sum())

    def take(self, which: npt.NDArray[Any]) -> Documents:
        """Some of the documents, by index or mask."""
        return Documents(
            self.packs, self.tokens, self.pack[which], self.index[which], self.begin[which], self.lengths[which],
            self.hashes[which],
        )  # fmt: skip

    def first(self, count: int) -> Documents:
        """The first ``count`` documents, or all."""
        return self.take(np.arange(min(count, len(self))))

    def read(self, document: int, begin: int = 0, end: int | None = None) -> npt.NDArray[Any]:
        """Tokens [begin, end) of one document, a view of uint16 or uint32; the last one of all is the separator."""
        length = int(self.lengths[document])
        start = int(self.begin[document])
        return self.tokens[self.pack[document]][start + begin : start + min(length, length if end is None else end)]


@dataclass(frozen=True, eq=False)
class Split:
    """Training and held-out documents.

    Attributes:
        train, held_out: copies included. unique, held_out_unique: exact copies once, ordered by hash.
        leaked: held-out documents of which an exact copy is trained on (0 by construction without ``val_paths``).
    """

    train: Documents
    held_out: Documents
    unique: Documents
    held_out_unique: Documents
    leaked: int


def split(documents: Documents, held_out: Documents | None = None, fraction: float = 0.01) -> Split:
    """Split off held-out documents: those given, else the ``max(1, ceil(fraction * unique))`` with the smallest hashes.

    Raises:
        ValueError: nothing is left to train on, or nothing held out.
    """
    if held_out is None:
        order, group = _groups(documents.hashes)
        unique = int(group[-1]) + 1 if len(group) else 0
        held = group < max(1, math.ceil(fraction * unique))
        # Back in the order of packs, so that neighbours on disk stay neighbours.
        train, held_out, leaked = documents.take(np.sort(order[~held])), documents.take(np.sort(order[held])), 0
    else:
        order, group = _groups(np.concatenate([documents.hashes, held_out.hashes]))
        trained = np.zeros(len(group), bool)
        trained[group[order < len(documents)]] = True
        train, leaked = documents, int(trained[group[order >= len(documents)]].sum())
    if not len(train):
        raise ValueError("no document is left to train on")
    if not len(held_out):
        raise ValueError("no document is held out")
    return Split(train, held_out, unique_documents(train), unique_documents(held_out), leaked)


def without(documents: Documents, hashes: npt.NDArray[np.uint64]) -> Documents:
    """The documents whose text is none of those, uint64 [m, 2]."""
    if not len(hashes):
        return documents
    out = {(int(a), int(b)) for a, b in hashes}
    near = np.flatnonzero(np.isin(documents.hashes[:, 0], hashes[:, 0]))
    same = [i for i in near if (int(documents.hashes[i, 0]), int(documents.hashes[i, 1])) in out]
    keep = np.ones(len(documents), bool)
    keep[same] = False
    return documents.take(keep)


def positions(documents: Documents, some: Documents) -> Ints:
    """Where ``some`` documents stand among all of them (which come in the order of their packs): int64 [len(some)]."""
    number = {pack.folder: i for i, pack in enumerate(documents.packs)}
    pack = np.array([number.get(pack.folder, -1) for pack in some.packs], np.int64)[some.pack]
    width = int(documents.index.max(initial=0)) + 1
    return np.searchsorted(documents.pack * width + documents.index, pack * width + some.index).astype(np.int64)


def unique_documents(documents: Documents) -> Documents:
    """The first of each exact text, ordered by hash: an order that does not depend on where the copies lie."""
    order, group = _groups(documents.hashes)
    first = np.ones(len(group), bool)
    first[1:] = group[1:] != group[:-1]
    return documents.take(order[first])


def _groups(hashes: npt.NDArray[np.uint64]) -> tuple[Ints, Ints]:
    """Order that sorts hashes (stable), and in that order the number of each one's group of equals, from 0."""
    order = np.lexsort((hashes[:, 1], hashes[:, 0]))
    ordered = hashes[order]
    new = np.zeros(len(order), np.int64)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    return order, np.cumsum(new)


def _concatenate(parts: list[npt.NDArray[Any]]) -> Ints:
    return np.concatenate([np.zeros(0, np.int64), *parts]).astype(np.int64, copy=False)
