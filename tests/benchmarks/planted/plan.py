"""Which runs the suite makes: each flat, or healthy, by construction, with the twin in which the plant is undone.

A subset ("cpu", "cuda") is a handful of bases (a size with its schedule and tokens) and, on each, the plants with
their doses. The same plant at another dose or on another base stands in the other split: the held-out runs differ
from those that rules and calibration were fitted on by dose and by size, never just by seed.
"""

from __future__ import annotations

from tests.benchmarks.planted import large, second, small
from tests.benchmarks.planted.plant import DEV, FRESH, HELDOUT, Base, Plant, options

__all__ = ["BASES", "DEV", "FRESH", "HELDOUT", "Base", "Plant", "options", "plants"]

BASES = {"cpu": small.BASES, "cuda": large.BASES, "cpu2": second.BASES}


def plants(subset: str) -> list[Plant]:
    """Every run of a subset, in the order in which they are made."""
    found = list({"cpu": small, "cuda": large, "cpu2": second}[subset].plants())
    assert len({p.name for p in found}) == len(found)
    return found
