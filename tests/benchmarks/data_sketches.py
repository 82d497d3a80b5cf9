"""Near-duplicate sketches: speed as ratios within one run, recall and precision on planted pairs, memory by size."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from rensa import RMinHash

from data.near import join
from data.sketches import sketch_shards
from data.workers import cores
from tests.benchmarks._bars import at_least, at_most
from tests.benchmarks.data import CORPUS, corpus, timed
from tests.data.planted import edited

ROUNDS = 3  # each ratio is of the best of so many, taken in turns, since the machine may be busy
PAIRS = 2000
COPIES = (1, 5, 20)


def main() -> None:
    """Print one line a measurement; about five minutes, most of them for memory by size."""
    if not CORPUS.is_dir():
        print("needs the shared corpus beside the checkout")
        return
    paths, texts, size = corpus()
    speed(paths, texts, size)
    with tempfile.TemporaryDirectory() as folder:
        accuracy(texts, Path(folder))
    with tempfile.TemporaryDirectory() as folder:
        memory(paths, Path(folder))


def speed(paths: list[str], texts: list[str], size: float) -> None:
    """Sketches of the corpus against plain loops over a sample of it."""
    sample = texts[::40]
    sample_size = sum(len(text.encode()) for text in sample) / 1e6
    ours, rensa, datasketch = [], [], []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as cache:
            ours.append(size / timed(lambda cache=cache: sketch_shards(paths, cache=cache)))
        rensa.append(sample_size / timed(lambda: rensa_loop(sample)))
        datasketch.append(sample_size / timed(lambda: datasketch_loop(sample[::4])) / 4)
    us, them, others = max(ours), max(rensa), max(datasketch)
    print(
        f"sketches of {size:.0f} MB of text, {cores()} processes started, parquet read and cache written: "
        f"{us:.0f} MB/s = {us / them:.1f}× one core's rensa loop over Python 5-grams ({them:.1f} MB/s) "
        f"{at_least(us / them, 4, '×')}, {us / others:.0f}× datasketch's ({others:.1f} MB/s) "
        f"{at_least(us / others, 10, '×')}; load {os.getloadavg()[0]:.1f}"
    )


def grams(text: str) -> Iterator[str]:
    """Word 5-grams as Python strings."""
    words = re.findall(r"\w+", text.lower())
    return (" ".join(words[i : i + 5]) for i in range(len(words) - 4))


def rensa_loop(texts: list[str]) -> None:
    """The plain way with rensa."""
    for text in texts:
        sketch = RMinHash(num_perm=112, seed=42)
        sketch.update(list(grams(text)))
        sketch.digest()


def datasketch_loop(texts: list[str]) -> None:
    """The plain way with datasketch."""
    from datasketch import MinHash

    for text in texts:
        MinHash(num_perm=112, seed=42).update_batch([gram.encode() for gram in grams(text)])


def accuracy(texts: list[str], folder: Path) -> None:
    """Pairs planted with a similarity uniform in [0.8, 1], as many in [0.5, 0.8), among the corpus's documents."""
    generator = random.Random(8)
    chosen = generator.sample([text for text in texts if 1500 < len(text) < 8000], 2 * PAIRS // 2)
    planted, similarity = [], []
    for index, text in enumerate(chosen):
        low, high = ((0.8, 1.0), (0.5, 0.8))[index % 2]
        # A page's own versions are in the corpus; a word of its own for each keeps the pair apart from these.
        own = re.sub(r"(\w+)(\W+\w+\W+\w+)", rf"\1q{index}\2", text)
        copy, alike = edited(generator, own, generator.uniform(low, high))
        planted += [own, copy]
        similarity.append(alike)
    pq.write_table(pa.table({"text": planted}), folder / "planted.parquet")
    found = join(sketch_shards([str(folder / "planted.parquet")], cache=folder))
    place = {int(row): at for at, row in enumerate(found.rows)}
    together = [
        found.representative[place[2 * i]] == found.representative[place[2 * i + 1]] for i in range(len(similarity))
    ]
    near = [t for t, s in zip(together, similarity, strict=True) if s >= 0.8]
    wrong = sum(t for t, s in zip(together, similarity, strict=True) if s < 0.8)
    strangers = int((found.representative != range(len(found))).sum()) - sum(together)
    recall, precision = sum(near) / len(near), sum(near) / (sum(near) + wrong + strangers)
    print(
        f"planted pairs: recall {recall:.3f} of {len(near)} with similarity uniform in [0.8, 1] "
        f"{at_least(recall, 0.96)}; precision {precision:.3f} {at_least(precision, 0.98)} with "
        f"{len(similarity) - len(near)} pairs in [0.5, 0.8) beside them"
    )


def memory(paths: list[str], folder: Path) -> None:
    """Peak memory of the exact pass, the parent and its workers together, over growing copies with edits."""
    made = 0
    for copies in COPIES:
        for copy in range(made, copies):
            for path in paths:
                table = pq.read_table(path)
                edits = [_edit(text, copy, row) for row, text in enumerate(table["text"].to_pylist())]
                table = table.set_column(table.schema.get_field_index("text"), "text", pa.array(edits))
                pq.write_table(table, folder / f"{copy}-{Path(path).name}", compression="zstd", row_group_size=500)
        made = copies
        cache = folder / f"cache-{copies}"
        begin = time.perf_counter()
        ran = subprocess.run(
            [sys.executable, "-c", _EXACT, str(folder), str(cache)], capture_output=True, text=True, check=True
        )
        answer = json.loads(ran.stdout)
        total = answer["bytes"] / 1e6
        taken = time.perf_counter() - begin
        print(
            f"exact pass over {copies} copies with edits, {total:.0f} MB of text, {answer['documents']:,} documents: "
            f"{taken:.0f} s = {total / taken:.0f} MB/s; peak {answer['peak'] / 1e6:.0f} MB "
            f"{at_most(answer['peak'] / 1e6, 1500, ' MB')} "
            f"(parent {answer['parent'] / 1e6:.0f}, each worker {answer['worker'] / 1e6:.0f}); "
            f"effective {answer['effective'] / answer['tokens']:.1%} of tokens"
        )


def _edit(text: str, copy: int, row: int) -> str:
    """The first copy as it is; in a later one, a word in about 60 is another."""
    if not copy:
        return text
    words = text.split(" ")
    for at in range((row + copy) % 60, len(words), 61):
        words[at] += f"x{copy}"
    return " ".join(words)


_EXACT = """
import json, resource, sys
from pathlib import Path
from data.catalogue import Catalogue
from data.statistics import statistics
from data.workers import cores
with Catalogue([sys.argv[1]]) as catalogue:
    found = statistics(catalogue, near="exact", cache=Path(sys.argv[2]))
parent = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
worker = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
print(json.dumps({"bytes": found.text_bytes, "documents": found.documents, "tokens": found.tokens,
                  "effective": found.effective_tokens, "parent": parent, "worker": worker,
                  "peak": parent + cores() * worker}))
"""
