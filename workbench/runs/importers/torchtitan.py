"""torchtitan's output (pytorch/torchtitan), with or without colours and rank labels.

``step: 10  loss: 12.19510  grad_norm: 1.2345  memory: 81.67GiB(85.93%)  tps: 111,770  tflops: …  mfu: 22.68%`` and
``validate step: 100  loss: …``. ``tps`` is of one device. Read to their last step: runs published in torchtitan's own
repository (step 10 of 10, qwen3 14B) and in its tracker.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import ClassVar

from workbench.runs.importers.importer import COUNT, NUMBER, Event, LineImporter, found, to_float, to_int

_LINE = re.compile(rf"(validate )?step: +({COUNT}) +(?:global_avg_)?loss: +({NUMBER})(?=\s|$)")
_NORM = re.compile(rf"grad_norm: +({NUMBER})")
_MEMORY = re.compile(rf"memory: +({NUMBER})GiB")
_MFU = re.compile(rf"mfu: +({NUMBER})%")
_RATE = re.compile(rf"\blr: +({NUMBER})")
_SIZE = re.compile(rf"\bsize: ({COUNT}) total parameters")
_PLAN = re.compile(
    rf"global batch size ({COUNT}), .*?sequence length ({COUNT}), total steps ({COUNT}) \(warmup ({COUNT})\)"
)


class TorchTitan(LineImporter):
    """Reads torchtitan's output; see the module."""

    name: ClassVar[str] = "torchtitan"

    @classmethod
    def score(cls, head: Sequence[str]) -> int:
        return sum(1 for line in head if (m := _LINE.search(line)) and ("memory:" in line or m[1]))

    def feed(self, line_number: int, line: str) -> Iterator[Event]:
        if match := _LINE.search(line):
            step = to_int(match[2])
            if match[1]:
                yield from self.evaluated(line_number, step, match[3])
                return
            yield from self.trained(
                line_number, step, match[3], loss=to_float(match[3]), grad_norm=found(_NORM, line),
                lr=found(_RATE, line), memory=found(_MEMORY, line, 2**30), mfu=found(_MFU, line, 0.01),
            )  # fmt: skip
            return
        source = f"log line {line_number}"
        if match := _SIZE.search(line):
            self.state("parameters", to_int(match[1]), f"{source}, all embeddings included")
        elif match := _PLAN.search(line):
            batch, block, steps, warmup = (to_int(match[i]) for i in (1, 2, 3, 4))
            if batch and block:
                self.state("block_size", block, source)
                self.state("tokens_per_step", batch * block, source)
            self.state("max_steps", steps, source)
            if steps and warmup is not None:
                self.state("warmup_steps", min(warmup, steps), source)
