"""llm.c's standard output (karpathy/llm.c, train_gpt2.cu): ``step 1/19560 | loss … | norm … | lr … | … ms | …``.

A ``val loss`` line is of the weights after the step printed before it. Read to their last step: outputs published in
the notes of forks of llm.c (10 of 10 steps; and the end of a 124M run, step 19560 of 19560).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import ClassVar

from workbench.runs.facts import Fact
from workbench.runs.importers.importer import COUNT, NUMBER, Event, LineImporter, found, to_float, to_int

_STEP = re.compile(rf"step +({COUNT})/({COUNT}) *[|:] *(?:train )?loss ({NUMBER})")
_VAL = re.compile(rf"val loss ({NUMBER})\s*$")
_NORM = re.compile(rf"\| norm ({NUMBER})")
_RATE = re.compile(rf"\| lr ({NUMBER})")
_TIME = re.compile(rf"({NUMBER}) ms\b")
_SPEED = re.compile(rf"({NUMBER}) tok/s")
_MFU = re.compile(rf"({NUMBER})% \w+ MFU")
_SETTING = re.compile(r"\| ([A-Za-z_][\w ()]*?) +\| (\S+)")
_SETTINGS = {
    "micro batch size B": "micro_batch", "sequence length T": "block_size", "total batch size": "tokens_per_step",
    "LR scheduler": "schedule", "learning rate (LR)": "lr", "warmup iterations": "warmup_steps",
    "weight decay": "weight_decay", "num_parameters": "parameters", "num_layers L": "n_layer", "num_heads NH": "n_head",
    "channels C": "n_embd", "vocab_size V": "vocab_size", "padded_vocab_size Vp": "vocab_size",
    "num_processes": "devices", "device": "device_name",
}  # fmt: skip
_WHOLE = set(_SETTINGS.values()) - {"schedule", "lr", "weight_decay", "device_name"}


class LlmCOutput(LineImporter):
    """Reads llm.c's standard output; see the module."""

    name: ClassVar[str] = "llm.c output"

    def __init__(self) -> None:
        super().__init__()
        self.facts["eval_windows"] = Fact("fixed", "llm.c evaluates the head of its validation file")
        self.facts["grad_clip"] = Fact(1.0, "llm.c clips at 1.0")

    @classmethod
    def score(cls, head: Sequence[str]) -> int:
        return sum(1 for line in head if _STEP.match(line.strip()))

    def feed(self, line_number: int, line: str) -> Iterator[Event]:
        line = line.strip()
        if match := _STEP.match(line):
            planned = to_int(match[2])
            self.state("max_steps", planned, "the step lines")
            mfu = found(_MFU, line, 0.01)
            yield from self.trained(
                line_number, to_int(match[1]), match[3], loss=to_float(match[3]), grad_norm=found(_NORM, line),
                lr=found(_RATE, line), step_time=found(_TIME, line, 1e-3), tokens_per_s=found(_SPEED, line),
                mfu=None if mfu is None or mfu < 0 else mfu,
            )  # fmt: skip
        elif match := _VAL.match(line):
            yield from self.evaluated(line_number, max(self.stage.last, 0), match[1])
        elif match := _SETTING.match(line):
            self._setting(match[1].strip(), match[2], f"log line {line_number}")

    def _setting(self, name: str, raw: str, source: str) -> None:
        if name == "final LR fraction" and "lr" in self.facts:
            self.state("min_lr", to_float(raw) * self.facts["lr"].value, source)
        key = _SETTINGS.get(name)
        if key is None:
            return
        if key in ("schedule", "device_name"):
            if key == "device_name" or raw in ("cosine", "linear", "wsd", "constant"):
                self.state(key, raw, source)
        elif key in _WHOLE:
            self.state(key, to_int(raw), source)
        else:
            self.state(key, to_float(raw), source)
