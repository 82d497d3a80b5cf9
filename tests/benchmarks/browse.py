"""Browsing, asking and choosing, as ratios within one run on the corpus beside the checkout."""

from __future__ import annotations

import random
import tempfile
import threading
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from data.catalogue import Catalogue
from data.choose import choose
from data.columns import CHARACTERS, TOKENS, column_statistics, histogram
from data.console import Console
from data.filters import parse
from data.query import Rows
from data.recipe import parse_text
from data.workers import Cancelled
from tests.benchmarks._bars import at_most
from tests.benchmarks.data import CORPUS, timed

FIRST_PAGE, ANY_PAGE = 0.5, 0.060  # seconds allowed


def main() -> None:
    """Print one line a measurement."""
    with tempfile.TemporaryDirectory() as folder:
        many_files(Path(folder) / "many")
        long_shard(Path(folder) / "long.parquet")
        if CORPUS.is_dir():
            corpus(Path(folder) / "cache")
        else:
            print("the rest needs the shared corpus beside the checkout")


def many_files(folder: Path) -> None:
    """First page of a folder of 100 files."""
    folder.mkdir()
    for index in range(100):
        texts = [f"document {index} {row} " * 30 for row in range(1000)]
        pq.write_table(
            pa.table({"text": texts, "score": [0.5] * 1000}), folder / f"{index}.parquet", compression="zstd"
        )

    def first_page() -> None:
        with Catalogue([folder]) as catalogue:
            assert len(Rows(catalogue, catalogue.files).page(0, 50).hits) == 50

    taken = timed(first_page, repeat=5)
    print(f"first page of a folder of 100 files: {taken:.3f} s {at_most(taken, FIRST_PAGE, ' s')}")


def long_shard(path: Path) -> None:
    """Pages of a shard of a million rows: as they lie, filtered, sorted; against an OFFSET query."""
    rows = 1_000_000
    draw = random.Random(0)
    table = pa.table(
        {"text": [f"document {row} " * 20 for row in range(rows)], "score": [draw.random() * 5 for _ in range(rows)]}
    )
    pq.write_table(table, path, row_group_size=10_000)
    with Catalogue([path]) as catalogue:
        places = [draw.randrange(rows) for _ in range(40)]
        plain = Rows(catalogue, catalogue.files)
        plain.page(0, 50)
        times = sorted(timed(lambda at=at: plain.page(at, 50)) for at in [*places, 0, rows - 50])
        cursor = catalogue.cursor()
        deep = timed(
            lambda: cursor.execute(
                "SELECT left(text, 400), score FROM read_parquet(?) LIMIT 50 OFFSET 900000", [str(path)]
            ).fetchall(),
            repeat=3,
        )
        print(
            f"any of 42 pages of a shard of {rows:,} rows: median {times[21] * 1000:.0f} ms, slowest "
            f"{times[-1] * 1000:.0f} ms {at_most(times[-1] * 1000, ANY_PAGE * 1000, ' ms')}; "
            f"OFFSET 900,000 takes {deep / times[21]:.1f}× the median"
        )
        filtered = Rows(catalogue, catalogue.files, parse("score > 4.9"))
        first = timed(lambda: filtered.page(0, 50))
        print(f"first page of a filter that 2% pass: {first * 1000:.0f} ms")
        ordered = Rows(catalogue, catalogue.files, sort="score", descending=True)
        made, there = timed(lambda: ordered.page(0, 50)), timed(lambda: ordered.page(500_000, 50), repeat=3)
        print(f"sorted by a column: {made:.2f} s for the order, then {there * 1000:.0f} ms a page")


def corpus(cache: Path) -> None:
    """Column statistics, histograms, the console's cancel, a recipe."""
    with Catalogue([CORPUS]) as catalogue:
        counts = timed(lambda: column_statistics(catalogue, "token_count"))
        text = timed(lambda: column_statistics(catalogue, "text"))
        tokens, characters = (timed(lambda m=m: histogram(catalogue, m)) for m in (TOKENS, CHARACTERS))
        print(f"column statistics of token_count {counts:.2f} s, of text {text:.2f} s; histogram of lengths in tokens "
              f"{tokens:.2f} s, in characters {characters:.2f} s")  # fmt: skip
        with Console(catalogue.files) as console:
            started = timed(lambda: console.run("SELECT 1"))
            counted = timed(lambda: console.run("SELECT dump, count(*) FROM docs GROUP BY ALL"), repeat=3)
            slowest = 0.0
            for sql in ("SELECT list(a.i ORDER BY hash(a.i)) FROM range(400000000) a(i)",
                        "SELECT count(*) FROM docs a, docs b WHERE a.text < b.text || 'x'"):  # fmt: skip
                asked: list[float] = []
                timer = threading.Timer(1.0, lambda asked=asked: (asked.append(time.perf_counter()), console.cancel()))
                timer.start()
                try:
                    console.run(sql)
                except Cancelled:
                    slowest = max(slowest, time.perf_counter() - asked[0])
            again = timed(lambda: console.run("SELECT 1"))
        print(f"console: {started:.2f} s to the first answer, {counted * 1000:.0f} ms a count, cancelled within "
              f"{slowest * 1000:.0f} ms, {again:.2f} s to the next answer")  # fmt: skip
        for text in ('deduplicate = "exact"\n[held_out]\napart = "exact"', 'deduplicate = "near"'):
            first = timed(lambda text=text: choose(parse_text(text), catalogue, cache=cache))
            again = timed(lambda text=text: choose(parse_text(text), catalogue, cache=cache))
            print(f"recipe {text.splitlines()[0]}: {first:.1f} s, again from the cache {again:.1f} s")
