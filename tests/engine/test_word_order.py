"""Word order of the training documents: text has one, scrambled text has none, little text is not judged."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from data.packed import Pack
from engine.corpus import Documents
from engine.word_order import distinct_pairs


@pytest.fixture(scope="module")
def prose() -> list[str]:
    """Real text: this project's own documentation, in paragraphs."""
    root = Path(__file__).resolve().parents[2]
    files = [*sorted((root / "docs").rglob("*.md")), root / "README.md", root / "engine" / "EXPERIMENTS.md"]
    return [part for file in files for part in file.read_text(encoding="utf-8").split("\n## ")]


def shuffled(text: str, seed: int) -> str:
    words = text.split()
    random.Random(seed).shuffle(words)
    return " ".join(words)


def test_text_has_an_order_and_scrambled_words_have_none(pack_of: Callable[..., Pack], prose: list[str]) -> None:
    own = distinct_pairs(Documents.of([pack_of(prose, "a")]), "gpt2")
    scrambled = distinct_pairs(Documents.of([pack_of([shuffled(t, i) for i, t in enumerate(prose)], "b")]), "gpt2")
    assert own is not None and own < 0.93
    assert scrambled is not None and abs(scrambled - 1) < 0.015


def test_too_few_words_say_nothing(pack_of: Callable[..., Pack], prose: list[str]) -> None:
    assert distinct_pairs(Documents.of([pack_of(prose[:3])]), "gpt2") is None
    assert distinct_pairs(Documents.of([pack_of(["one two"] * 4000)]), "gpt2") is None
    assert distinct_pairs(Documents.of([pack_of(prose)]), "no-such-encoding") is None
