"""One JSON object a line with a step and a loss (metrics.jsonl of many trainers).

Read to its last step: the ``metrics.jsonl`` that akawslearn-ai/slm_training publishes (step 7760, begun three times).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from workbench.runs.facts import Fact
from workbench.runs.importers import columns
from workbench.runs.importers.importer import Event


def _object(line: str) -> dict[str, Any] | None:
    if not line.lstrip().startswith("{"):
        return None
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


class JsonLines:
    """Reads JSON lines; see the module."""

    name: ClassVar[str] = "JSON lines with a step and a loss"

    def __init__(self) -> None:
        self.facts: dict[str, Fact] = {}
        self._rows = columns.Rows()

    @classmethod
    def score(cls, head: Sequence[str]) -> int:
        return 2 * sum(1 for line in head if (row := _object(line)) and columns.usable(columns.roles(row)))

    def feed(self, line_number: int, line: str) -> Iterator[Event]:
        row = _object(line)
        if row:
            yield from self._rows.events(line_number, row, columns.roles(row))

    def finish(self) -> Iterator[Event]:
        yield from ()
