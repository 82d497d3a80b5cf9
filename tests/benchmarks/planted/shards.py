"""The shards that the suite's runs read: made of the shared corpus, or, where that is absent, of ``data.sample``'s.

Every kind is a pure function of its name and of the tokens that a run reads, so that it can be made again anywhere.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.benchmarks.planted.plant import FRESH

# PLANTED_CORPUS: where the corpus lies on a machine that has no shared folder beside the checkout.
CORPUS = Path(os.environ.get("PLANTED_CORPUS") or Path(__file__).resolve().parents[4] / "shared" / "corpus")
Document = tuple[str, str]  # source, text
# Text of another kind than the rest of the corpus (documentation of one vendor).
KINDS = {"prose": ("nltk/", "openstax/"), "standards": ("rust-lang/", "python/")}
HELD_OUT = 15  # shard of the corpus whose documents no run trains on


@dataclass(frozen=True)
class Measure:
    """How much text a subset's shards hold.

    Attributes:
        per_token: characters of a token of its encoding. longest: characters of a document, at most.
        held: tokens of a held-out shard.
    """

    per_token: float
    longest: int
    held: int


MEASURES = {
    "cpu": Measure(2.6, 8_000, 60_000),  # the small vocabulary splits words further
    "cuda": Measure(3.05, 32_000, 250_000),
    "cpu2": Measure(2.6, 8_000, 60_000),
}


def build(kind: str, tokens: int, folder: Path, measure: Measure) -> Path:
    """The shard of a kind, for a run that reads ``tokens``: made once, then found.

    Kinds: ``fresh``, ``fresh-long``; ``epochs-E``: so much text that the run reads it E times; ``copies-E``: the same
    text, but each document E times in the file; ``scrambled`` (words drawn from all documents), ``scrambled-within``
    (words of each document shuffled); ``ordered``, ``ordered-twice``: source by source; ``without-KIND``: no text of
    that kind; ``KIND``: only such; ``A/B``: B made of A. ``val-…``: the same of held-out documents.
    """
    path = folder / f"{kind.replace('/', '-of-')}-{tokens}.parquet"
    if not path.is_file():
        held = kind.startswith("val")
        kind = kind.removeprefix("val").removeprefix("-") or FRESH
        documents = _documents(range(HELD_OUT, HELD_OUT + 1) if held else range(HELD_OUT), folder)
        wanted = measure.held if held else 1.3 * tokens
        # Giants would be most of a small corpus, and no fair sample of a large one: kinds would differ by them.
        documents = [d for d in documents if len(d[1]) < measure.longest]
        for part in kind.split("/"):
            documents = _made(part, documents, wanted * measure.per_token, tokens * measure.per_token)
        folder.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}")
        table = pa.table({"source": [d[0] for d in documents], "text": [d[1] for d in documents]})
        pq.write_table(table, temporary)
        temporary.replace(path)
    return path


def _documents(shards: range, folder: Path) -> list[Document]:
    if CORPUS.is_dir():
        files = sorted(CORPUS.glob("*.parquet"))[shards.start : shards.stop]
        tables = [pq.read_table(file, columns=["dump", "text"]) for file in files]
        return [
            (s, t)
            for table in tables
            for s, t in zip(table["dump"].to_pylist(), table["text"].to_pylist(), strict=True)
        ]
    from data import sample

    made = sample.build(folder / "library")
    tables = [pq.read_table(file, columns=["file_path", "text"]) for file in made]
    rows = [
        (str(s).split("/")[0], t)
        for table in tables
        for s, t in zip(table["file_path"].to_pylist(), table["text"].to_pylist(), strict=True)
    ]
    random.Random(0).shuffle(rows)
    cut = len(rows) // 20
    return rows[:cut] if shards.start == HELD_OUT else rows[cut:]


def _made(kind: str, documents: list[Document], characters: float, read: float) -> list[Document]:
    rng = random.Random(kind)
    name, _, amount = kind.rpartition("-")
    if kind.startswith("without-"):
        away = KINDS[kind.removeprefix("without-")]
        return _first([d for d in documents if not d[0].startswith(away)], characters)
    if kind in KINDS:
        return _first([d for d in documents if d[0].startswith(KINDS[kind])], characters)
    if name == "epochs":
        return _first(documents, read / float(amount))
    if name == "copies":
        some = _first(documents, read / float(amount))
        copied = [d for d in some for _ in range(round(float(amount) * 1.1))]
        rng.shuffle(copied)
        return copied
    chosen = _first(documents, characters)
    if kind == "scrambled":
        words = [w for _, text in chosen for w in text.split()]
        rng.shuffle(words)
        position, scrambled = 0, []
        for source, text in chosen:
            count = len(text.split())
            scrambled.append((source, " ".join(words[position : position + count])))
            position += count
        return scrambled
    if kind == "scrambled-within":
        return [(s, " ".join(rng.sample(w, len(w)))) for s, w in ((s, t.split()) for s, t in chosen)]
    if kind.startswith("ordered"):
        halves = [chosen[::2], chosen[1::2]] if kind.endswith("twice") else [chosen]
        return [d for half in halves for d in sorted(half, key=lambda d: d[0])]
    return chosen


def _first(documents: list[Document], characters: float) -> list[Document]:
    taken, total = [], 0
    for document in documents:
        if total >= characters:
            break
        taken.append(document)
        total += len(document[1])
    return taken
