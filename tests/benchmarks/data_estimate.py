"""Whether the estimate's 90% interval covers: over draws from made-up populations, and from the corpus itself."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import numpy as np

from data.boilerplate import boilerplate
from data.catalogue import Catalogue
from data.estimate import Part, estimate
from data.near import clusters
from tests.benchmarks.data import CORPUS
from tests.data.test_worth import drawn

TRIALS = 500
SEEDS = 20
POPULATIONS = {
    "pairs": [1] * 2000 + [2] * 400,
    "clusters of five": [1] * 1000 + [5] * 200,
    "mixed, 1 to 20": [1] * 3000 + [2] * 200 + [3] * 100 + [5] * 60 + [10] * 20 + [20] * 5,
    "few large": [1] * 1500 + [2] * 40 + [30] * 5,
    "one of a thousand": [1] * 2000 + [2] * 100 + [1000],
    "few duplicates": [1] * 3000 + [2] * 15,
}


def main() -> None:
    """Print one line a population; then the corpus."""
    for name, sizes in POPULATIONS.items():
        for share, alike in ((0.25, 0.85), (0.1, 0.85), (0.1, 0.6)):
            generator = np.random.default_rng(1)
            trials = [drawn(sizes, generator, share, alike) for _ in range(TRIALS if max(sizes) < 1000 else 100)]
            covered = np.mean([found.low <= truth <= found.high for found, truth in trials])
            ratio = np.mean([found.value for found, _ in trials]) / np.mean([truth for _, truth in trials])
            width = np.median([(found.high - found.low) / truth for found, truth in trials])
            print(
                f"{name}, {share:.0%} of the text drawn, copies share a key with {alike}: 90% interval covers "
                f"{covered:.0%}; mean estimate / truth {ratio:.3f}; width {width:.0%} of the truth"
            )
    if CORPUS.is_dir():
        corpus()


def corpus() -> None:
    """Draws with different keys from the real corpus, whole: read, sketched, clustered."""
    with tempfile.TemporaryDirectory() as cache, Catalogue([CORPUS]) as catalogue:
        exact = clusters(catalogue, cache=Path(cache))
        near = float(exact.bytes[exact.near_duplicates()].sum())
        lines = float(boilerplate(exact).mass.sum())
        parts = []
        for index, file in enumerate(catalogue.files):
            here = slice(int(exact.base[index]), int(exact.base[index + 1]))
            first = ~exact.exact_duplicates()[here]
            rows, sizes = exact.rows[here][first], exact.bytes[here][first]
            parts.append(Part(file.identity, rows, sizes, sizes.astype(np.float64)))
        for budget in (32e6, 14e6):
            begin = time.perf_counter()
            found = [estimate(parts, budget=budget, seed=seed) for seed in range(SEEDS)]
            taken = (time.perf_counter() - begin) / SEEDS
            print(
                f"the corpus, {budget / exact.bytes.sum():.0%} of the text drawn, {SEEDS} seeds, {taken:.1f} s each "
                f"(load {os.getloadavg()[0]:.1f}): near covers "
                f"{np.mean([f.near_tokens.low <= near <= f.near_tokens.high for f in found]):.0%}, "
                f"mean {np.mean([f.near_tokens.value for f in found]) / near:.3f}; near and boilerplate covers "
                f"{np.mean([f.taken.low <= near + lines <= f.taken.high for f in found]):.0%}, "
                f"mean {np.mean([f.taken.value for f in found]) / (near + lines):.3f}, "
                f"width {np.median([(f.taken.high - f.taken.low) for f in found]) / exact.bytes.sum():.1%} of all text"
            )
