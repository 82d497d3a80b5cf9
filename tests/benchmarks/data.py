"""The data room, as ratios within one run on the corpus beside the checkout."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from data.catalogue import Catalogue
from data.encoding import load
from data.packed import pack_shards
from data.statistics import statistics
from data.workers import cores
from tests.benchmarks._bars import at_least

CORPUS = Path(__file__).resolve().parents[3] / "shared" / "corpus"


def main() -> None:
    """Print one line a measurement."""
    if not CORPUS.is_dir():
        print("needs the shared corpus beside the checkout")
        return
    paths, texts, size = corpus()
    print(f"{cores()} cores, {size:.0f} MB of text")
    encoder = load()
    sample = texts[:: max(1, len(texts) // 2000)]
    sample_size = sum(len(text.encode()) for text in sample) / 1e6

    def loop_speed() -> float:
        return sample_size / timed(lambda: [encoder.encode_ordinary(text) for text in sample])

    del texts
    before = loop_speed()
    with tempfile.TemporaryDirectory() as cache:
        packing = size / timed(lambda: list(pack_shards(paths, cache=cache)))
        loop = max(before, loop_speed())  # on both sides of it, since the machine may be busy
        reopened = timed(lambda: list(pack_shards(paths, cache=cache)))
        print(
            f"packing, parquet read and pack written: {packing:.1f} MB/s = {packing / loop:.2f}× one core's "
            f"encode_ordinary loop ({loop:.1f} MB/s) {at_least(packing / loop, 1.6, '×')}; "
            f"from the cache, checksums verified: {reopened:.2f} s"
        )
        with Catalogue([CORPUS]) as catalogue:
            taken = timed(lambda: statistics(catalogue, cache=Path(cache) / "none"))
        print(f"data stats, tokens confirmed, exact duplicates: {taken:.2f} s = {size / taken:.0f} MB/s of text")
        with Catalogue([CORPUS]) as catalogue:
            taken = timed(lambda: exact_duplicates(catalogue), repeat=3)
        print(f"exact duplicates: {size / taken:.0f} MB/s of text {at_least(size / taken, 500, ' MB/s')}")


def corpus() -> tuple[list[str], list[str], float]:
    """Paths of the corpus, its texts, and MB of these."""
    paths = sorted(map(str, CORPUS.glob("*.parquet")))
    texts = [text for path in paths for text in pq.read_table(path, columns=["text"])["text"].to_pylist()]
    return paths, texts, sum(len(text.encode()) for text in texts) / 1e6


def exact_duplicates(catalogue: Catalogue) -> Any:
    """Rows beyond the first, by hash and length, over all files."""
    return catalogue.cursor().execute(
        "SELECT count(*) - count(DISTINCT (hash(text), strlen(text))) FROM read_parquet(?)",
        [[file.path for file in catalogue.files]],
    ).fetchall()  # fmt: skip


def timed(work: Callable[[], object], repeat: int = 1) -> float:
    """Seconds of the fastest run."""
    best = float("inf")
    for _ in range(repeat):
        begin = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - begin)
    return best
