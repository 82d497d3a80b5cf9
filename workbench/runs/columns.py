"""Tables of numbers that grow at their end: plain, or folded so that a run of any length fits into bounded memory."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterable
from typing import Self

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

MAX_ROWS = 1 << 17


class Columns:
    """Append-only table of floats, ordered by its first column; views are arrays of shape [rows]."""

    def __init__(self, fields: tuple[str, ...]) -> None:
        self.fields = fields
        self._index = {name: i for i, name in enumerate(fields)}
        self._data = np.empty((len(fields), 256), dtype=np.float64)
        self._rows = 0

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, name: str) -> FloatArray:
        """Column as a float64 view of shape [rows]; NaN where a row had no value."""
        return self._data[self._index[name], : self._rows]

    def append(self, row: Iterable[float]) -> None:
        """Add one row, its values in the order of ``fields``."""
        self._write(np.array(tuple(row), dtype=np.float64)[:, None])

    def extend(self, rows: FloatArray) -> None:
        """Add rows: float64 [fields, n], in ascending order of the first field and behind what is there."""
        self._write(rows)

    def cut_after(self, key: float) -> None:
        """Drop rows whose first column is above ``key``."""
        self._rows = int(np.searchsorted(self._data[0, : self._rows], key, side="right"))

    def last(self, name: str) -> float:
        """Newest value of a column, NaN if there is none."""
        return float(self._data[self._index[name], self._rows - 1]) if self._rows else math.nan

    def copy(self) -> Self:
        """A copy that another thread may read while the original grows."""
        copied = copy.copy(self)
        copied._data = self._data[:, : max(1, self._rows)].copy()
        return copied

    def _write(self, rows: FloatArray) -> None:
        end = self._rows + rows.shape[1]
        if end > self._data.shape[1]:
            grown = np.empty((len(self._data), max(end, self._room())), dtype=np.float64)
            grown[:, : self._rows] = self._data[:, : self._rows]
            self._data = grown
        self._data[:, self._rows : end] = rows
        self._rows = end

    def _room(self) -> int:
        return 2 * self._data.shape[1]


class Folded(Columns):
    """Columns of at most ``MAX_ROWS`` rows: when they are full, each two rows become one, and so on.

    Below ``MAX_ROWS`` nothing is lost. Above, a row stands for ``stride`` consecutive ones, all rows alike: those of
    ``means`` hold the mean of what was finite, all other fields the newest value. For each of ``extremes`` there are
    three columns more: ``<name>_min`` and ``<name>_max`` over the row's originals, and ``<name>_lost``, how many of
    them had no finite value.
    """

    def __init__(
        self, fields: tuple[str, ...], means: Iterable[str], extremes: tuple[str, ...], max_rows: int = MAX_ROWS
    ) -> None:
        more = tuple(f"{name}_{what}" for name in extremes for what in ("min", "max", "lost"))
        super().__init__(fields + more)
        self.stride = 1
        self._max_rows = max_rows
        self._given = len(fields)
        self._of = [self._index[name] for name in extremes]
        self._means = [self._index[name] for name in means]
        self._pending = np.empty((len(self.fields), 0), dtype=np.float64)  # fewer than stride rows

    def append(self, row: Iterable[float]) -> None:
        """Add one row, its values in the order of the fields given."""
        self.extend(np.array(tuple(row), dtype=np.float64)[:, None])

    def extend(self, rows: FloatArray) -> None:
        """Add rows: float64 [fields given, n], ascending and behind what is there."""
        full = np.empty((len(self.fields), rows.shape[1]), dtype=np.float64)
        full[: self._given] = rows
        for nth, of in enumerate(self._of):
            at = self._given + 3 * nth
            full[at] = full[at + 1] = rows[of]
            full[at + 2] = ~np.isfinite(rows[of])
        rest = np.concatenate([self._pending, full], axis=1) if self._pending.shape[1] else full
        while rest.shape[1] >= self.stride:
            groups = min(rest.shape[1] // self.stride, self._max_rows - self._rows)
            used = groups * self.stride
            self._write(self._reduced(rest[:, :used], self.stride))
            rest = rest[:, used:]
            if self._rows >= self._max_rows:
                self._data[:, : self._rows // 2] = self._reduced(self._data[:, : self._rows], 2)
                self._rows //= 2
                self.stride *= 2
        self._pending = rest.copy()

    def cut_after(self, key: float) -> None:
        """Drop rows whose first column is above ``key``; one that stands for steps on both sides goes as well."""
        super().cut_after(key)
        kept = int(np.searchsorted(self._pending[0], key, side="right"))
        self._pending = self._pending[:, :kept]

    def last(self, name: str) -> float:
        """Newest value of a column, NaN if there is none."""
        if self._pending.shape[1]:
            return float(self._pending[self._index[name], -1])
        return super().last(name)

    def _room(self) -> int:
        return min(super()._room(), self._max_rows)

    def _reduced(self, rows: FloatArray, size: int) -> FloatArray:
        if size == 1:
            return rows
        groups = rows.reshape(len(rows), -1, size)
        out: FloatArray = groups[:, :, -1].copy()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a group without any value is NaN
            finite = np.where(np.isfinite(groups[self._means]), groups[self._means], np.nan)
            out[self._means] = np.nanmean(finite, axis=2)
        for nth in range(len(self._of)):
            at = self._given + 3 * nth
            out[at] = np.fmin.reduce(groups[at], axis=1)
            out[at + 1] = np.fmax.reduce(groups[at + 1], axis=1)
            out[at + 2] = groups[at + 2].sum(axis=1)
        return out
