"""Pairs whose signatures leave it open whether they are near duplicates: by their shingles, read again.

Worker processes read each shard once and leave the smallest ``KEPT`` shingle hashes of each document wanted on disk.
That is the whole set, and the similarity exact, for documents of up to ``KEPT`` different shingles; beyond, the
smallest hashes of the union are a fair sample of it (bottom-k, Broder 1997), with a standard error of 0.009 at 0.8.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from data import workers as processes
from data.clusters import Clusters
from data.files import ShardError, giants
from data.rows import chosen
from data.shingles import smallest_sets

THRESHOLD = 0.8
KEPT = 2048

I64 = npt.NDArray[np.int64]
U32 = npt.NDArray[np.uint32]


class ShingleSets:
    """The smallest shingle hashes of some documents, on disk (8 KiB a document at most), read as they are compared.

    Args:
        wanted: int64, documents of ``found``, ascending.
        on_error: told of a shard that cannot be read again, whose documents then are like none; without it, raised.
    """

    def __init__(
        self,
        found: Clusters,
        wanted: I64,
        *,
        column: str = "text",
        on_progress: Callable[[str, float], None] | None = None,
        on_error: Callable[[str, ShardError], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> None:
        self._wanted = wanted
        self._ends = np.full(len(wanted), -1, np.int64)  # in its shard's file; -1: not to be had
        self._begins = np.zeros(len(wanted), np.int64)
        self._shard = np.zeros(len(wanted), np.int32)
        self._files: list[BinaryIO] = []
        self._folder = tempfile.TemporaryDirectory(prefix="gptbench-shingles-")
        try:
            self._fill(found, column, on_progress, on_error, cancelled)
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def __enter__(self) -> ShingleSets:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files:
            file.close()
        self._folder.cleanup()

    def near(self, a: int, b: int) -> bool:
        """Whether two of the documents are near duplicates."""
        left, right = self._set(a), self._set(b)
        return left is not None and right is not None and jaccard(left, right) >= THRESHOLD

    def _set(self, document: int) -> U32 | None:
        at = int(np.searchsorted(self._wanted, document))
        begin, end = int(self._begins[at]), int(self._ends[at])
        if end < 0:
            return None
        file = self._files[self._shard[at]]
        file.seek(4 * begin)
        return np.frombuffer(file.read(4 * (end - begin)), "<u4")

    def _fill(
        self,
        found: Clusters,
        column: str,
        on_progress: Callable[[str, float], None] | None,
        on_error: Callable[[str, ShardError], None] | None,
        cancelled: Callable[[], bool] | None,
    ) -> None:
        jobs: list[dict[str, Any]] = []
        first: list[int] = []
        for index, sketches in enumerate(found.made):
            low, high = np.searchsorted(self._wanted, found.base[index : index + 2])
            if high > low:
                output = f"{self._folder.name}/{index}"
                np.save(output + ".npy", found.rows[self._wanted[low:high]])
                jobs.append({"path": sketches.identity.path, "identity": sketches.identity.to_dict(),
                             "column": column, "output": output})  # fmt: skip
                first.append(int(low))
        done: dict[int, float] = {}

        def step(job: int, values: list[int]) -> None:
            done[job] = values[0] / max(1, values[1])
            if on_progress is not None:
                on_progress("comparing near duplicates", sum(done.values()) / len(jobs))

        count = processes.cores()
        alone = {job for job, work in enumerate(jobs) if giants(work["path"], column)}
        for job, value in processes.run(
            "data.verify:smallest_shingles", jobs, workers=count, alone=alone, on_progress=step, cancelled=cancelled
        ):
            if isinstance(value, ShardError):
                if on_error is None:
                    raise value
                on_error(jobs[job]["path"], value)
                continue
            offsets = np.array(value, np.int64)
            here = slice(first[job], first[job] + len(offsets) - 1)
            self._begins[here], self._ends[here] = offsets[:-1], offsets[1:]
            self._shard[here] = len(self._files)
            self._files.append(Path(jobs[job]["output"] + ".sets").open("rb", buffering=0))  # noqa: SIM115 (closed in __exit__)


def jaccard(a: U32, b: U32) -> float:
    """Similarity of two sets of hashes, each its ``KEPT`` smallest, ascending."""
    both = np.concatenate((a, b))
    both.sort(kind="stable")  # two runs: merged
    again = np.flatnonzero(both[1:] == both[:-1])  # places of the first of each pair
    union = len(both) - len(again)
    if (len(a) < KEPT and len(b) < KEPT) or union <= KEPT:
        return len(again) / max(1, union)
    # Of the union's smallest: the pair at ``again[i]`` is its member number again[i] - i.
    return int((again - np.arange(len(again)) < KEPT).sum()) / KEPT


def smallest_shingles(
    path: str, identity: dict[str, Any], column: str, output: str, on_progress: Callable[[int, int], None]
) -> list[int]:
    """A worker's job: the smallest shingle hashes (their upper halves) of the rows in ``output``.npy, document after
    document, to ``output``.sets; returns their offsets."""
    offsets = [0]
    with Path(output + ".sets").open("wb") as file:
        for _, texts in chosen(path, identity, column, np.load(output + ".npy"), on_progress):
            for kept, lengths in smallest_sets(texts, KEPT):
                file.write(kept.tobytes())
                offsets += (offsets[-1] + np.cumsum(lengths)).tolist()
    return offsets
