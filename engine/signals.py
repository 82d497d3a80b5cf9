"""How a run is asked to stop. Torch-free, so that it is in place before torch is loaded."""

from __future__ import annotations

import signal
from types import FrameType


class Signals:
    """SIGTERM and SIGINT ask the run to stop behind its step; SIGHUP, a closed terminal's, is ignored."""

    def __init__(self) -> None:
        self.stop = False
        signal.signal(signal.SIGTERM, self._handle)
        signal.signal(signal.SIGINT, self._handle)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.stop = True

    def stopping(self) -> bool:
        """Whether a stop was asked for."""
        return self.stop
