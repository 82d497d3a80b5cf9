"""Megatron-LM's output and that of its descendants (Megatron-DeepSpeed, GPT-NeoX).

``iteration 200/ 148693 | consumed samples: 25600 | … learning rate: … | lm loss: 1.024283E+01 | … grad norm: … |`` and
``valid loss at iteration 100 | lm loss value: …``. Arguments are printed one a line, dotted. A batch that ramps up
makes tokens differ from step to step: they are taken from the consumed samples. Read to their last step: two runs of
huggingface/datablations (iteration 4300 and 2600).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import ClassVar

from workbench.runs.importers.importer import COUNT, NUMBER, Event, LineImporter, found, to_float, to_int

_LINE = re.compile(rf"iteration +({COUNT})/ *({COUNT}) *\|")
_LOSS = re.compile(rf"\b(?:lm|LM) loss: *({NUMBER})")
_VAL = re.compile(
    rf"valid(?:ation)?(?:_\w+)? loss at iteration ({COUNT})(?: on [^|]*)? \| (?:lm|LM) loss(?: value)?: *({NUMBER})"
)
_RATE = re.compile(rf"learning rate: *({NUMBER})")
_NORM = re.compile(rf"grad norm: *({NUMBER})")
_SAMPLES = re.compile(rf"consumed samples: *({COUNT})")
_TOKENS = re.compile(rf"consumed tokens: *({COUNT})")
_SECONDS = re.compile(rf"elapsed time per iteration \(s\): *({NUMBER})")
_MILLISECONDS = re.compile(rf"elapsed time per iteration \(ms\): *({NUMBER})")
_ARGUMENT = re.compile(r"\s*(\w+) \.{2,}\s*(\S+)")
_PARAMETERS = re.compile(
    rf"(?:UNIQUE_PARAMS=|[Tt]otal number of parameters: |number of parameters on [^:]*: )({COUNT})"
)
_WHOLE = {
    "num_layers": "n_layer", "num_attention_heads": "n_head", "hidden_size": "n_embd", "seq_length": "block_size",
    "micro_batch_size": "micro_batch", "padded_vocab_size": "vocab_size", "world_size": "devices",
    "lr_warmup_iters": "warmup_steps",
}  # fmt: skip
_REAL = {"lr": "lr", "min_lr": "min_lr", "clip_grad": "grad_clip", "weight_decay": "weight_decay",
         "hidden_dropout": "dropout"}  # fmt: skip


class Megatron(LineImporter):
    """Reads Megatron's output; see the module."""

    name: ClassVar[str] = "Megatron-LM"

    def __init__(self) -> None:
        super().__init__()
        self._global_batch: int | None = None
        self._ramps = False
        self._warmup_samples: int | None = None

    @classmethod
    def score(cls, head: Sequence[str]) -> int:
        return sum(1 for line in head if (_LINE.search(line) and _LOSS.search(line)) or _VAL.search(line))

    def feed(self, line_number: int, line: str) -> Iterator[Event]:
        if match := _LINE.search(line):
            self.state("max_steps", to_int(match[2]), "the iteration lines")
            self._plan()
            loss = _LOSS.search(line)
            block, samples = self.facts.get("block_size"), found(_SAMPLES, line)
            tokens = found(_TOKENS, line)
            if tokens is None and block is not None and samples is not None:
                tokens = samples * block.value
            time = found(_SECONDS, line) or found(_MILLISECONDS, line, 1e-3)
            yield from self.trained(
                line_number, to_int(match[1]), loss[1] if loss else "skipped", tokens=tokens,
                loss=to_float(loss[1]) if loss else None, lr=found(_RATE, line), grad_norm=found(_NORM, line),
                step_time=time,
            )  # fmt: skip
        elif match := _VAL.search(line):
            yield from self.evaluated(line_number, to_int(match[1]), match[2])
        elif match := _ARGUMENT.match(line):
            self._argument(match[1], match[2], f"log line {line_number}")
        elif match := _PARAMETERS.search(line):
            self.state("parameters", to_int(match[1]), f"log line {line_number}, all embeddings included")

    def _argument(self, name: str, raw: str, source: str) -> None:
        if key := _WHOLE.get(name):
            self.state(key, to_int(raw), source)
        elif key := _REAL.get(name):
            value = to_float(raw)
            self.state(key, value if value == value else None, source)
        elif name == "lr_decay_style" and raw in ("cosine", "linear", "constant"):
            self.state("schedule", raw, source)
        elif name == "global_batch_size":
            self._global_batch = to_int(raw)
        elif name == "rampup_batch_size":
            self._ramps = raw != "None"
        elif name == "lr_warmup_samples":
            self._warmup_samples = to_int(raw)

    def _plan(self) -> None:
        """Facts that follow from several arguments; a batch that ramps up has no single size."""
        block = self.facts.get("block_size")
        if self._ramps:
            if self._warmup_samples:
                self.facts.pop("warmup_steps", None)  # stated in samples
            return
        if self._global_batch and block is not None and "tokens_per_step" not in self.facts:
            source = f"{block.source}: global batch × sequence length"
            self.state("tokens_per_step", self._global_batch * block.value, source)
            if self._warmup_samples:
                self.state("warmup_steps", self._warmup_samples // self._global_batch, source)
