"""modded-nanogpt's records (KellerJordan/modded-nanogpt), all generations.

``step:1/6200 train_loss:10.9 train_time:74701ms step_avg:nanms`` and ``… val_loss:…``; later generations print no
training loss, the newest print seconds. (The oldest, June 2024, writes llm.c's ``s:… tel:…`` and is read as such.)
A file begins with the whole training script: its lines, such as ``step:{step}``, are no data, but its hyperparameters
are facts where they are plain products of numbers. Read to their last step: the first file of each of the project's
published records, 2024 to 2026.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import ClassVar

from workbench.runs.facts import Fact
from workbench.runs.importers.importer import COUNT, NUMBER, Event, LineImporter, found, to_float, to_int

_STEP = re.compile(
    rf"step:({COUNT})/({COUNT}) (?:train_loss:({NUMBER}) |val_loss:({NUMBER}) )?.*?train_time:({NUMBER})(ms|s)\b"
)
_AVERAGE = re.compile(rf"step_avg:({NUMBER})ms")
_SETTING = re.compile(r"\s+(\w+) *: *\w+ *= *([\d.e*+\- ]+?) *(#.*)?$")


class ModdedNanoGPT(LineImporter):
    """Reads a record's log; see the module."""

    name: ClassVar[str] = "modded-nanogpt"

    def __init__(self) -> None:
        super().__init__()
        self.facts["eval_windows"] = Fact("fixed", "modded-nanogpt evaluates the head of its validation files")
        self.facts["sampling"] = Fact("without_replacement", "modded-nanogpt reads its shards in order")
        self.facts["architecture"] = Fact("modern", "modded-nanogpt's model")
        self._sequences: int | None = None
        self._block: int | None = None

    @classmethod
    def score(cls, head: Sequence[str]) -> int:
        return sum(1 for line in head if _STEP.match(line))

    def feed(self, line_number: int, line: str) -> Iterator[Event]:
        match = _STEP.match(line)
        if match is None:
            if self.stage.last < 0:
                self._setting(line_number, line)
            return
        step = to_int(match[1])
        self.state("max_steps", to_int(match[2]), "the step lines")
        if match[4] is not None:
            yield from self.evaluated(line_number, step, match[4])
            return
        loss = None if match[3] is None else to_float(match[3])
        yield from self.trained(
            line_number, step, match[3] or f"time {match[5]}", loss=loss, step_time=found(_AVERAGE, line, 1e-3)
        )

    def _setting(self, line_number: int, line: str) -> None:
        """A field of the script's dataclass of hyperparameters."""
        match = _SETTING.match(line)
        if match is None:
            return
        value, comment, source = _product(match[2]), (match[3] or "").lower(), f"log line {line_number}"
        if value is None:
            return
        if match[1] == "batch_size" and value.is_integer() and "across all devices" in comment:
            self._sequences = int(value) if "in sequences" in comment else None
            if "in tokens" in comment:
                self.state("tokens_per_step", int(value), source)
        elif match[1] == "sequence_length" and value.is_integer():
            self._block = int(value)
            self.state("block_size", self._block, source)
        elif match[1] == "learning_rate":
            self.state("lr", value, source)
        elif match[1] == "weight_decay":
            self.state("weight_decay", value, source)
        elif match[1] == "val_tokens" and value.is_integer():
            self.state("val_tokens", int(value), source)
        if self._sequences and self._block:
            self.state("tokens_per_step", self._sequences * self._block, source)


def _product(text: str) -> float | None:
    """``"8*64*1024"`` → 524288.0; None for any other expression."""
    factors = [to_float(part.strip()) for part in text.split("*")]
    value = math.prod(factors)
    return value if all(math.isfinite(f) for f in factors) and math.isfinite(value) and value >= 0 else None
