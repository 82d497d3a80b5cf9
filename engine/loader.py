"""Micro-batches on the device, read ahead of the loop in a thread."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from engine.order import TokenStream


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
