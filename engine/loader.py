"""The stream of training tokens, and its batches on the device.

The order is a pure function of seed and position: in each epoch the documents come in a permutation of their own,
each once, never with replacement, one behind the other with their separators; epochs follow each other without a seam.
The stream is cut into sequences of ``block_size``, sequence i from token i * T on, its targets one token further.
The sequences that begin in an epoch are trained on in a second permutation: documents differ in length by orders of
magnitude, and a giant one would else fill whole batches, one step behind the other, with a single text.
Any position can be read without those before it, which is what makes a resume exact.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.corpus import Documents, Ints


class TokenStream:
    """Endless stream of tokens over the epochs of some documents."""

    def __init__(self, documents: Documents, seed: int) -> None:
        self.documents = documents
        self.seed = seed
        self.epoch_tokens = documents.total
        self._orders: dict[int, tuple[Ints, Ints]] = {}
        self._shuffle: tuple[tuple[int, int], Ints] | None = None  # (epoch, block) and its order of sequences

    def epoch(self, position: int) -> float:
        """Passes over the documents after ``position`` tokens."""
        return position / self.epoch_tokens

    def order(self, epoch: int) -> tuple[Ints, Ints]:
        """Documents in the order of an epoch, int64 [n], and where each begins in it, int64 [n + 1]."""
        if epoch not in self._orders:
            order = np.random.default_rng([self.seed, epoch]).permutation(len(self.documents))
            starts = np.zeros(len(order) + 1, np.int64)
            np.cumsum(self.documents.lengths[order], out=starts[1:])
            self._orders = {e: o for e, o in self._orders.items() if e == epoch - 1}  # the seam needs two epochs
            self._orders[epoch] = order, starts
        return self._orders[epoch]

    def read(self, position: int, count: int) -> npt.NDArray[np.int64]:
        """Tokens [position, position + count) of the stream, int64 [count]."""
        out = np.empty(count, np.int64)
        done = 0
        while done < count:
            epoch, offset = divmod(position + done, self.epoch_tokens)
            order, starts = self.order(epoch)
            at = int(np.searchsorted(starts, offset, side="right")) - 1
            while done < count and at < len(order):
                begin = offset - int(starts[at])
                piece = self.documents.read(int(order[at]), begin, begin + count - done)
                out[done : done + len(piece)] = piece
                done += len(piece)
                offset += len(piece)
                at += 1
        return out

    def sequence(self, index: int, block: int) -> npt.NDArray[np.int64]:
        """Tokens of the ``index``-th sequence that is trained on, and the one behind it, int64 [block + 1]."""
        epoch = index * block // self.epoch_tokens
        first = -(-epoch * self.epoch_tokens // block)
        return self.read((first + int(self.shuffled(epoch, block)[index - first])) * block, block + 1)

    def shuffled(self, epoch: int, block: int) -> Ints:
        """The sequences that begin in an epoch in the order in which they are trained on, counted from its first."""
        if self._shuffle is None or self._shuffle[0] != (epoch, block):
            first, end = (-(-e * self.epoch_tokens // block) for e in (epoch, epoch + 1))
            order = np.random.default_rng([self.seed, epoch, 1]).permutation(end - first)
            self._shuffle = (epoch, block), order
        return self._shuffle[1]

    def batch(self, position: int, batch: int, block: int) -> npt.NDArray[np.int64]:
        """Tokens and targets of the ``batch`` sequences that follow ``position`` trained tokens, int64 [2, B, T].

        ``position`` is a multiple of ``block``.
        """
        rows = np.stack([self.sequence(position // block + i, block) for i in range(batch)])
        return np.stack([rows[:, :-1], rows[:, 1:]])


class Batches:
    """Micro-batches from a position on, read ahead in a thread. Close it, or use it as a context.

    From one to the next it goes ``stride`` tokens on (0: to the next micro-batch), past what other ranks read.

    Yields (tokens, targets), int64 [B, T] each, on the device. ``waited`` sums up the seconds that the caller spent
    waiting for data.
    """

    def __init__(
        self, stream: TokenStream, *, position: int, batch: int, block: int, device: torch.device, stride: int = 0,
        ahead: int = 4,
    ) -> None:  # fmt: skip
        self.waited = 0.0
        self._device = device
        self._pin = device.type == "cuda"
        self._queue: queue.Queue[Tensor | BaseException] = queue.Queue(ahead)
        self._closed = threading.Event()
        self._shape = batch, block
        self._thread = threading.Thread(
            target=self._fill, args=(stream, position, batch * block, stride), name="loader", daemon=True
        )
        self._thread.start()

    def _fill(self, stream: TokenStream, position: int, count: int, stride: int) -> None:
        try:
            while not self._closed.is_set():
                # One copy to the device for both; each half stays aligned, as compiled kernels want it.
                pair = torch.from_numpy(stream.batch(position, *self._shape))
                self._put(pair.pin_memory() if self._pin else pair)
                position += stride or count
        except BaseException as error:  # raised again where the batch is wanted
            self._put(error)

    def _put(self, item: Tensor | BaseException) -> None:
        while not self._closed.is_set():
            try:
                return self._queue.put(item, timeout=0.5)
            except queue.Full:
                continue

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self

    def __next__(self) -> tuple[Tensor, Tensor]:
        begin = time.perf_counter()
        item = self._queue.get()
        self.waited += time.perf_counter() - begin
        if isinstance(item, BaseException):
            raise item
        tokens, targets = item.to(self._device, non_blocking=self._pin)
        return tokens, targets

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
        while not self._queue.empty():
            self._queue.get_nowait()
        self._thread.join(timeout=5)

    def __enter__(self) -> Batches:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Any:
        self.close()
