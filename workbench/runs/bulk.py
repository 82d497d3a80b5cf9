"""Many events at once: a block of whole lines into a history, its steps parsed together by Arrow.

``json.loads`` line by line takes 6 s for a million steps; Arrow's reader takes a sixth of that and leaves the other
threads alone meanwhile. What it does not take as it stands (another writer's habits, numbers as text, steps out of
order) is read line by line, with the same result.
"""

from __future__ import annotations

import re
from itertools import chain
from typing import Any

import numpy as np

from engine.events import decode
from workbench.runs.columns import FloatArray
from workbench.runs.history import STEP_FIELDS, History

STEP = b'{"event": "step", '
# Behind it begins a line that is no step. An alternative for the first line would cost the search its fast path.
OTHER = re.compile(rb'\n(?!\{"event": "step", )')
_FEW = 64  # steps that are read line by line just as fast
Piece = tuple[bytes, dict[str, Any] | None]  # lines of steps, and the event behind them that is none


def apply_block(history: History, block: bytes) -> None:
    """Apply the events of ``block``, lines that each end in a newline, in their order."""
    pending: list[Piece] = []
    begin = 0
    first = () if block.startswith(STEP) else (0,)
    for at in chain(first, (found.end() for found in OTHER.finditer(block))):
        if at < begin or at >= len(block):
            continue
        steps = block[begin:at]
        end = block.find(b"\n", at)
        line = block[at : end if end >= 0 else len(block)]
        begin = at + len(line) + 1
        event = decode(line)
        # A step, or a resume, changes what steps before it mean: what stands before is applied first. By what was
        # decoded: a line may say what it is twice, and the last word counts.
        if event is not None and event["event"] in ("step", "resume"):
            _apply(history, [*pending, (steps, None)])
            pending = []
            history.apply(event)
        else:
            pending.append((steps, event))
    _apply(history, [*pending, (block[begin:], None)])


def _apply(history: History, pending: list[Piece]) -> None:
    """Apply steps, then other events, whose order among themselves alone counts; line by line all in their order."""
    lines = b"".join(steps for steps, _ in pending)
    count = lines.count(b"\n")
    # A line that says twice what it is, or spells a name in escapes, may be no step.
    plain = count > _FEW and b"\\" not in lines and lines.count(b'"event"') == count
    rows = _parse(lines, count) if plain else None
    together = rows is not None and history.apply_steps(rows)
    for steps, event in pending:
        for line in () if together else steps.split(b"\n"):
            if found := decode(line):
                history.apply(found)
        if event is not None:
            history.apply(event)


def _parse(lines: bytes, count: int) -> FloatArray | None:
    """Steps as float64 [len(STEP_FIELDS), n]; None where Arrow does not see one object of numbers in each line."""
    import pyarrow as pa
    from pyarrow import json

    buffer, table = pa.py_buffer(lines), None
    for clipped in (pa.float64(), pa.bool_()):  # writers say it as a number, or as true and false
        schema = pa.schema([(name, clipped if name == "clipped" else pa.float64()) for name in STEP_FIELDS])
        options = json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
        try:
            # The system's pool: Arrow's own keeps what it once had, and the workbench stays open for days.
            pool = pa.system_memory_pool()
            table = json.read_json(pa.BufferReader(buffer), parse_options=options, memory_pool=pool)
            break
        except (pa.ArrowException, ValueError):
            continue
    if table is None or table.num_rows != count:
        return None
    rows = np.full((len(STEP_FIELDS), count), np.nan)
    for i, name in enumerate(STEP_FIELDS):
        rows[i] = table[name].cast(pa.float64()).to_numpy()
    return rows if np.isfinite(rows[0]).all() and (rows[0] >= 0).all() else None
