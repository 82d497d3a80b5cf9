"""nanoGPT's standard output (karpathy/nanoGPT, train.py).

``iter`` lines carry the loss of one step as trained (the last micro-batch's); ``step`` lines carry the mean loss over
``eval_iters`` random windows of the train and of the validation file, both with dropout off, both drawn anew each
time. Windows for training are drawn at random with replacement. The learning rate is not logged: it follows from the
overrides, where they state it, and is marked as derived.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import ClassVar

from workbench.runs.facts import Fact
from workbench.runs.importers.importer import NUMBER, Event, Stage, to_float, to_int

_ITER = re.compile(rf"iter (\d[\d,]*): loss ({NUMBER})(?:, time ({NUMBER})ms)?(?:, mfu ({NUMBER})%)?", re.I)
_EVAL = re.compile(rf"step (\d[\d,]*): train loss ({NUMBER}), val loss ({NUMBER})", re.I)
_OVERRIDE = re.compile(r"Overriding: (\w+) = (.*)")
_ASSIGNMENT = re.compile(r"(\w+) = ([^#]+?)\s*(?:#.*)?$")
_TOKENS = re.compile(r"tokens per iteration will be: ([\d,]+)")
_PARAMETERS = re.compile(r"number of parameters: ([\d.]+)([MBK])")
_VOCABULARY = re.compile(r"(?:defaulting to vocab_size of GPT-2 to|found vocab_size =) (\d+)")
_SCRATCH = re.compile(r"Initializing a new model from scratch")
_LOADED = re.compile(r"(Resuming training from|Initializing from OpenAI)")

_OVERRIDES = {
    "batch_size": "micro_batch", "gradient_accumulation_steps": "grad_accum", "block_size": "block_size",
    "n_layer": "n_layer", "n_head": "n_head", "n_embd": "n_embd", "dropout": "dropout", "learning_rate": "lr",
    "min_lr": "min_lr", "warmup_iters": "warmup_steps", "lr_decay_iters": "decay_steps", "max_iters": "max_steps",
    "weight_decay": "weight_decay", "grad_clip": "grad_clip",
}  # fmt: skip
_WHOLE = {
    "micro_batch", "grad_accum", "block_size", "n_layer", "n_head", "n_embd", "warmup_steps", "decay_steps",
    "max_steps",
}  # fmt: skip


class NanoGPT:
    """Reads nanoGPT's output; see the module."""

    name: ClassVar[str] = "nanoGPT"

    def __init__(self) -> None:
        self.facts: dict[str, Fact] = {
            "sampling": Fact("with_replacement", "nanoGPT draws windows at random"),
            "eval_windows": Fact("redrawn", "nanoGPT draws evaluation windows anew"),
            "train_eval_dropout": Fact(False, "nanoGPT's step lines are measured with dropout off"),
        }
        self._stage = Stage()
        self._eval_iters: int | None = None
        self._decay_lr = True
        self._tokens_per_step: int | None = None
        self._begun = False

    @classmethod
    def score(cls, head: Sequence[str]) -> int:
        return sum(1 for line in head if _ITER.match(line.strip()) or _EVAL.match(line.strip()))

    def feed(self, line_number: int, line: str) -> Iterator[Event]:
        line = line.strip()
        if match := _ITER.match(line):
            yield from self._iteration(line_number, match)
        elif match := _EVAL.match(line):
            yield from self._evaluation(line_number, match)
        else:
            yield from self._header(line_number, line)

    def finish(self) -> Iterator[Event]:
        planned = self.facts.get("max_steps")
        if planned and self._stage.last >= planned.value:
            yield {"event": "stop", "step": self._stage.last, "reason": "finished"}

    def _iteration(self, line_number: int, match: re.Match[str]) -> Iterator[Event]:
        step = to_int(match[1])
        if step is None:
            return
        yield from self._begin()
        yield from self._stage.restart(step, line_number)
        event: Event = {"event": "step", "step": step, "loss": to_float(match[2])}
        if self._tokens_per_step:
            event["tokens"] = step * self._tokens_per_step
        if match[3]:
            event["step_time"] = to_float(match[3]) / 1e3
        if match[4] and to_float(match[4]) >= 0:  # nanoGPT prints -100% before it has measured
            event["mfu"] = to_float(match[4]) / 100
        yield event

    def _evaluation(self, line_number: int, match: re.Match[str]) -> Iterator[Event]:
        step = to_int(match[1])
        if step is None:
            return
        yield from self._begin()
        yield from self._stage.restart(step, line_number)
        common: Event = {"event": "eval", "step": step}
        batch, block = self.facts.get("micro_batch"), self.facts.get("block_size")
        if self._eval_iters and batch and block:
            common["tokens"] = self._eval_iters * batch.value * block.value
        yield {**common, "split": "heldout", "loss": to_float(match[3])}
        yield {**common, "split": "seen", "loss": to_float(match[2])}

    def _begin(self) -> Iterator[Event]:
        """The ``start`` event, once a stage's header has been read."""
        if self._begun:
            return
        self._begun = True
        if not self._decay_lr:
            self.facts["schedule"] = Fact("constant", self.facts["schedule"].source)
            self.facts.pop("min_lr", None)
        elif "lr" in self.facts:
            self.facts.setdefault("schedule", Fact("cosine", "nanoGPT's own schedule (derived: no rate is logged)"))
        start: Event = {"event": "start", "schema": 1}
        for key in ("parameters", "tokens_per_step", "max_steps"):
            if key in self.facts:
                start[key] = self.facts[key].value
        yield start

    def _header(self, line_number: int, line: str) -> Iterator[Event]:
        source = f"log line {line_number}"
        if _SCRATCH.match(line) or _LOADED.match(line):
            if self._begun:  # another run's header in the same file
                self._begun = False
        elif match := _OVERRIDE.match(line):
            self._override(match[1], match[2].strip(), source)
        elif match := _TOKENS.match(line):
            if tokens := to_int(match[1]):
                self._tokens_per_step = tokens
                self.facts["tokens_per_step"] = Fact(tokens, source)
        elif match := _VOCABULARY.match(line):
            if rows := to_int(match[1]):
                self.facts["vocab_size"] = Fact(rows, source)
        elif match := _PARAMETERS.match(line):
            scale = {"K": 1e3, "M": 1e6, "B": 1e9}[match[2]]
            count = to_float(match[1]) * scale
            if count > 0:
                self.facts["parameters"] = Fact(round(count), source)
        elif not self._begun and (match := _ASSIGNMENT.match(line)):
            # nanoGPT prints the text of a configuration file it executes.
            self._override(match[1], match[2], source)
        yield from ()

    def _override(self, name: str, raw: str, source: str) -> None:
        if name == "eval_iters":
            self._eval_iters = to_int(raw)
        elif name == "decay_lr" and raw in ("True", "False"):
            self._decay_lr = raw == "True"
            self.facts["schedule"] = Fact("cosine" if self._decay_lr else "constant", source)
        elif key := _OVERRIDES.get(name):
            value = to_float(raw)
            if value != value or value < 0 or value in (float("inf"),):
                return
            if key in _WHOLE and not value.is_integer():
                return
            if value == 0 and key in ("micro_batch", "grad_accum", "block_size", "n_layer", "n_head", "n_embd",
                                      "decay_steps", "max_steps", "lr"):  # fmt: skip
                return
            self.facts[key] = Fact(int(value) if key in _WHOLE else value, source)
