"""The best held-out loss of a run, from its evaluations alone: they are searched for, the steps between skipped.

A gigabyte of events is searched in about a second; what was searched once is not searched again while the workbench is
open, only what has been written since.
"""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from engine import events
from engine.events import number

_BLOCK = 2 << 20  # searched in one go, other threads waiting: some milliseconds
_WANTED = (b'{"event": "eval"', b'{"event": "resume"')


@dataclass
class _Searched:
    offset: int = 0
    found: list[tuple[float, float]] = field(default_factory=list)  # step and loss, in ascending order of step


_searched: dict[Path, _Searched] = {}


def best_val(path: Path, deadline: float = math.inf) -> tuple[float | None, bool]:
    """The lowest held-out loss of an events file, nats per token, None where there is none; and whether all of the
    file was searched before ``deadline`` (of ``time.monotonic``). What a resume took back does not count."""
    known = _searched.setdefault(path, _Searched())
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < known.offset:  # another file
                known.offset, known.found = 0, []
            done = False
            while not done and time.monotonic() < deadline:
                file.seek(known.offset)
                block = file.read(_BLOCK)
                whole = block.rfind(b"\n") + 1 or (len(block) if len(block) == _BLOCK else 0)
                _take(known, block[:whole])
                known.offset += whole
                done = len(block) < _BLOCK  # what is left, if anything, is the line being written
    except OSError:
        return None, True
    return min((loss for _, loss in known.found), default=None), done


def _take(known: _Searched, block: bytes) -> None:
    places = sorted(at for wanted in _WANTED for at in _places(block, wanted))
    for at in places:
        end = block.find(b"\n", at)
        event = events.decode(block[at : end if end >= 0 else len(block)])
        step = number(event, "step") if event else math.nan
        if not event or math.isnan(step):
            continue
        if event["event"] == "resume":
            known.found = [(s, loss) for s, loss in known.found if s <= step]
        elif event.get("split", "heldout") == "heldout":
            known.found = [(s, loss) for s, loss in known.found if s < step] if _again(known, step) else known.found
            loss = number(event, "loss")
            if math.isfinite(loss):
                known.found.append((step, loss))


def _again(known: _Searched, step: float) -> bool:
    """Said again, after a resume that was not announced: as ``History`` has it."""
    return bool(known.found) and step <= known.found[-1][0]


def _places(block: bytes, wanted: bytes) -> list[int]:
    found, at = [], block.find(wanted)
    while at >= 0:
        found.append(at)
        at = block.find(wanted, at + len(wanted))
    return found
