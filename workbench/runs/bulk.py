"""Many events at once: a block of whole lines into a history, its steps parsed together by Arrow.

``json.loads`` line by line takes 6 s for a million steps; Arrow's reader takes a third of that and leaves the other
threads alone meanwhile. What it does not take as it stands (another writer's habits, numbers as text, steps out of
order) is read line by line, with the same result.
"""

from __future__ import annotations

import numpy as np

from engine.events import MAX_LINE, decode
from workbench.runs.columns import FloatArray
from workbench.runs.history import STEP_FIELDS, History

_STEP = b'{"event": "step", '


def apply_block(history: History, block: bytes) -> None:
    """Apply the events of ``block``, lines that each end in a newline, in their order."""
    lines = block.split(b"\n")
    begin = 0
    for i, line in enumerate(lines):
        # These change what steps before them mean: what stands before is applied first.
        if not line.startswith(_STEP) and (b'"resume"' in line or b'"step"' in line[:24]):
            _apply(history, lines[begin:i])
            begin = i + 1
            if event := decode(line):
                history.apply(event)
    _apply(history, lines[begin:])


def _apply(history: History, lines: list[bytes]) -> None:
    """Apply steps, and others whose order among themselves alone counts."""
    steps = [line for line in lines if line.startswith(_STEP) and len(line) <= MAX_LINE]
    rows = _parse(steps) if len(steps) > 64 else None
    if rows is not None and history.apply_steps(rows):
        lines = [line for line in lines if line and not line.startswith(_STEP)]
    for line in lines:
        if event := decode(line):
            history.apply(event)


def _parse(lines: list[bytes]) -> FloatArray | None:
    """Steps as float64 [len(STEP_FIELDS), n]; None where Arrow does not see one object of numbers in each line."""
    import pyarrow as pa
    from pyarrow import json

    schema = pa.schema([(name, pa.float64()) for name in STEP_FIELDS if name != "clipped"])
    options = json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="infer")
    try:
        table = json.read_json(pa.BufferReader(b"\n".join(lines)), parse_options=options)
    except (pa.ArrowException, ValueError):
        return None
    if table.num_rows != len(lines):
        return None
    numeric = (pa.types.is_floating, pa.types.is_integer, pa.types.is_boolean, pa.types.is_null)
    rows = np.full((len(STEP_FIELDS), len(lines)), np.nan)
    for i, name in enumerate(STEP_FIELDS):
        if name not in table.column_names:
            continue
        column = table[name]
        if not any(test(column.type) for test in numeric):
            return None
        rows[i] = column.cast(pa.float64()).to_numpy()
    return rows if np.isfinite(rows[0]).all() and (rows[0] >= 0).all() else None
