"""Earlier runs that were judged on the same held-out documents: what this corpus has been seen to give.

Two runs are judged alike where their evaluations read the same documents, as far into each, in windows as long; the
engine keeps the documents' hashes beside the losses, so file names and paths do not count. An anchor is such a run, of
the same family and optimiser, that finished as planned; a run is never its own anchor, nor is one that goes on from it,
or that it goes on from.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from data.bounded import read_bytes
from engine import config
from workbench.runs.facts import Facts, facts_of_run
from workbench.runs.follow import read_whole
from workbench.runs.history import History
from workbench.runs.store import Stamp, created, read_verdict, stamp_of, state_of

MOST = 24  # anchors read at most, the newest
_SICK = ("overfitting", "diverging")


@dataclass(frozen=True)
class Anchor:
    """A finished run: its name, its history and its facts."""

    name: str
    history: History
    facts: Facts


def find(run_dir: Path) -> list[Anchor]:
    """Anchors of a run among its neighbours in the runs folder, the newest first; none for an imported run."""
    run_dir = Path(run_dir)
    mine, stamp = _judged_on(run_dir), stamp_of(str(run_dir))
    own = None if stamp is None else _configuration(run_dir, stamp)
    found: list[Anchor] = []
    if mine is None or own is None:
        return found
    with contextlib.suppress(OSError):
        folders = [Path(entry.path) for entry in os.scandir(run_dir.parent) if entry.is_dir()]
        alike = [f for f in folders if f.name != run_dir.name and _judged_on(f) == mine]
        for folder in sorted(alike, key=created, reverse=True):
            if len(found) >= MOST:
                break
            if (stamp := stamp_of(str(folder))) is None or (other := _configuration(folder, stamp)) is None:
                continue
            if _comparable(own, run_dir, other, folder) and (anchor := _read(folder, stamp)) is not None:
                found.append(anchor)
    return found


def _comparable(own: config.Config, run_dir: Path, other: config.Config, folder: Path) -> bool:
    if _descends(other, run_dir) or _descends(own, folder):
        return False
    first, second = ((c.model.family, c.optim.kind, c.model.block_size) for c in (own, other))
    return first == second


def _descends(run: config.Config, from_dir: Path) -> bool:
    origins = [run.train.init_from, run.train.branched_from]
    return any(from_dir.name in Path(origin).parts for origin in origins if origin)


def _judged_on(folder: Path) -> bytes | None:
    """A hash of the held-out documents and of how many tokens of each are read; None where they are not known."""
    paths = [folder / "evals" / f"heldout-{name}.npy" for name in ("documents", "tokens")]
    try:
        return _hash(*paths, *(path.stat().st_mtime_ns for path in paths))
    except OSError:
        return None


# An explanation comes with every evaluation, and neighbours seldom change: what was read of one is kept until it does.


@functools.lru_cache(maxsize=8192)
def _hash(documents: Path, tokens: Path, *changed: int) -> bytes:
    return hashlib.blake2b(read_bytes(documents) + read_bytes(tokens), digest_size=16).digest()


@functools.lru_cache(maxsize=1024)
def _configuration(folder: Path, stamp: Stamp) -> config.Config | None:
    try:
        return config.load(folder / "config.toml")
    except config.ConfigError:
        return None


@functools.lru_cache(maxsize=4 * MOST)
def _read(folder: Path, stamp: Stamp) -> Anchor | None:
    with contextlib.suppress(OSError, ValueError):
        if state_of(folder) == "finished" and read_verdict(folder) not in _SICK:
            history = read_whole(folder)
            return Anchor(folder.name, history, facts_of_run(folder, history))
    return None
