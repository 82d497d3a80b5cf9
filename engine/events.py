"""Events: what a run says of itself, one JSON object a line, appended by one writer.

Every event has ``event`` and ``time`` (Unix seconds). Readers skip fields and events they do not know, and a torn
last line. A number that is not finite is written as null, since JSON has none: readers turn it into NaN.

==============  =========================================================================================
event           fields
==============  =========================================================================================
``start``       schema, parameters, tokens_per_step, max_steps, device, device_name, dtype, compiled, threads,
                processes, parallel ("ddp" | "fsdp"; null: one process), versions, config_hash, flops_per_token,
                memory_predicted (bytes), cooldown_steps (wsd; else null), batches: [{step: first, tokens: a step}]
``step``        step, tokens, epoch (null until all shards are packed), loss, lr, grad_norm, clipped, step_time,
                data_wait, tokens_per_s, mfu, memory, step_tokens (trained in this step)
``eval``        step, split ("heldout" | "seen"), loss, se, bpb (bits per byte of the text; null where not known),
                documents, tokens, seconds
``noise_scale`` step, b_noise (tokens), and the gradient norms that it was estimated from
``sample``      step, prompt, text (what the model wrote behind it), index (of the prompt), seed, tokens (asked for)
``checkpoint``  step, path (relative to the run directory), seconds, bytes
``system``      gpu_utilisation (percent), gpu_power (watts), gpu_temperature (°C), memory_used (bytes: of the card by
                all processes; on a CPU as memory_host), cpu_percent (100: one core), memory_host (resident bytes)
``warning``     step, text
``resume``      step: training goes on behind this step; steps and evaluations above it are replaced by later ones
``phase``       name, seconds: start-up, phase by phase (pack, build, compile …); "pack all" comes while the run trains,
                where shards were still packed: with tokens and unique_tokens, which are exact from then on
``stop``        step, reason ("finished" | "stopped" | "failed"), text
==============  =========================================================================================

``step`` s is the s-th optimiser step, counted from 1; an ``eval`` at step s is of the weights after s steps (0: as
initialised). ``tokens`` counts trained tokens after that step. ``loss`` is the mean over the step's micro-batches.
"""

from __future__ import annotations

import errno
import json
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

SCHEMA = 1
FILE_NAME = "events.jsonl"
MAX_LINE = 1 << 20  # a longer line is no event: it is skipped without being held in memory
_CHUNK = 1 << 20


class EventWriter:
    """Appends events; each line reaches the file in one write, so that a reader never sees two halves mixed.

    A torn last line, left by a killed writer, is cut off when the file is opened again.
    """

    def __init__(self, run_dir: str | Path) -> None:
        self.path = Path(run_dir) / FILE_NAME
        _cut_torn_line(self.path)
        self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, event: str, **fields: Any) -> None:
        """Append one event. Raises OSError where the disk refuses it (the file then ends in a whole line)."""
        self.write_many([{"event": event, **fields}])

    def write_many(self, events: list[dict[str, Any]]) -> None:
        """Append several events in one write."""
        now = time.time()
        data = b"".join(encode({"time": now, **e}) for e in events)
        size = os.fstat(self._fd).st_size
        try:
            written = os.write(self._fd, data)
            if written != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        except OSError:
            os.ftruncate(self._fd, size)
            raise

    def close(self) -> None:
        """Close the file; events already written are safe before that."""
        os.close(self._fd)


def encode(event: dict[str, Any]) -> bytes:
    """One event as a line of strict JSON, with ``event`` first."""
    ordered = {"event": event["event"], **event}
    return json.dumps(_finite(ordered), ensure_ascii=False, allow_nan=False).encode("utf-8", "replace") + b"\n"


class EventReader:
    """Reads events incrementally and in bounded memory: ``read()`` yields what was appended since the last call.

    ``offset`` is the byte behind the last whole line read. A file that shrank (replaced) is read from its beginning;
    ``restarted`` then is True until the next call.
    """

    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        self.path = path / FILE_NAME if path.is_dir() else path
        self.offset = 0
        self.skipped = 0  # lines that were no events
        self.restarted = False
        self._inode: int | None = None

    def read(self, max_bytes: int | None = None) -> Iterator[dict[str, Any]]:
        """Yield new events; at most about ``max_bytes`` of them, if given. A missing file yields none."""
        self.restarted = False
        try:
            with self.path.open("rb") as file:
                stat = os.fstat(file.fileno())
                if stat.st_size < self.offset or (self._inode is not None and self._inode != stat.st_ino):
                    self.offset, self.restarted = 0, True
                self._inode = stat.st_ino
                file.seek(self.offset)
                yield from self._lines(file, max_bytes)
        except FileNotFoundError:
            return

    def _lines(self, file: BinaryIO, max_bytes: int | None) -> Iterator[dict[str, Any]]:
        begin, tail, overlong = self.offset, b"", False
        while max_bytes is None or self.offset - begin < max_bytes:
            chunk = file.read(_CHUNK)
            if not chunk:
                return
            lines = (tail + chunk).split(b"\n")
            tail = lines.pop()
            for line in lines:
                self.offset += len(line) + 1
                event = None if overlong else decode(line)
                if event is not None:
                    yield event
                elif line.strip() or overlong:
                    self.skipped += 1
                overlong = False
            if len(tail) > MAX_LINE:
                self.offset += len(tail)
                tail, overlong = b"", True


def decode(line: bytes) -> dict[str, Any] | None:
    """One line as an event, or None where it is none (not JSON, not an object, no ``event`` name)."""
    if not line.startswith(b"{") or len(line) > MAX_LINE:
        return None
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else None


def number(event: dict[str, Any], key: str) -> float:
    """A field as a float, true as 1; NaN where it is missing, null or no number."""
    value = event.get(key)
    if not isinstance(value, (int, float)):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return value


def _cut_torn_line(path: Path) -> None:
    try:
        with path.open("rb+") as file:
            end = file.seek(0, os.SEEK_END)
            position = end
            while position:
                begin = max(0, position - _CHUNK)
                file.seek(begin)
                newline = file.read(position - begin).rfind(b"\n")
                if newline >= 0:
                    position = begin + newline + 1
                    break
                position = begin
            if position < end:
                file.truncate(position)
    except FileNotFoundError:
        return
