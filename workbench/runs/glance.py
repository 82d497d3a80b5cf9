"""A first look at a long run: all of its events but the steps, and of those a sample, spread evenly.

A million steps are 290 MB. To find the lines that are no steps takes 0.1 s, to parse all steps 2 s; a sample of some
ten thousand gives every average that a chart can show. So the sample is shown, and said to be one, until all is read.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path

from workbench.runs.bulk import OTHER, STEP, apply_block
from workbench.runs.history import History

WORTH = 48 << 20  # bytes of events from which on reading them all takes longer than a moment
_BLOCK = 8 << 20
_SAMPLED = 6 << 20  # bytes of steps taken of the whole file, whatever its length
_SLICE = 2048  # of consecutive steps: some six
_STRANGE = 0.25  # share of a block in lines that are no steps as the engine writes them: no first look then
_LOST = b'"loss": null'
_MOST_LOST = 100  # lines of lost steps taken of a block


@dataclass(frozen=True)
class Glance:
    """What a first look shows.

    Attributes:
        history: everything but steps, and a sample of these, the newest among them; its ``one_in`` says how many each
            of them stands for.
        size: bytes of events that were looked at.
    """

    history: History
    size: int


def glance(events: Path, begin: int = 0) -> Glance | None:
    """A first look at an events file; None where there is little to read from ``begin`` on, or where its lines are
    not as the engine writes them."""
    try:
        with events.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            return _look(file, size) if size - begin >= WORTH else None
    except OSError:
        return None


def _look(file: RawIOBase, size: int) -> Glance | None:
    kept, offset, taken, room = bytearray(), 0, 0, bytearray(_BLOCK)
    every = max(_SLICE, _SLICE * size // _SAMPLED)  # a slice in so many bytes
    while offset < size:
        file.seek(offset)
        read = file.readinto(memoryview(room)[: min(_BLOCK, size - offset)]) or 0
        end = room.rfind(b"\n", 0, read) + 1
        if not end:  # the line being written, or one that is no event
            break
        offset += end
        spans = _lines(room, end, every, last=offset + _BLOCK > size)
        if spans is None:
            return None
        for first, behind in spans:
            kept += room[first:behind]
            taken += behind - first
    if not taken:
        return None
    history = History()
    apply_block(history, bytes(kept))
    history.one_in = max(2, round(offset / taken))
    return Glance(history, offset)


def _lines(block: bytearray, size: int, every: int, last: bool) -> list[tuple[int, int]] | None:
    """Spans of the lines to take of a block of whole lines, in order; ``last``: its newest is one of them."""
    others = [0] if not block.startswith(STEP) else []
    others += [found.end() for found in OTHER.finditer(block, 0, size)]
    spans = [(at, block.index(b"\n", at) + 1) for at in others if at < size]
    if sum(behind - first for first, behind in spans) > max(_STRANGE * size, _BLOCK / 32):
        return None
    at, lost = block.find(_LOST, 0, size), 0
    while at >= 0 and lost < _MOST_LOST:
        behind = block.index(b"\n", at) + 1
        spans.append((block.rfind(b"\n", 0, at) + 1, behind))
        at, lost = block.find(_LOST, behind, size), lost + 1
    for at in range(0, size, every):
        first = block.rfind(b"\n", 0, at) + 1
        spans.append((first, block.find(b"\n", min(size - 1, at + _SLICE), size) + 1 or size))
    if last:
        spans.append((block.rfind(b"\n", 0, max(0, size - _SLICE)) + 1, size))
    spans.sort()
    joined = [spans[0]]
    for first, behind in spans[1:]:
        if first <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], behind))
        else:
            joined.append((first, behind))
    return joined
