"""The order of training tokens, a pure function of seed and position. Torch-free.

In each epoch the documents come in a permutation of their own, each once, never with replacement, one behind the other
with their separators; epochs follow each other without a seam. Where shards are still being packed, the first epoch
comes in windows of shards: the shards in a seeded order, and the documents of a window's shards permuted among
themselves. A window or an epoch is a *segment* of the stream.

The stream is cut into sequences of ``block_size``, sequence i from token i * T on, its targets one token further.
The sequences of a segment are trained on in a second permutation: documents differ in length by orders of magnitude,
and a giant one would else fill whole batches, one step behind the other, with a single text. A sequence over a seam is
the earlier epoch's; where there are windows it is the later segment's, whose shards need not be there before.
Any position can be read without those before it, which is what makes a resume exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from engine.corpus import Documents, Ints


class Source(Protocol):
    """Documents that become known window by window (``engine.feed.Feed``)."""

    windows: int

    def window(self, number: int) -> Documents:
        """The documents of a window, once its shards are packed."""

    def whole(self) -> Documents:
        """All documents, once every shard is packed."""

    def ready(self, number: int) -> bool:
        """Whether ``window(number)``, or ``whole()`` for the number behind the last, answers at once."""


class Known:
    """Documents that are all known: a single window."""

    windows = 1

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    def window(self, number: int) -> Documents:
        """All documents."""
        return self._documents

    def whole(self) -> Documents:
        """All documents."""
        return self._documents

    def ready(self, number: int) -> bool:
        """Yes."""
        return True


@dataclass(frozen=True, eq=False)
class Segment:
    """A stretch of the stream that is shuffled in itself.

    Attributes:
        number: of the segment. begin, end: its first token in the stream, and the one behind its last.
        order: its documents as they come, int64 [n]. starts: where each begins in the segment, int64 [n + 1].
    """

    number: int
    documents: Documents
    begin: int
    end: int
    order: Ints
    starts: Ints


class TokenStream:
    """Endless stream of tokens over the epochs of some documents."""

    def __init__(self, documents: Documents | Source, seed: int) -> None:
        self.source: Source = Known(documents) if isinstance(documents, Documents) else documents
        self.seed = seed
        self._begins = {0: 0}  # of the windows known so far
        self._segments: dict[int, Segment] = {}
        self._shuffle: tuple[tuple[int, int], Ints] | None = None  # (segment, block) and its order of sequences

    @property
    def documents(self) -> Documents:
        """All documents of an epoch. Waits until they are known."""
        return self.source.whole()

    @property
    def epoch_tokens(self) -> int:
        """Tokens of an epoch. Waits until they are known."""
        return self._begin(self.source.windows)

    def epoch(self, position: int) -> float | None:
        """Passes over the documents after ``position`` tokens; None while their number is not known."""
        if not all(self.source.ready(number) for number in range(self.source.windows)):
            return None
        return position / self.epoch_tokens

    def covers(self, position: int) -> bool:
        """Whether the sequences before ``position`` tokens can be read without waiting."""
        number = 0
        while number < self.source.windows:
            if not self.source.ready(number):
                return False
            number += 1
            if position < self._begin(number):
                return True
        return self.source.ready(number)

    def order(self, number: int) -> tuple[Ints, Ints]:
        """Documents in the order of a segment, int64 [n], and where each begins in it, int64 [n + 1]."""
        m = self.source.windows
        documents = self.documents_of(number)
        key = [self.seed, number - m + 1] if m == 1 or number >= m else [self.seed, 0, 2, number]
        order = np.random.default_rng(key).permutation(len(documents))
        starts = np.zeros(len(order) + 1, np.int64)
        np.cumsum(documents.lengths[order], out=starts[1:])
        return order, starts

    def segment(self, number: int) -> Segment:
        """The windows of the first epoch are segments 0 … m - 1, epoch e is segment m - 1 + e. Waits for documents."""
        if number not in self._segments:
            order, starts = self.order(number)
            begin = self._begin(number)
            # Those next to it stay: a sequence may begin in one and end in the other.
            self._segments = {n: s for n, s in self._segments.items() if abs(n - number) == 1}
            end = begin + int(starts[-1])
            self._segments[number] = Segment(number, self.documents_of(number), begin, end, order, starts)
        return self._segments[number]

    def documents_of(self, number: int) -> Documents:
        """The documents of a segment. Waits for them."""
        whole = number >= self.source.windows
        return self.source.whole() if whole else self.source.window(number)

    def _begin(self, number: int) -> int:
        """First token of a segment. Waits for the windows before it."""
        m = self.source.windows
        for window in range(min(number, m)):
            if window + 1 not in self._begins:  # the loop and its loader both ask
                self._begins[window + 1] = self._begins[window] + self.source.window(window).total
        return self._begins[number] if number <= m else (number - m + 1) * self._begins[m]

    def _at(self, token: int) -> int:
        """The segment that a token of the stream belongs to."""
        m = self.source.windows
        for number in range(m):
            if token < self._begin(number + 1):
                return number
        return m - 1 + token // self.epoch_tokens

    def read(self, position: int, count: int) -> npt.NDArray[np.int64]:
        """Tokens [position, position + count) of the stream, int64 [count]."""
        out = np.empty(count, np.int64)
        done = 0
        while done < count:
            s = self.segment(self._at(position + done))
            offset = position + done - s.begin
            at = int(np.searchsorted(s.starts, offset, side="right")) - 1
            while done < count and at < len(s.order):
                begin = offset - int(s.starts[at])
                piece = s.documents.read(int(s.order[at]), begin, begin + count - done)
                out[done : done + len(piece)] = piece
                done += len(piece)
                offset += len(piece)
                at += 1
        return out

    def sequence(self, index: int, block: int) -> npt.NDArray[np.int64]:
        """Tokens of the ``index``-th sequence that is trained on, and the one behind it, int64 [block + 1]."""
        s = self.segment(self._at((index + self._late) * block))
        first = self.sequences(s, block)[0]
        return self.read((first + int(self.shuffled(s, block)[index - first])) * block, block + 1)

    @property
    def _late(self) -> int:
        """1 where a sequence belongs to the segment of its last target, 0 where to that of its first token."""
        return int(self.source.windows > 1)

    def sequences(self, s: Segment, block: int) -> tuple[int, int]:
        """The first sequence of a segment, and the one behind its last."""
        return max(0, -(-s.begin // block) - self._late), max(0, -(-s.end // block) - self._late)

    def shuffled(self, s: Segment, block: int) -> Ints:
        """The sequences of a segment in the order in which they are trained on, counted from its first."""
        if self._shuffle is None or self._shuffle[0] != (s.number, block):
            m, n = self.source.windows, s.number
            key = [self.seed, n - m + 1, 1] if m == 1 or n >= m else [self.seed, 0, 3, n]
            first, end = self.sequences(s, block)
            self._shuffle = (n, block), np.random.default_rng(key).permutation(end - first)
        return self._shuffle[1]

    def batch(self, position: int, batch: int, block: int) -> npt.NDArray[np.int64]:
        """Tokens and targets of the ``batch`` sequences that follow ``position`` trained tokens, int64 [2, B, T].

        ``position`` is a multiple of ``block``.
        """
        rows = np.stack([self.sequence(position // block + i, block) for i in range(batch)])
        return np.stack([rows[:, :-1], rows[:, 1:]])
