"""Losses of documents: dropout off, always the same windows, one mean a document, with a standard error.

The documents stand one behind the other with their separators, as in training, and the stream is cut into windows of
``block_size``. Each token's loss is credited to its document, so that two evaluations of a run can be compared by
paired differences, document by document. The level is the mean over all tokens; documents, not tokens, are what was
sampled, so its standard error is that of a ratio of sums over documents (Cochran, Sampling Techniques, chapter 6).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from engine.corpus import Documents
from engine.model import IGNORE

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class EvalSet:
    """Fixed windows over some documents.

    Attributes:
        split: "heldout" or "seen".
        tokens, targets: int64 [windows, T]; the last window's rest is ``IGNORE``.
        owner: int64 [windows * T], the document of each target (0 where ignored).
        document_tokens: int64 [documents], targets of each document.
        hashes: uint64 [documents, 2], which documents these are.
        target_bytes: int64 [windows * T], UTF-8 bytes of each target, 0 for separators; None if not known.
    """

    split: str
    tokens: torch.Tensor
    targets: torch.Tensor
    owner: npt.NDArray[np.int64]
    document_tokens: npt.NDArray[np.int64]
    hashes: npt.NDArray[np.uint64]
    target_bytes: npt.NDArray[np.int64] | None


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What one evaluation found.

    Attributes:
        losses: float64 [documents], mean loss of each. loss: mean over all tokens, in nats.
        se: its standard error; NaN with a single document.
        bits_per_byte: of the text without separators; None if bytes are not known.
    """

    losses: Floats
    loss: float
    se: float
    bits_per_byte: float | None


def sample(unique: Documents, count: int, seed: int) -> Documents:
    """A fixed sample of distinct documents, at most ``count``, a function of seed and texts alone."""
    chosen = np.random.default_rng([seed, 0x5EE]).permutation(len(unique))[:count]
    return unique.take(np.sort(chosen))


def build(
    split: str, documents: Documents, *, block: int, cap: int, eot: int, byte_lengths: npt.NDArray[np.int64] | None
) -> EvalSet:
    """Windows over ``documents``, of each its first ``cap`` tokens.

    The stream begins with a separator, so that every first token is predicted from one. A document that was cut is
    followed by a separator too, which is no target.

    Args:
        byte_lengths: int64 [vocabulary], UTF-8 bytes of each token, 0 for separators.
    """
    pieces: list[npt.NDArray[Any]] = [np.array([eot])]
    counted: list[npt.NDArray[np.bool_]] = [np.array([False])]
    counts = np.minimum(documents.lengths, cap)
    for i, count in enumerate(counts):
        cut = count < documents.lengths[i]
        pieces += [documents.read(i, 0, int(count)), np.array([eot] if cut else [], np.int64)]
        counted.append(np.arange(count + cut) < count)
    stream, kept = np.concatenate(pieces).astype(np.int64), np.concatenate(counted)
    windows = max(1, math.ceil((len(stream) - 1) / block))
    tokens, targets = np.full(windows * block, eot), np.full(windows * block, IGNORE)
    tokens[: len(stream) - 1] = stream[:-1]
    targets[: len(stream) - 1] = np.where(kept[1:], stream[1:], IGNORE)
    owner = np.zeros(windows * block, np.int64)
    owner[targets != IGNORE] = np.repeat(np.arange(len(documents)), counts)
    return EvalSet(
        split=split,
        tokens=torch.from_numpy(tokens.reshape(windows, block)),
        targets=torch.from_numpy(targets.reshape(windows, block)),
        owner=owner,
        document_tokens=counts.astype(np.int64),
        hashes=documents.hashes,
        target_bytes=None if byte_lengths is None else np.where(targets == IGNORE, 0, byte_lengths[targets]),
    )


def evaluate(
    model: Callable[..., torch.Tensor],
    data: EvalSet,
    *,
    batch: int,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager[Any]],
    cancelled: Callable[[], bool] = lambda: False,
) -> Evaluation | None:
    """Losses of the model (in eval mode, called as ``GPT``) on all windows, ``batch`` of them at a time.

    ``cancelled`` is asked before each batch; yes ends the evaluation, which then is None.

    On an accelerator every batch has the full shape, which a compiled model wants, and the host waits only once.
    """
    parts = []
    with torch.no_grad(), autocast():
        for begin in range(0, len(data.tokens), batch):
            tokens, targets = data.tokens[begin : begin + batch], data.targets[begin : begin + batch]
            short = batch - len(tokens)
            if short and device.type != "cpu":
                tokens = torch.cat([tokens, tokens[:1].expand(short, -1)])
                targets = torch.cat([targets, torch.full_like(targets[:1], IGNORE).expand(short, -1)])
            if cancelled():
                return None
            found = model(tokens.to(device), targets.to(device), per_token=True)
            parts.append(found[: batch - short].flatten().clone())  # a graph writes its output in one place
    losses: Floats = torch.cat(parts).cpu().double().numpy()
    sums: Floats = np.bincount(data.owner, weights=losses, minlength=len(data.document_tokens)).astype(np.float64)
    loss, se = mean_and_error(sums, data.document_tokens)
    bits = None
    if data.target_bytes is not None and (total := int(data.target_bytes.sum())):
        bits = float(losses[data.target_bytes > 0].sum()) / math.log(2) / total
    return Evaluation(sums / np.maximum(data.document_tokens, 1), loss, se, bits)


def mean_and_error(sums: Floats, tokens: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Token-weighted mean of per-document sums, and its standard error over documents (NaN for fewer than two)."""
    total, count = int(tokens.sum()), len(tokens)
    mean = float(sums.sum()) / total
    if count < 2:
        return mean, math.nan
    residual = sums - mean * tokens
    return mean, math.sqrt(count / (count - 1) * float(residual @ residual)) / total


def write_set(folder: Path, data: EvalSet) -> None:
    """Which documents these are: ``<split>-tokens.npy`` int64 [documents], ``<split>-documents.npy`` their hashes."""
    _save(folder / f"{data.split}-tokens.npy", data.document_tokens)
    _save(folder / f"{data.split}-documents.npy", data.hashes)


def write_losses(folder: Path, split: str, step: int, result: Evaluation) -> None:
    """Mean loss of each document, float32 [documents], as ``<split>-<step>.npy``. Raises OSError."""
    _save(folder / f"{split}-{step:08d}.npy", result.losses.astype(np.float32))


def _save(path: Path, array: npt.NDArray[Any]) -> None:
    temporary = path.with_name(f".{path.name}")
    with temporary.open("wb") as file:
        np.save(file, array)
    temporary.replace(path)
