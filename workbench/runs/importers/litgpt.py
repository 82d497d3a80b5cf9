"""litgpt's output (Lightning-AI/litgpt), the generations since lit-gpt.

``Epoch 34 | iter 3050700 step 610140 | loss train: 2.846, val: 2.861 | iter time: 112.20 ms (step) …``,
``iter 1760 | step 220: loss 1.5947, iter time: …``, ``iter 76 step 38: loss 10.8, LR: …`` and
``iter 4800: val loss 1.72``.
Steps are optimiser steps; the ``val:`` of a training line repeats the newest evaluation, so it counts where it changes.
Read to their last step: a pre-training log of the lit-gpt form from a public project's notes (step 750), and the last
lines of the 124M reproduction in litgpt's own tracker (step 610200); no whole log of the newest form was to be had.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import ClassVar

from workbench.runs.importers.importer import COUNT, NUMBER, Event, LineImporter, found, to_float, to_int

_LINE = re.compile(
    rf"(?:Ep(?:och)? (\d+) \| )?iter ({COUNT})(?: \||:)? st[Ee]p ({COUNT})(?: \||:) *loss(?: train)?(?: \(curr\))?:? "
    rf"({NUMBER})(?:, val(?: \(prev val iter\))?:? ({NUMBER}|n/a|None))?"
)
_VAL = re.compile(rf"iter ({COUNT}): val loss ({NUMBER})")
_FINAL = re.compile(rf"Final evaluation \| val loss: ({NUMBER})")
_RATE = re.compile(rf"LR: ({NUMBER})")
_TOTAL = re.compile(rf"Total parameters:? ({COUNT})")
_ARGUMENT = re.compile(r"\b(global_batch_size|max_seq_length|lr_warmup_steps|min_lr|max_norm|max_steps)=([\d.e-]+)")
_KEYS = {"lr_warmup_steps": "warmup_steps", "min_lr": "min_lr", "max_norm": "grad_clip", "max_steps": "max_steps"}


class LitGPT(LineImporter):
    """Reads litgpt's output; see the module."""

    name: ClassVar[str] = "litgpt"

    def __init__(self) -> None:
        super().__init__()
        self._shown: str | None = None  # the val that training lines repeat
        self._explicit = False  # the log prints evaluations in lines of their own
        self._sizes: dict[str, int] = {}

    @classmethod
    def score(cls, head: Sequence[str]) -> int:
        return sum(1 for line in head if _LINE.search(line) or _VAL.match(line.strip()))

    def feed(self, line_number: int, line: str) -> Iterator[Event]:
        if match := _LINE.search(line):
            step = to_int(match[3])
            yield from self.trained(
                line_number, step, f"{match[2]} {match[4]}", loss=to_float(match[4]), lr=found(_RATE, line),
                epoch=to_float(match[1]) if match[1] else None,
            )  # fmt: skip
            shown = match[5]
            if shown not in (None, "n/a", "None", self._shown) and not self._explicit:
                yield from self.evaluated(line_number, step, shown)
            self._shown = shown or self._shown
        elif match := _VAL.match(line.strip()):
            self._explicit = True
            yield from self.evaluated(line_number, max(self.stage.last, 0), match[2])
        elif match := _FINAL.search(line):
            yield from self.evaluated(line_number, max(self.stage.last, 0), match[1])
        elif match := _TOTAL.search(line):
            self.state("parameters", to_int(match[1]), f"log line {line_number}, all embeddings included")
        else:
            self._arguments(line_number, line)

    def _arguments(self, line_number: int, line: str) -> None:
        """Facts of the arguments that litgpt prints: ``TrainArgs(global_batch_size=512, …)``."""
        source = f"log line {line_number}"
        for name, raw in _ARGUMENT.findall(line):
            value = to_float(raw)
            if name in ("global_batch_size", "max_seq_length"):
                if value.is_integer() and value > 0:
                    self._sizes[name] = int(value)
            else:
                self.state(_KEYS[name], int(value) if name.endswith("steps") and value == value else value, source)
        if len(self._sizes) == 2 and "tokens_per_step" not in self.facts:
            self.state("block_size", self._sizes["max_seq_length"], source)
            self.state("tokens_per_step", self._sizes["global_batch_size"] * self._sizes["max_seq_length"], source)
