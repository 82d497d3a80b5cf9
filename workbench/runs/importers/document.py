"""A JSON document that holds a run: Hugging Face's ``trainer_state.json``, or any array of rows with step and loss.

Read as a stream of flat objects (those without an object inside), whatever lies around them, so that neither a single
line of gigabytes nor deep nesting costs memory. Read to their last step: the ``trainer_state.json`` of two public
projects (aigoncharov/trainer_state_viz, Jaong/Checkpoint-of-CPT).
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workbench.runs.facts import Fact
from workbench.runs.importers import columns
from workbench.runs.importers.importer import Event, to_float
from workbench.runs.importers.lines import head

MAX_OBJECT = 1 << 16
_CHUNK = 1 << 18
_FLAT = re.compile(r"\{[^{}]*\}")
_STATE = re.compile(r'"(max_steps|num_train_epochs|train_batch_size|num_input_tokens_seen|global_step)":\s*([\d.]+)')
_SPLIT = re.compile(r"eval_(.+)_loss$")


def score(path: Path) -> int:
    """Twice the rows with a step and a loss among the first ones of a file that begins as a JSON document does."""
    text = head(path, 1 << 20).decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
    if not text.startswith(("{", "[")):
        return 0
    rows = (_row(match[0]) for match in _FLAT.finditer(text))
    return 2 * sum(1 for row in rows if row and _usable(row))


class Document:
    """Reads a JSON document; see the module. Written anew whenever it grows, hence never appendable."""

    format = "JSON document (Hugging Face trainer_state.json)"
    appendable = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self.facts: dict[str, Fact] = {}
        self.offset = 0
        self.lines = 0
        self._steps = False  # whether losses of steps were told
        self._rows = columns.Rows()

    def events(self, last: bool, until: int | None) -> Iterator[Event]:
        newest = 0
        for text in self._objects():
            row = _row(text)
            if row is None:
                continue
            self.lines += 1
            # The last entry's train_loss is the mean of the whole run.
            summary = "train_runtime" in row or (self._steps and "train_loss" in row and "loss" not in row)
            if summary or not _usable(row):
                continue
            self._steps |= "loss" in row
            for event in self._events(row):
                newest = max(newest, int(event.get("step", 0)))
                yield event
        planned = self.facts.get("max_steps")
        if planned is not None:
            yield {"event": "start", "schema": 1, "max_steps": planned.value}
            if newest >= planned.value:
                yield {"event": "stop", "step": newest, "reason": "finished"}

    def _events(self, row: dict[str, Any]) -> Iterator[Event]:
        yield from self._rows.events(self.lines, row, columns.roles(row))
        step, epoch = row.get("step"), row.get("epoch")
        for key, value in row.items():
            match = _SPLIT.match(key)
            if match and isinstance(value, (int, float)) and isinstance(step, (int, float)):
                yield {"event": "eval", "step": int(step), "split": match[1][:40], "loss": float(value)}
        if isinstance(epoch, (int, float)) and not isinstance(epoch, bool) and 0 < epoch < 1e9:
            self.facts["epochs"] = Fact(float(epoch), "the log's epoch")

    def _objects(self) -> Iterator[str]:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        rest = ""
        self.offset = 0
        with self.path.open("rb") as file:
            while raw := file.read(_CHUNK):
                self.offset += len(raw)
                text, begin = rest + decoder.decode(raw), 0
                for match in _FLAT.finditer(text):
                    self._state(text[begin : match.start()])
                    yield match[0]
                    begin = match.end()
                rest = text[begin:]
                if len(rest) > MAX_OBJECT:
                    self._state(rest)
                    opened = rest.rfind("{")
                    rest = rest[opened:] if opened >= 0 and len(rest) - opened <= MAX_OBJECT else ""
        self._state(rest)

    def _state(self, text: str) -> None:
        """Facts that stand outside the rows."""
        for key, raw in _STATE.findall(text):
            value = to_float(raw)
            if key == "max_steps" and value >= 1:
                self.facts["max_steps"] = Fact(int(value), "trainer_state.json: max_steps")
            elif key == "train_batch_size" and value >= 1:
                self.facts["micro_batch"] = Fact(int(value), "trainer_state.json: train_batch_size (of one device)")
            elif key == "num_input_tokens_seen" and value >= 1:
                self.facts["tokens_seen"] = Fact(int(value), "trainer_state.json: num_input_tokens_seen")


def _usable(row: dict[str, Any]) -> bool:
    return columns.usable(columns.roles(row)) or ("step" in row and any(_SPLIT.match(k) for k in row))


def _row(text: str) -> dict[str, Any] | None:
    if len(text) > MAX_OBJECT:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
