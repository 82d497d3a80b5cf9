"""Texts of known similarity, for tests and benchmarks."""

from __future__ import annotations

import random
import re

_WORDS = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in ("", "n", "r", "st", "ck", "ming", "tion")]


def prose(generator: random.Random, words: int) -> str:
    """Sentences of made-up words."""
    out = []
    for i in range(words):
        out.append(generator.choice(_WORDS) + ("." if i % 12 == 11 else ""))
        if i % 60 == 59:
            out.append("\n")
    return " ".join(out)


def word_jaccard(a: str, b: str) -> float:
    """Jaccard similarity of two texts' sets of word 5-grams, said simply."""
    sets = []
    for text in (a, b):
        words = re.findall(r"\w+", text.lower())
        sets.append({tuple(words[i : i + 5]) for i in range(len(words) - 4)})
    return len(sets[0] & sets[1]) / max(1, len(sets[0] | sets[1]))


def edited(generator: random.Random, text: str, target: float) -> tuple[str, float]:
    """A copy with words replaced, inserted and cut until its similarity is at most ``target``, and that similarity."""
    words = text.split(" ")
    similarity = 1.0
    while similarity > target:
        at = generator.randrange(len(words))
        kind = generator.randrange(3)
        if kind == 0:
            words[at] = generator.choice(_WORDS) + "x"
        elif kind == 1:
            words.insert(at, generator.choice(_WORDS) + "y")
        else:
            del words[at : at + generator.randrange(1, 4)]
        similarity = word_jaccard(text, " ".join(words))
    return " ".join(words), similarity
