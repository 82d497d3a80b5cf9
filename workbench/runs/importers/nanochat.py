"""nanochat (karpathy/nanochat) as captured from a terminal: several stages in one file, steps restarting.

``step 00049/21400 (0.23%) | loss: 5.97 | grad norm: 0.76 | lrm: 1.00 | dt: …ms | tok/sec: …`` and
``Step 00250 | Validation bpb: 1.23``.
The run is the first stage that trains (pre-training); mid-training and fine-tuning, which print another form or plan,
are named in a warning and left out. The validation is in bits per byte, which no log tells how to turn into nats per
token: it is kept as the split ``bits_per_byte``. The rate is logged as a share of its peak (``lrm``). Read to its last
step: the speedrun of dwarkeshsp/nanochat (step 21400 of 21400).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import ClassVar

from workbench.runs.facts import Fact
from workbench.runs.importers.importer import COUNT, NUMBER, Event, LineImporter, found, to_float, to_int

_STEP = re.compile(rf"step (\d+)(?:/(\d+))? \({NUMBER}%\) \| loss: ({NUMBER})")
_TUNED = re.compile(rf"Step (\d+)/(\d+) \| Training loss: ({NUMBER})")
_BPB = re.compile(rf"Step (\d+) \| Validation bpb: ({NUMBER})")
_VAL = re.compile(rf"Step (\d+) \| Validation loss: ({NUMBER})")
_NORM = re.compile(rf"grad norm: ({NUMBER})")
_RATE = re.compile(rf"lrm: ({NUMBER})")
_TIME = re.compile(rf"dt: ({NUMBER})ms")
_SPEED = re.compile(rf"tok/sec: ({NUMBER})")
_MFU = re.compile(rf"mfu: ({NUMBER})")
_FACTS = (
    (re.compile(rf"^Number of parameters: ({COUNT})"), "parameters"),
    (re.compile(rf"^Total batch size ({COUNT})"), "tokens_per_step"),
    (re.compile(rf"^[Vv]ocab size: ({COUNT})"), "vocab_size"),
    (re.compile(rf"^num_layers: ({COUNT})"), "n_layer"),
    (re.compile(rf"^model_dim: ({COUNT})"), "n_embd"),
    (re.compile(rf"^num_heads: ({COUNT})"), "n_head"),
)  # fmt: skip


class NanoChat(LineImporter):
    """Reads nanochat's output; see the module."""

    name: ClassVar[str] = "nanochat"

    def __init__(self) -> None:
        super().__init__()
        self.facts["architecture"] = Fact("modern", "nanochat's model")
        self._kind: tuple[str, int | None] | None = None  # form and planned steps of the stage that is read
        self._left = False  # inside a later stage

    @classmethod
    def score(cls, head: Sequence[str]) -> int:
        return sum(1 for line in head if _STEP.search(line) or _TUNED.search(line) or _BPB.search(line))

    def feed(self, line_number: int, line: str) -> Iterator[Event]:
        if match := _STEP.search(line):
            planned = to_int(match[2]) if match[2] else None
            yield from self._train(line_number, ("base", planned), match[1], match[3], line)
        elif match := _TUNED.search(line):
            yield from self._train(line_number, ("tuned", to_int(match[2])), match[1], match[3], line)
        elif match := _BPB.search(line):
            if not self._later(to_int(match[1])):
                yield from self.evaluated(line_number, to_int(match[1]), match[2], split="bits_per_byte")
        elif match := _VAL.search(line):
            if not self._later(to_int(match[1])):
                yield from self.evaluated(line_number, to_int(match[1]), match[2])
        elif self._kind is None:
            for pattern, key in _FACTS:
                if match := pattern.match(line.strip()):
                    self.state(key, to_int(match[1]), f"log line {line_number}")

    def _later(self, step: int | None) -> bool:
        """Whether an evaluation is a later stage's: it stands in one, or begins again once the plan was done."""
        planned = self._kind[1] if self._kind else None
        done = planned is not None and step is not None and self.stage.last >= planned - 1 and step < self.stage.last
        self._left = self._left or done
        return self._left

    def _train(
        self, line_number: int, kind: tuple[str, int | None], step: str, loss: str, line: str
    ) -> Iterator[Event]:
        if self._kind is None:
            self._kind = kind
            if kind[1] is not None:
                self.state("max_steps", kind[1], "the step lines")
        self._left = kind != self._kind
        if self._left:
            text = f"log line {line_number}: another stage begins here; the first one is what was read"
            if not self.stage.repeated(-1, str(kind)):
                yield {"event": "warning", "step": max(self.stage.last, 0), "text": text}
            return
        mfu = found(_MFU, line, 0.01)
        yield from self.trained(
            line_number, to_int(step), loss, loss=to_float(loss), grad_norm=found(_NORM, line), lr=found(_RATE, line),
            step_time=found(_TIME, line, 1e-3), tokens_per_s=found(_SPEED, line), mfu=mfu,
        )  # fmt: skip

    def finish(self) -> Iterator[Event]:
        planned = self.facts.get("max_steps")
        if planned is not None and self.stage.last >= planned.value - 1:  # steps count from 0
            yield {"event": "stop", "step": self.stage.last, "reason": "finished"}
