"""The planted-cause suite: runs whose cause is known, and how often the explainer names it."""

from __future__ import annotations


def main() -> None:
    """Score what is recorded."""
    from tests.benchmarks.planted.score import main as score

    score()
