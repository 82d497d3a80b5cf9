"""What a thread does beside the screens until it is told to end."""

from __future__ import annotations

import threading


class Background:
    """Subclasses have a ``loop`` for a thread of its own, which sleeps on ``_wake`` and looks at ``_ended``; other
    methods are for any thread."""

    def __init__(self) -> None:
        self._wake = threading.Event()
        self._ended = False

    def end(self) -> None:
        """Make ``loop`` return soon."""
        self._ended = True
        self._wake.set()
