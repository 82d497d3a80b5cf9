"""Follow a run while it writes: its history, state and log, read from its directory alone."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from data.bounded import opened
from engine.events import EventReader
from workbench import memory
from workbench.runs import cached, facts
from workbench.runs.glance import Glance, glance
from workbench.runs.history import History
from workbench.runs.launch import LOG_NAME
from workbench.runs.store import state_of

_LOG_TAIL = 1 << 16
_BULK = 1 << 20  # bytes from which on blocks are read in one go
_BLOCK = 4 << 20


class Follower:
    """Reads what a run appended since the last ``poll``. Not thread-safe: one worker owns it.

    Attributes:
        history: everything read so far, in bounded memory.
    """

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.history = History()
        self._reader = EventReader(run_dir)
        self._kept = -1  # bytes of events whose history lies in the cache; -1: not looked at yet
        self._read_to_end: tuple[int, int, int] | None = None  # stamp of the events when nothing in them was new

    def poll(self, max_bytes: int | None = None) -> bool:
        """Read new events (about ``max_bytes`` of them at most); True if there were any.

        Of an imported run the log is looked at first: what it gained becomes events.
        """
        if (self.run_dir / facts.FILE_NAME).is_file():
            from workbench.runs.importers.growing import catch_up

            with contextlib.suppress(OSError):  # a folder that cannot be written: what is there is shown
                catch_up(self.run_dir)
        if (stamp := self._stamp()) is not None and stamp == self._read_to_end:
            return False
        list(self._reader.read(0))  # notices a file that was replaced
        if self._reader.restarted:
            self.history, self._kept = History(), 0
        before, begun_at = self.history.version, self._reader.offset
        restarted = self._reader.restarted
        if self._kept < 0:
            self._recall()
        if not (self._read_blocks(max_bytes) and max_bytes is not None):
            for event in self._reader.read(max_bytes):
                self.history.apply(event)
            self._keep()
        changed = restarted or self.history.version != before
        self._read_to_end = None if changed or self._reader.offset != begun_at else stamp
        return changed

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            stat = self._reader.path.stat()
        except OSError:
            return None
        return stat.st_ino, stat.st_size, stat.st_mtime_ns

    def glance(self) -> Glance | None:
        """A first look at a run that takes longer to read (call it before ``poll``), or None."""
        if self._kept < 0:
            self._recall()
        return glance(self._reader.path, self._reader.offset)

    @property
    def offset(self) -> int:
        """Bytes of events read so far."""
        return self._reader.offset

    def _recall(self) -> None:
        """Begin where a long run was read to before."""
        self._kept = 0
        with contextlib.suppress(OSError):
            if self._reader.path.stat().st_size >= cached.WORTH and (found := cached.load(self._reader.path)):
                self.history, self._reader.offset = found
                self._kept = self._reader.offset

    def _keep(self) -> None:
        """Keep what was read, where reading it again would take long."""
        if self._reader.offset - self._kept >= cached.WORTH:
            self._kept = self._reader.offset
            cached.save(self._reader.path, self.history, self._kept)
            memory.give_back()

    def _read_blocks(self, max_bytes: int | None) -> bool:
        """Read whole blocks while there is much to read; True if any was read."""
        reader, read = self._reader, 0
        try:
            with reader.path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size - reader.offset < _BULK:
                    return False
                from workbench.runs.bulk import apply_block

                while size - reader.offset >= _BULK and (max_bytes is None or read < max_bytes):
                    file.seek(reader.offset)
                    block = file.read(min(_BLOCK, max_bytes or _BLOCK))
                    whole = block.rfind(b"\n") + 1
                    if not whole:  # one line longer than a block: the reader knows how to skip it
                        break
                    apply_block(self.history, block[:whole])
                    reader.offset += whole
                    read += whole
        except FileNotFoundError:
            return False
        return read > 0

    def state(self) -> str:
        """The run's state now (``workbench.runs.store.state_of``)."""
        return state_of(self.run_dir, self.history)

    def log_tail(self, lines: int = 200) -> list[str]:
        """The last lines of the engine's output, undecodable bytes replaced; the caller escapes them."""
        try:
            with opened(self.run_dir / LOG_NAME) as file:
                size = os.fstat(file.fileno()).st_size
                file.seek(max(0, size - _LOG_TAIL))
                return file.read(_LOG_TAIL).decode("utf-8", "replace").splitlines()[-lines:]
        except OSError:  # there is none, or something else lies in its place
            return []


def read_whole(run_dir: Path) -> History:
    """The history of a run as it stands now."""
    follower = Follower(run_dir)
    follower.poll()
    return follower.history
