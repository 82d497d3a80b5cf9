"""What the loop records: events, gathered for about a second before they are written. Torch-free.

A killed engine loses what was gathered, never more: everything up to a checkpoint's step is on disk before the
checkpoint is, and what lies behind it is trained again, and told again, by the resumed run.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Any

from engine.events import EventReader, EventWriter

HOLD = 1.0  # seconds
MOST = 100_000  # events held while the disk is full


class Recorder:
    """Writes a run's events, in order."""

    def __init__(self, run_dir: Path) -> None:
        self._writer = EventWriter(run_dir)
        self._held: list[dict[str, Any]] = []
        self._lock = threading.RLock()  # the thread that watches other ranks records their failure
        self._flushed = time.monotonic()
        self.failing = False

    def add(self, event: str, **fields: Any) -> None:
        """Record an event; it is written within about a second, or at the next ``flush``."""
        with self._lock:
            self._held.append({"event": event, "time": time.time(), **fields})
            if time.monotonic() - self._flushed > HOLD:
                self.flush()

    def warn(self, step: int, text: str) -> None:
        """Record a warning, and say it in the log."""
        print(f"warning: {text}", flush=True)
        self.add("warning", step=step, text=text)
        self.flush()

    def flush(self) -> bool:
        """Write what is held. False where the disk refuses: it is kept, and tried again at the next flush."""
        with self._lock:
            return self._flush()

    def _flush(self) -> bool:
        self._flushed = time.monotonic()
        if not self._held:
            return True
        try:
            self._writer.write_many(self._held)
        except OSError as error:
            if not self.failing:
                reason = error.strerror or str(error)
                print(f"{self._writer.path}: cannot be written: {reason}; free some space", file=sys.stderr, flush=True)
            self.failing = True
            del self._held[:-MOST]
            return False
        self._held.clear()
        self.failing = False
        return True

    def forget(self) -> None:
        """Drop what is held."""
        self._held.clear()

    def close(self) -> bool:
        """Write the rest and close the file; False if the rest was lost."""
        written = self.flush()
        self._writer.close()
        return written


class Silent(Recorder):
    """Records nothing: what the ranks that do not write hold in a recorder's place."""

    def __init__(self) -> None:
        self.failing = False

    def add(self, event: str, **fields: Any) -> None:
        """Nothing."""

    def flush(self) -> bool:
        """Nothing; True."""
        return True

    def forget(self) -> None:
        """Nothing."""

    def close(self) -> bool:
        """Nothing; True."""
        return True


class Past:
    """What a run has recorded before this process: whether it began, and what stands at a given step.

    Attributes:
        begun: a ``start`` was recorded. finished: the last thing said is that the run finished.
        steps: highest optimiser step recorded.
        device, device_name: what it was trained on last; device is None where that is not told.
    """

    def __init__(self, run_dir: Path) -> None:
        self.begun = self.finished = False
        self.steps = 0
        self.device: str | None = None
        self.device_name = ""
        self._marks: set[tuple[str, int, str]] = set()
        for event in EventReader(run_dir).read():
            kind, step = event["event"], event.get("step")
            if kind == "stop":
                self.finished = event.get("reason") == "finished"
            elif kind in ("start", "resume", "step"):
                self.begun, self.finished = True, False
            if kind == "start" and isinstance(event.get("device"), str):
                self.device, self.device_name = event["device"], str(event.get("device_name") or event["device"])
            if not isinstance(step, int):
                continue
            if kind == "step":
                self.steps = step
            elif kind == "resume":
                self.cut(step)
            elif kind in ("eval", "checkpoint", "sample"):
                self._marks.add((kind, step, str(event.get("split", event.get("index", "")))))

    def cut(self, step: int) -> None:
        """Forget what lies behind ``step``: a resume from there replaces it."""
        self.steps = min(self.steps, step)
        self._marks = {mark for mark in self._marks if mark[1] <= step}

    def has(self, kind: str, step: int, split: str = "") -> bool:
        """Whether an ``eval`` of that split, a ``checkpoint``, or the ``sample`` of that index stands at that step."""
        return (kind, step, split) in self._marks
