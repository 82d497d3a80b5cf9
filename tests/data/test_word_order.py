"""Word order counted in shards: documents drawn from all of them, each text once."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from data.catalogue import Catalogue
from data.word_order import of_shards
from workbench.runs.read import given_facts


def prose() -> list[str]:
    root = Path(__file__).resolve().parents[2]
    files = [*sorted((root / "docs").rglob("*.md")), root / "README.md", root / "engine" / "EXPERIMENTS.md"]
    return [part for file in files for part in file.read_text(encoding="utf-8").split("\n## ")]


def written(path: Path, texts: list[str | None]) -> Path:
    pq.write_table(pa.table({"text": texts}), path)
    return path


def test_text_has_an_order_and_scrambled_words_have_none(tmp_path: Path) -> None:
    own = of_shards(Catalogue([written(tmp_path / "a.parquet", [*prose(), None, ""])]))
    rng = random.Random(0)
    mixed: list[str | None] = [" ".join(rng.sample(t.split(), len(t.split()))) for t in prose()]
    scrambled = written(tmp_path / "b.parquet", mixed * 3)  # copies count once
    pairs = of_shards(Catalogue([scrambled]))
    assert own is not None and own < 0.93
    assert pairs is not None and abs(pairs - 1) < 0.015
    given = dict(given_facts(data=[str(scrambled)]))
    assert given["distinct_pairs"].value == pairs


def test_too_few_words_say_nothing(tmp_path: Path) -> None:
    assert of_shards(Catalogue([written(tmp_path / "a.parquet", ["one two"] * 4000)])) is None
    assert of_shards(Catalogue([tmp_path / "none.parquet"])) is None
