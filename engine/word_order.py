"""Whether the words of the training documents stand in an order that means something; see ``data.word_order``."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from data import word_order
from data.encoding import EncodingError, load
from engine.corpus import Documents


def distinct_pairs(documents: Documents, encoding: str) -> float | None:
    """Distinct pairs of neighbouring words over those of shuffled documents; None where there are too few words."""
    try:
        decode = load(encoding).decode_bytes
    except EncodingError:
        return None

    def texts() -> Iterator[bytes]:
        for document in np.random.default_rng(0).permutation(len(documents)):
            end = min(int(documents.lengths[document]) - 1, 4 * word_order.LONGEST)
            yield decode(documents.read(int(document), 0, end).tolist())

    return word_order.distinct_pairs(texts())
