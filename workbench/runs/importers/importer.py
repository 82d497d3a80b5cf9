"""What every log format is to the rest: lines in, events and facts out."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Protocol

from workbench.runs.facts import Fact

Event = dict[str, Any]

NUMBER = r"[-+]?(?:\d[\d,]*\.?\d*(?:[eE][-+]?\d+)?|\.\d+|nan|inf|NaN|Infinity)"
COUNT = r"\d[\d,]*"


class Importer(Protocol):
    """One log format, told by content.

    An instance reads one log, line by line, and holds no more than a few numbers of state. Events follow
    ``engine.events``; steps are numbered as the log numbers them. ``facts`` grows while lines are fed.
    """

    name: ClassVar[str]
    facts: dict[str, Fact]

    @classmethod
    def score(cls, head: Sequence[str]) -> int:
        """How many of a log's first lines are of this format; 0: it is another one's."""
        ...

    def feed(self, line_number: int, line: str) -> Iterator[Event]:
        """Events of one line (numbered from 1)."""
        ...

    def finish(self) -> Iterator[Event]:
        """Events that only the end of the log settles; may be asked again after more lines."""
        ...


class Stage:
    """Watches the step numbers of a log: a step below the last one is a resume, or a new run in the same file."""

    def __init__(self) -> None:
        self.last = -1
        self._recent: deque[tuple[int, str]] = deque(maxlen=512)

    def restart(self, step: int, line_number: int) -> Iterator[Event]:
        """Events that say so, where ``step`` falls back; later steps then replace earlier ones."""
        if step < self.last:
            yield {"event": "resume", "step": step - 1}
            yield {
                "event": "warning",
                "step": step,
                "text": f"log line {line_number}: the step falls back from {self.last} to {step}; what follows counts",
            }
        self.last = step

    def repeated(self, step: int, value: str) -> bool:
        """Whether this very step and value stood in the log a moment ago: the same line, printed once per rank."""
        key = (step, value)
        if key in self._recent:
            return True
        self._recent.append(key)
        return False


class LineImporter:
    """What formats of one event a line have in common: facts, the ``start`` event, duplicates, restarts, the end."""

    name: ClassVar[str]

    def __init__(self) -> None:
        self.facts: dict[str, Fact] = {}
        self.stage = Stage()
        self._started: tuple[Any, ...] | None = None

    def state(self, key: str, value: float | str | bool | None, source: str) -> None:
        """Take in a fact; a number must be finite and above 0 (``dropout``, ``weight_decay`` and such may be 0)."""
        if value is None:
            return
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            zero_allowed = key in ("dropout", "weight_decay", "grad_clip", "min_lr", "warmup_steps", "epochs")
            if not (0 <= value < float("inf")) or (value == 0 and not zero_allowed):
                return
        self.facts[key] = Fact(value, source)

    def trained(self, line_number: int, step: int | None, raw: str, **fields: float | None) -> Iterator[Event]:
        """The ``step`` event of a line; ``raw`` is the loss as printed, by which copies of a line are known."""
        if step is None or self.stage.repeated(step, raw):
            return
        yield from self._begin()
        yield from self.stage.restart(step, line_number)
        event: Event = {"event": "step", "step": step}
        tokens = self.facts.get("tokens_per_step")
        if tokens is not None and "tokens" not in fields:
            event["tokens"] = step * tokens.value
        yield {**event, **{k: v for k, v in fields.items() if v is not None}}

    def evaluated(
        self, line_number: int, step: int | None, raw: str, split: str = "heldout", **fields: float
    ) -> Iterator[Event]:
        """The ``eval`` event of a line, its loss as printed."""
        if step is None or self.stage.repeated(step, f"{split} {raw}"):
            return
        yield from self._begin()
        yield from self.stage.restart(step, line_number)
        yield {"event": "eval", "step": step, "split": split, "loss": to_float(raw), **fields}

    def finish(self) -> Iterator[Event]:
        planned = self.facts.get("max_steps")
        if planned is not None and self.stage.last >= planned.value:
            yield {"event": "stop", "step": self.stage.last, "reason": "finished"}

    def _begin(self) -> Iterator[Event]:
        keys = ("parameters", "tokens_per_step", "max_steps")
        known = tuple(self.facts[k].value if k in self.facts else None for k in keys)
        if known != self._started:
            self._started = known
            said = {k: v for k, v in zip(keys, known, strict=True) if v is not None}
            yield {"event": "start", "schema": 1, **said}


def to_float(text: str) -> float:
    """A number as logs print it (``1,234.5``, ``nan``); NaN where it is none."""
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return float("nan")


def to_int(text: str) -> int | None:
    """A step as logs print it, or None where it is none that a run can reach."""
    digits = text.replace(",", "")
    return int(digits) if re.fullmatch(r"\d{1,15}", digits) else None


def found(pattern: re.Pattern[str], line: str, unit: float = 1.0) -> float | None:
    """The number that a pattern's first group catches in a line, times ``unit``; None where it catches none."""
    match = pattern.search(line)
    if match is None:
        return None
    value = to_float(match[1])
    return value * unit if value == value else None
