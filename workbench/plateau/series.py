"""The curves that a diagnosis reads: held-out, seen and training loss, and losses document by document."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.bounded import read_array
from workbench.runs.history import Columns, FloatArray, History

MAX_POINTS = 20_000  # of the training loss; more are averaged in blocks


@dataclass(frozen=True)
class Curve:
    """A loss over steps: ``step`` and ``loss`` of shape [points], finite, in order of step; ``se`` may hold NaN."""

    step: FloatArray
    loss: FloatArray
    se: FloatArray

    def __len__(self) -> int:
        return len(self.step)

    def between(self, first: float, last: float) -> Curve:
        """The part with ``first <= step <= last``."""
        keep = (self.step >= first) & (self.step <= last)
        return Curve(self.step[keep], self.loss[keep], self.se[keep])

    def level(self, first: float, last: float) -> float:
        """Mean loss between two steps, NaN if there is no point."""
        part = self.between(first, last)
        return float(part.loss.mean()) if len(part) else float("nan")


def take(columns: Columns, *names: str) -> list[FloatArray]:
    """Columns of one length, copied: another thread may be appending to them."""
    rows = len(columns)
    return [columns[name][:rows].copy() for name in names]


def evaluations(columns: Columns) -> Curve:
    """Evaluations as a curve; those that are not finite are left out."""
    step, loss, se = take(columns, "step", "loss", "se")
    keep = np.isfinite(loss)
    return Curve(step[keep], loss[keep], se[keep])


def training(history: History) -> Curve:
    """The loss as trained, at most ``MAX_POINTS`` of it."""
    step, loss = take(history.steps, "step", "loss")
    keep = np.isfinite(loss)
    step, loss = step[keep], loss[keep]
    size = -(-len(step) // MAX_POINTS)
    if size > 1:
        step, loss = blocks(step, size), blocks(loss, size)
    return Curve(step, loss, np.full(len(step), np.nan))


def blocks(values: FloatArray, size: int) -> FloatArray:
    """Means of consecutive blocks; the last, shorter one is kept."""
    whole = len(values) // size * size
    means = values[:whole].reshape(-1, size).mean(axis=1)
    return np.append(means, values[whole:].mean()) if whole < len(values) else means


class Documents:
    """Per-document losses of a split of a native run, read as needed; of an imported run there are none."""

    def __init__(self, run_dir: Path | None, split: str) -> None:
        self._folder = None if run_dir is None else run_dir / "evals"
        self._split = split
        self._losses: dict[int, NDArray[np.float64] | None] = {}
        self._weights: NDArray[np.float64] | None = None
        if self._folder is not None:
            weights = _load(self._folder / f"{split}-tokens.npy")
            if weights is not None and len(weights) and bool(np.all(weights >= 0)) and weights.sum() > 0:
                self._weights = weights

    @property
    def weights(self) -> NDArray[np.float64] | None:
        """Tokens of each document, float64 [documents]; None where there are no per-document losses."""
        return self._weights

    def losses(self, step: float) -> NDArray[np.float64] | None:
        """Mean loss per document after ``step``, float64 [documents], or None."""
        if self._folder is None or self._weights is None:
            return None
        key = int(step)
        if key not in self._losses:
            loaded = _load(self._folder / f"{self._split}-{key:08d}.npy")
            fits = loaded is not None and loaded.shape == self._weights.shape and bool(np.isfinite(loaded).all())
            self._losses[key] = loaded if fits else None
        return self._losses[key]

    def change(self, first: float, last: float) -> tuple[float, float] | None:
        """Change of the mean loss between two evaluations and its standard error over documents, paired; or None."""
        before, after = self.losses(first), self.losses(last)
        if before is None or after is None:
            return None
        return weighted_mean(after - before, self._weights)

    def slope(self, steps: FloatArray) -> tuple[float, float] | None:
        """Least-squares slope of the mean loss over ln(step), and its standard error over documents; or None."""
        if len(steps) < 3:
            return None
        rows = [self.losses(s) for s in steps]
        kept = [(x, r) for x, r in zip(np.log(steps), rows, strict=True) if r is not None]
        if len(kept) < 3:
            return None
        x = np.array([k[0] for k in kept])
        centred = x - x.mean()
        per_document = centred @ np.stack([k[1] for k in kept]) / (centred @ centred)
        return weighted_mean(per_document, self._weights)


def weighted_mean(values: NDArray[np.float64], weights: NDArray[np.float64] | None) -> tuple[float, float]:
    """Token-weighted mean over documents and its standard error (ratio estimator; documents are what is sampled)."""
    w = np.ones_like(values) if weights is None else weights
    total = float(w.sum())
    mean = float(w @ values) / total
    n = len(values)
    if n < 2:
        return mean, float("inf")
    spread = float(np.sqrt(((w * (values - mean)) ** 2).sum() * n / (n - 1)))
    return mean, spread / total


def _load(path: Path) -> NDArray[np.float64] | None:
    try:
        loaded = read_array(path)
    except (OSError, ValueError):
        return None
    if not isinstance(loaded, np.ndarray) or loaded.ndim != 1 or loaded.dtype.kind not in "fiu":
        return None
    return loaded.astype(np.float64)
