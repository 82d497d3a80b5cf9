"""The data room, as ratios within one run on the corpus beside the checkout."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data.catalogue import Catalogue
from data.encoding import load
from data.packed import pack_shards
from data.statistics import statistics
from data.workers import cores

CORPUS = Path(__file__).resolve().parents[3] / "shared" / "corpus"


def main() -> None:
    """Print one line a measurement."""
    if not CORPUS.is_dir():
        print("needs the shared corpus beside the checkout")
        return
    paths = sorted(map(str, CORPUS.glob("*.parquet")))
    texts = [text for path in paths for text in pq.read_table(path, columns=["text"])["text"].to_pylist()]
    size = sum(len(text.encode()) for text in texts) / 1e6
    print(f"{cores()} cores, {size:.0f} MB of text")
    encoder = load()
    sample = texts[:: max(1, len(texts) // 2000)]
    sample_size = sum(len(text.encode()) for text in sample) / 1e6
    loop = sample_size / timed(lambda: [encoder.encode_ordinary(text) for text in sample])
    del texts
    with tempfile.TemporaryDirectory() as cache:
        packing = size / timed(lambda: list(pack_shards(paths, cache=cache)))
        reopened = timed(lambda: list(pack_shards(paths, cache=cache)))
        print(f"packing, parquet read and pack written: {packing:.1f} MB/s = {packing / loop:.2f}× one core's encode "
              f"loop ({loop:.1f} MB/s); from the cache, checksums verified: {reopened:.2f} s")  # fmt: skip
        with Catalogue([CORPUS]) as catalogue:
            taken = timed(lambda: statistics(catalogue, cache=Path(cache) / "none"))
        print(f"data stats, tokens confirmed, exact duplicates: {taken:.2f} s = {size / taken:.0f} MB/s of text")
        with Catalogue([CORPUS]) as catalogue:
            taken = timed(lambda: exact_duplicates(catalogue), repeat=3)
        print(f"exact duplicates alone: {size / taken:.0f} MB/s of text")
        pages(Path(cache))


def exact_duplicates(catalogue: Catalogue) -> Any:
    """Rows beyond the first, by hash and length, over all files."""
    return catalogue.cursor().execute(
        "SELECT count(*) - count(DISTINCT (hash(text), strlen(text))) FROM read_parquet(?)",
        [[file.path for file in catalogue.files]],
    ).fetchall()  # fmt: skip


def pages(folder: Path) -> None:
    """Opening many files, and any page of a long one."""
    many, long = folder / "many", folder / "long.parquet"
    many.mkdir()
    for index in range(100):
        pq.write_table(
            pa.table({"text": [f"document {index} {row}" for row in range(1000)]}), many / f"{index}.parquet"
        )
    pq.write_table(
        pa.table({"text": [f"document {row} " * 20 for row in range(1_000_000)]}), long, row_group_size=10_000
    )

    def first_page() -> None:
        with Catalogue([many]) as catalogue:
            catalogue.page(catalogue.files[0], 0, 50)

    print(f"first page of a folder of 100 files: {timed(first_page) * 1000:.0f} ms")
    with Catalogue([long]) as catalogue:
        rows = [random.Random(seed).randrange(1_000_000) for seed in range(20)]
        slowest = max(timed(lambda row=row: catalogue.page(catalogue.files[0], row, 50)) for row in rows)
    print(f"slowest of 20 random pages of a shard of 1,000,000 rows: {slowest * 1000:.0f} ms")


def timed(work: Callable[[], object], repeat: int = 1) -> float:
    """Seconds of the fastest run."""
    best = float("inf")
    for _ in range(repeat):
        begin = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - begin)
    return best
