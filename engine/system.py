"""``system`` events: how busy the machine is, looked up in a thread that the loop never waits for.

The card is asked through ``nvidia-smi`` (one short process each time, none inside the loop); what it does not say, or
where there is none, is null. Torch-free, so that its cost can be measured apart.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from engine.record import Recorder

_ASKED = ("utilization.gpu", "power.draw", "temperature.gpu", "memory.used")
_NAMES = ("gpu_utilisation", "gpu_power", "gpu_temperature", "memory_used")
_PATIENCE = 10.0  # seconds that nvidia-smi may take


def parse(line: str) -> dict[str, float | None]:
    """A line of ``nvidia-smi --format=csv,noheader,nounits`` as fields: percent, watts, degrees Celsius, bytes."""
    values: list[float | None] = []
    for text in (line.split(",") + [""] * len(_ASKED))[: len(_ASKED)]:
        try:
            values.append(float(text))
        except ValueError:  # "[N/A]"
            values.append(None)
    found = dict(zip(_NAMES, values, strict=True))
    if (mebibytes := found["memory_used"]) is not None:
        found["memory_used"] = int(mebibytes) << 20
    return found


class Watch:
    """Records a ``system`` event now and every ``every`` seconds (0: never), until it is closed.

    Args:
        resident: bytes of this process's resident memory.
        card: the card's UUID as nvidia-smi has it (``GPU-…``); None on a CPU, whose ``memory_used`` is the resident
            set.
    """

    def __init__(self, record: Recorder, every: float, resident: Callable[[], int], card: str | None) -> None:
        self._record, self._every, self._resident = record, every, resident
        self._card = card if card is None or shutil.which("nvidia-smi") else ""
        self._closed = threading.Event()
        self._before = time.monotonic(), sum(os.times()[:2])
        self._thread = threading.Thread(target=self._watch, name="system", daemon=True)
        if every:
            self._thread.start()

    def look(self) -> dict[str, Any]:
        """The event's fields as they are now; ``cpu_percent`` since the last look, 100 for one core."""
        resident = self._resident()
        fields: dict[str, Any] = dict.fromkeys(_NAMES)
        if self._card is None:
            fields["memory_used"] = resident
        elif self._card:
            fields |= self._ask(self._card)
        now = time.monotonic(), sum(os.times()[:2])
        seconds, used = now[0] - self._before[0], now[1] - self._before[1]
        self._before = now
        return {**fields, "cpu_percent": 100 * used / seconds if seconds > 0 else None, "memory_host": resident}

    def _ask(self, card: str) -> dict[str, float | None]:
        line = ["nvidia-smi", f"--id={card}", f"--query-gpu={','.join(_ASKED)}", "--format=csv,noheader,nounits"]
        try:
            return parse(subprocess.run(line, capture_output=True, text=True, timeout=_PATIENCE, check=True).stdout)
        except (OSError, subprocess.SubprocessError):
            self._card = ""  # it will not answer next time either
            return {}

    def _watch(self) -> None:
        while True:
            fields = self.look()
            if self._closed.is_set():
                return
            self._record.add("system", **fields)
            if self._closed.wait(self._every):
                return

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the thread; nothing is recorded behind this."""
        self._closed.set()
        if self._every:
            self._thread.join(_PATIENCE + 1)
