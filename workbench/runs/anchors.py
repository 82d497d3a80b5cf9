"""Earlier runs that were judged on the same held-out documents: what this corpus has been seen to give.

Two runs are judged alike where their evaluations read the same documents, as far into each, in windows as long; the
engine keeps the documents' hashes beside the losses, so file names and paths do not count. An anchor is such a run, of
the same family and optimiser, that finished as planned; a run is never its own anchor, nor is one that goes on from it,
or that it goes on from.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from engine import config
from workbench.runs.facts import Facts, facts_of_run
from workbench.runs.follow import read_whole
from workbench.runs.history import History
from workbench.runs.store import read_verdict, state_of

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
    mine = _judged_on(run_dir)
    if mine is None:
        return []
    own = _configuration(run_dir)
    found: list[Anchor] = []
    with contextlib.suppress(OSError):
        folders = [Path(entry.path) for entry in os.scandir(run_dir.parent) if entry.is_dir()]
        alike = [f for f in folders if f.name != run_dir.name and _judged_on(f) == mine]
        for folder in sorted(alike, key=_created, reverse=True):
            if len(found) >= MOST:
                break
            if (anchor := _anchor(folder, run_dir, own)) is not None:
                found.append(anchor)
    return found


def _anchor(folder: Path, run_dir: Path, own: config.Config | None) -> Anchor | None:
    other = _configuration(folder)
    if own is None or other is None or _descends(other, run_dir) or _descends(own, folder):
        return None
    if (other.model.family, other.optim.kind, other.model.block_size) != (
        own.model.family, own.optim.kind, own.model.block_size,
    ):  # fmt: skip
        return None
    stamp = _stamp(folder)
    known, kept = _known.get(folder, (None, None))
    if known != stamp:
        kept = _read(folder)
        _known[folder] = (stamp, kept)
    return kept


def _read(folder: Path) -> Anchor | None:
    with contextlib.suppress(OSError, ValueError):
        if state_of(folder) == "finished" and read_verdict(folder) not in _SICK:
            history = read_whole(folder)
            return Anchor(folder.name, history, facts_of_run(folder, history))
    return None


Stamp = tuple[tuple[int, int], ...]
_known: dict[Path, tuple[Stamp | None, Anchor | None]] = {}


def _judged_on(folder: Path) -> bytes | None:
    """A hash of the held-out documents and of how many tokens of each are read; None where they are not known."""
    digest = hashlib.blake2b(digest_size=16)
    try:
        for name in ("documents", "tokens"):
            digest.update((folder / "evals" / f"heldout-{name}.npy").read_bytes())
    except OSError:
        return None
    return digest.digest()


def _configuration(folder: Path) -> config.Config | None:
    try:
        return config.load(folder / "config.toml")
    except config.ConfigError:
        return None


def _descends(run: config.Config, from_dir: Path) -> bool:
    origins = [run.train.init_from, run.train.branched_from]
    return any(from_dir.name in Path(origin).parts for origin in origins if origin)


def _created(folder: Path) -> float:
    try:
        return (folder / "config.toml").stat().st_mtime
    except OSError:
        return 0.0


def _stamp(folder: Path) -> Stamp:
    sizes = []
    for name in ("config.toml", "events.jsonl", "diagnosis.json"):
        try:
            stat = (folder / name).stat()
            sizes.append((stat.st_size, stat.st_mtime_ns))
        except OSError:
            sizes.append((-1, 0))
    return tuple(sizes)
