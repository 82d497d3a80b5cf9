"""Whether the words of documents stand in an order that means something.

Text says about 3.5 bits a word by the order of its words, in every language looked at (Montemurro & Zanette 2011,
*Universal Entropy of Word Ordering Across Linguistic Families*). Counted here by the cheapest sign of it: the pairs of
neighbours repeat more often than those of the same words in random order. Distinct pairs, as a share of those after the
words of each document were shuffled: 0.5 to 0.9 for prose, documentation and code, 1 for scrambled words.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from data.catalogue import Catalogue  # DuckDB, which the engine does without

WORDS = 30_000  # looked at
LONGEST = 2_000  # words of one document
CHARACTERS = 8 * LONGEST
SHORTEST = 20
FEWEST = 5_000  # below which nothing is said: chance moves the share by a hundredth
DRAWN = 40  # rows of a file read at a time
ROUNDS = 20


def distinct_pairs(texts: Iterable[bytes]) -> float | None:
    """Distinct pairs of neighbouring words over those of shuffled documents; None where there are too few words."""
    rng = np.random.default_rng(0)
    known: dict[bytes, int] = {}
    own: list[npt.NDArray[np.int64]] = []
    shuffled: list[npt.NDArray[np.int64]] = []
    total = 0
    for text in texts:
        words = text.split()[:LONGEST]
        if len(words) < SHORTEST:
            continue
        ids = np.array([known.setdefault(word, len(known)) for word in words], np.int64)
        for pairs, order in ((own, ids), (shuffled, rng.permutation(ids))):
            pairs.append(order[:-1] << 32 | order[1:])
        total += len(words)
        if total >= WORDS:
            break
    if total < FEWEST:
        return None
    return float(len(np.unique(np.concatenate(own))) / len(np.unique(np.concatenate(shuffled))))


def of_shards(catalogue: Catalogue) -> float | None:
    """``distinct_pairs`` of documents drawn from a catalogue's shards, each text once. Raises ShardError."""
    return distinct_pairs(_drawn(catalogue))


def _drawn(catalogue: Catalogue) -> Iterator[bytes]:
    rng, seen = random.Random(0), set[bytes]()
    files = [f for f in catalogue.files if f.text_column is not None and f.rows]
    for _ in range(ROUNDS if files else 0):
        file = rng.choices(files, [f.rows for f in files])[0]
        assert file.text_column is not None
        wanted = rng.sample(range(file.rows), min(DRAWN, file.rows))
        found = catalogue.rows(file, wanted, [file.text_column], CHARACTERS)
        rng.shuffle(found)
        for row in found:
            text = str(row[file.text_column] or "").encode()
            digest = hashlib.blake2b(text, digest_size=16).digest()
            if digest not in seen:
                seen.add(digest)
                yield text
