"""An imported log that still grows: what it gained is appended to the run's events, from the place that was recorded.

``facts.toml`` records the log's path, how far it was read (bytes, lines), its size and a hash of its beginning. A log
that is shorter than before, or begins otherwise, was replaced: it is read anew, and the run's events say so (a
``resume`` below step 0 takes back what came before; the file itself is only ever appended to). One writer at a time,
of all processes and of all threads of one: a lock in the run directory, held by the opened file; who finds it taken
leaves the work to its holder.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engine.events import EventWriter
from workbench.atomic import write_atomically
from workbench.errors import UserError
from workbench.runs.facts import FILE_NAME, Fact, Facts, read_toml
from workbench.runs.importers.importer import Event
from workbench.runs.importers.read import LogReader

LOCK_NAME = ".import.lock"
BLOCK = 5000  # events held before they are written
FRESH = 60.0  # seconds: a log written to more recently may end in half a line
_HEAD = 4096
_KEPT = 8
_readers: OrderedDict[Path, LogReader] = OrderedDict()  # where each followed log stands, so that it is read once


def catch_up(run_dir: Path) -> bool:
    """Append what an imported run's log gained to its ``events.jsonl``; True if there was anything.

    Cheap where nothing changed: one look at the log's size. False as well where the log is gone, unreadable or
    replaced by something that is no log, and where another process is at it. Raises OSError where the run directory
    cannot be written.
    """
    run_dir = Path(run_dir)
    try:
        facts, log = read_toml(run_dir / FILE_NAME)
        path = Path(str(log["path"]))
        if path.stat().st_size == log.get("size"):
            return False
        with _locked(run_dir) as ours:
            if not ours:
                return False
            facts, log = read_toml(run_dir / FILE_NAME)  # another may have been here meanwhile
            return _append(run_dir, path, facts, log)
    except (KeyError, FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError, UserError):
        return False


def record(reader: LogReader) -> dict[str, Any]:
    """The ``[log]`` table of ``facts.toml``: where the log lies and how far it was read."""
    size = reader.path.stat().st_size
    return {
        "path": str(reader.path.resolve()), "format": reader.format, "lines": reader.lines, "bytes": reader.offset,
        "size": size, "head": _head(reader.path, min(size, _HEAD)), "head_bytes": min(size, _HEAD),
        "imported": int(time.time()),
    }  # fmt: skip


def complete(path: Path) -> bool:
    """Whether a log's last line may be trusted to be whole though it has no end: nobody wrote to it lately."""
    return time.time() - path.stat().st_mtime > FRESH


def write_events(run_dir: Path, events: Iterable[Event]) -> int:
    """Append events to a run in blocks; returns how many. Raises OSError."""
    writer = EventWriter(run_dir)
    block: list[dict[str, Any]] = []
    count = 0
    try:
        for event in events:
            block.append(event)
            if len(block) >= BLOCK:
                writer.write_many(block)
                count, block = count + len(block), []
        if block:
            writer.write_many(block)
    finally:
        writer.close()
    return count + len(block)


def _append(run_dir: Path, path: Path, facts: dict[str, Fact], log: dict[str, Any]) -> bool:
    replaced = _replaced(path, log)
    reader = _readers.pop(path, None)
    recorded = int(log.get("bytes", 0))
    anew: list[Event] = []
    if replaced or reader is None or not reader.appendable or reader.offset > recorded:
        reader = LogReader(path)
    if replaced or not reader.appendable:
        text = "the log was replaced; it is read anew" if replaced else "the log was written anew"
        anew = [{"event": "resume", "step": -1}, {"event": "warning", "step": 0, "text": f"{path.name}: {text}"}]
    elif reader.offset < recorded:
        _skip(reader, recorded)
    last = complete(path)
    written = write_events(run_dir, _first(anew, reader.events(last)))
    known = Facts(facts)
    for key, fact in reader.facts.items():
        if not known.source(key).startswith("given") and not known.source(key).endswith(".facts.toml"):
            known.put(key, fact.value, fact.source)
    text = known.to_toml(record(reader))
    write_atomically(run_dir / FILE_NAME, text)
    _readers[path] = reader
    while len(_readers) > _KEPT:
        _readers.popitem(last=False)
    return written > 0


def _first(lead: list[Event], events: Iterator[Event]) -> Iterator[Event]:
    """``lead`` ahead of the events, once there is one."""
    for event in events:
        yield from lead
        lead = []
        yield event


def _skip(reader: LogReader, recorded: int) -> None:
    """Read up to the recorded place again, for the importer's state; those events are written already."""
    for _ in reader.events(False, until=recorded):
        pass


def _replaced(path: Path, log: dict[str, Any]) -> bool:
    size = int(log.get("head_bytes", 0))
    return path.stat().st_size < int(log.get("size", 0)) or (size > 0 and _head(path, size) != log.get("head"))


def _head(path: Path, size: int) -> str:
    with path.open("rb") as file:
        return hashlib.sha256(file.read(size)).hexdigest()[:32]


@contextmanager
def _locked(run_dir: Path) -> Iterator[bool]:
    """Hold the run's import lock; False where another process holds it. The lock ends with its process."""
    import fcntl

    handle = os.open(run_dir / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(handle)
