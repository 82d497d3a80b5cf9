"""llm.c's ``main.log`` (karpathy/llm.c): ``s:250 tel:6.5``, ``s:251 trl:6.4 lr:0.0006 norm:1.2``.

``eval`` lines are HellaSwag accuracies: no loss.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import ClassVar

from workbench.runs.facts import Fact
from workbench.runs.importers.importer import NUMBER, Event, Stage, to_float, to_int

_LINE = re.compile(rf"s:(\d+) (tel|trl|eval):({NUMBER})(?: lr:({NUMBER}))?(?: norm:({NUMBER}))?\s*$")


class LlmC:
    """Reads llm.c's main.log; see the module."""

    name: ClassVar[str] = "llm.c main.log"

    def __init__(self) -> None:
        self.facts: dict[str, Fact] = {"eval_windows": Fact("fixed", "llm.c evaluates the head of its validation file")}
        self._stage = Stage()

    @classmethod
    def score(cls, head: Sequence[str]) -> int:
        return sum(1 for line in head if _LINE.match(line.strip()))

    def feed(self, line_number: int, line: str) -> Iterator[Event]:
        match = _LINE.match(line.strip())
        step = to_int(match[1]) if match else None
        if match is None or step is None or match[2] == "eval":
            return
        yield from self._stage.restart(step, line_number)
        if match[2] == "tel":
            yield {"event": "eval", "step": step, "split": "heldout", "loss": to_float(match[3])}
            return
        event: Event = {"event": "step", "step": step, "loss": to_float(match[3])}
        if match[4]:
            event["lr"] = to_float(match[4])
        if match[5]:
            event["grad_norm"] = to_float(match[5])
        yield event

    def finish(self) -> Iterator[Event]:
        yield from ()
