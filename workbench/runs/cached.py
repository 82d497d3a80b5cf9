"""A long run's history as it was last read, kept in the user's cache, so that it is not parsed again.

One file a run: numbers as NumPy arrays, the rest as JSON, no pickle. It holds what was read up to a byte of the events
file, and by what that file is recognised: device, inode, and the bytes at its beginning and before that place. A file
that grew is read on from there; one that was replaced, cut or written anew is read from its beginning.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import threading
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from data.packed import default_cache
from data.unfinished import private
from workbench.runs.columns import Columns
from workbench.runs.history import History, Marks, evaluations

WORTH = 16 << 20  # bytes of events from which on reading them again costs more than a glance
_KEPT = 32  # runs
_LOOKED_AT = 4096  # bytes at either end of what was read
_VERSION = 2
_MARKS = ("resumes", "checkpoints", "warnings", "samples", "phases", "noise_scales")


def load(events: Path) -> tuple[History, int] | None:
    """The history up to a byte of an events file, and that byte; None where nothing that fits is kept."""
    try:
        with np.load(_path(events), allow_pickle=False) as kept:
            about = json.loads(bytes(kept["about"]))
            offset = int(about["offset"])
            if about["version"] != _VERSION or about["identity"] != _identity(events, offset):
                return None
            return _restored(about, kept), offset
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None


def save(events: Path, history: History, offset: int) -> None:
    """Keep a history, whole or not at all; where the cache cannot be written, nothing is kept."""
    path = _path(events)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    with contextlib.suppress(OSError):
        arrays = {"steps": history.steps._data[:, : len(history.steps)], "steps_pending": history.steps._pending}
        arrays |= {"systems": history.systems._data[:, : len(history.systems)]}
        arrays |= {"systems_pending": history.systems._pending}
        for nth, columns in enumerate(history.evals.values()):
            arrays[f"eval_{nth}"] = columns._data[:, : len(columns)]
            arrays[f"eval_{nth}_pending"] = columns._pending
        about = {
            "version": _VERSION, "offset": offset, "identity": _identity(events, offset),
            "splits": list(history.evals),
            "strides": [c.stride for c in (history.steps, history.systems, *history.evals.values())],
            "start": history.start, "stop": history.stop, "system": history.system, "events": history.version,
            "last_time": None if math.isnan(history.last_time) else history.last_time,
            "got_on": None if math.isnan(history.got_on) else history.got_on,
            "marks": {name: getattr(history, name) for name in _MARKS},
        }  # fmt: skip
        arrays["about"] = np.frombuffer(json.dumps(about).encode(), dtype=np.uint8)
        private(path.parent)
        try:
            with temporary.open("wb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        _forget_old(path.parent)


def _restored(about: dict[str, Any], kept: Any) -> History:
    history = History()
    names = ["steps", "systems"]
    for nth, split in enumerate(about["splits"]):
        history.evals[split] = evaluations()
        names.append(f"eval_{nth}")
    every = (history.steps, history.systems, *history.evals.values())
    for columns, name, stride in zip(every, names, about["strides"], strict=True):
        Columns._write(columns, _checked(columns, kept[name]))
        columns._pending, columns.stride = _checked(columns, kept[f"{name}_pending"]), int(stride)
    history.start, history.stop, history.system = about["start"], about["stop"], about["system"]
    history.version = int(about["events"])
    history.last_time, history.got_on = (
        math.nan if about[name] is None else float(about[name]) for name in ("last_time", "got_on")
    )
    for name in _MARKS:
        setattr(history, name, Marks(about["marks"][name]))
    return history


def _checked(columns: Columns, rows: np.ndarray) -> np.ndarray:
    """Raises ValueError where the rows are not those of such columns (kept by another version)."""
    if rows.ndim != 2 or len(rows) != len(columns.fields) or rows.dtype != np.float64:
        raise ValueError("not these columns")
    return rows


def _identity(events: Path, offset: int) -> list[Any]:
    """What tells the events file that was read from any other. Raises OSError, ValueError where it is shorter."""
    with events.open("rb") as file:
        stat = os.fstat(file.fileno())
        if stat.st_size < offset:
            raise ValueError("shorter than what was read")
        seen = hashlib.sha256(file.read(min(_LOOKED_AT, offset)))
        file.seek(max(0, offset - _LOOKED_AT))
        seen.update(file.read(min(_LOOKED_AT, offset)))
    return [stat.st_dev, stat.st_ino, seen.hexdigest()]


def _path(events: Path) -> Path:
    key = hashlib.sha256(os.fsencode(events.resolve())).hexdigest()[:24]
    return Path(default_cache()) / "histories" / f"{key}.npz"


def _forget_old(folder: Path) -> None:
    """Keep the newest few: each takes up to 20 MB."""
    files = sorted(folder.glob("*.npz"), key=lambda file: file.stat().st_mtime, reverse=True)
    for file in files[_KEPT:]:
        file.unlink(missing_ok=True)
