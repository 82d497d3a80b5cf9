"""build-nanogpt (karpathy/build-nanogpt), both forms: its ``log.txt`` and its standard output.

``log.txt``: ``250 val 6.43``, ``250 hella 0.2440``, ``250 train 6.387``. Output: ``step 250 | loss: … | lr … |`` and so
on; ahead of it ``validation loss: …`` of the same step. ``hella`` lines are HellaSwag accuracies: no loss. Steps count
from 0. Read to their last step: both forms of runs published in AGNDM/build-nanogpt (step 19072; one of 56046).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import ClassVar

from workbench.runs.importers.importer import COUNT, NUMBER, Event, LineImporter, found, to_float, to_int

_ROW = re.compile(rf"(\d+) (val|train|hella) ({NUMBER})\s*$")
_STEP = re.compile(rf"step +(\d+) \| loss: ({NUMBER}) \| lr:? ({NUMBER})")
_VAL = re.compile(rf"validation loss: ({NUMBER})\s*$")
_NORM = re.compile(rf"norm: ({NUMBER})")
_TIME = re.compile(rf"dt: ({NUMBER})ms")
_SPEED = re.compile(rf"tok/sec: ({NUMBER})")
_BATCH = re.compile(rf"total desired batch size: ({COUNT})")
_TENSORS = re.compile(rf"num (non-)?decayed parameter tensors: \d+, with ({COUNT}) parameters")


class BuildNanoGPT(LineImporter):
    """Reads either form; see the module."""

    name: ClassVar[str] = "build-nanogpt"

    def __init__(self) -> None:
        super().__init__()
        self._tensors: dict[str, int] = {}

    @classmethod
    def score(cls, head: Sequence[str]) -> int:
        return sum(1 for line in head if _ROW.match(line.strip()) or _STEP.match(line.strip()))

    def feed(self, line_number: int, line: str) -> Iterator[Event]:
        line = line.strip()
        if match := _ROW.match(line):
            step = to_int(match[1])
            if match[2] == "val":
                yield from self.evaluated(line_number, step, match[3])
            elif match[2] == "train":
                yield from self.trained(line_number, step, match[3], loss=to_float(match[3]))
        elif match := _STEP.match(line):
            yield from self.trained(
                line_number, to_int(match[1]), match[2], loss=to_float(match[2]), lr=to_float(match[3]),
                grad_norm=found(_NORM, line), step_time=found(_TIME, line, 1e-3), tokens_per_s=found(_SPEED, line),
            )  # fmt: skip
        elif match := _VAL.match(line):
            yield from self.evaluated(line_number, self.stage.last + 1, match[1])
        elif match := _BATCH.match(line):
            self.state("tokens_per_step", to_int(match[1]), f"log line {line_number}")
        elif match := _TENSORS.match(line):
            self._tensors[match[1] or ""] = to_int(match[2]) or 0
            if len(self._tensors) == 2:
                source = f"log lines {line_number - 1} and {line_number}, position embeddings included"
                self.state("parameters", sum(self._tensors.values()), source)
