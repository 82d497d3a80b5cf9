"""One long job at a time, and how far it is. What comes of a job carries its event, so that the answer of one that was
stopped, or belongs to other shards, is not taken for another's."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from textual.message import Message


@dataclass
class Step(Message):
    """How far the job is that ``cancel`` ends."""

    cancel: threading.Event
    stage: str
    fraction: float

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, Step) and message.cancel is self.cancel


class Job:
    """The job under way, if there is one."""

    def __init__(self) -> None:
        self._cancel: threading.Event | None = None

    @property
    def running(self) -> bool:
        """Whether a job is under way."""
        return self._cancel is not None

    def begin(self) -> threading.Event:
        """A new job; the one under way is stopped."""
        self.stop()
        self._cancel = threading.Event()
        return self._cancel

    def stop(self) -> bool:
        """Stop the job; whether there was one. Its answer no longer counts."""
        job, self._cancel = self._cancel, None
        if job is not None:
            job.set()
        return job is not None

    def ended(self, cancel: threading.Event) -> bool:
        """Whether this was the job under way; from now on none is."""
        mine = self.under_way(cancel)
        if mine:
            self._cancel = None
        return mine

    def under_way(self, cancel: threading.Event) -> bool:
        """Whether it is this one that is under way."""
        return self._cancel is cancel
