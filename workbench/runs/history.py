"""What a run has reported so far, as columns: the one in-memory form that charts, explanation and export read.

Built event by event, from a native run's ``events.jsonl`` or from what an importer read out of a foreign log.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from engine.events import number
from workbench.runs.columns import Columns, FloatArray, Folded

__all__ = ["EVAL_FIELDS", "STEP_FIELDS", "SYSTEM_FIELDS", "Columns", "FloatArray", "History"]

STEP_FIELDS = (
    "step", "time", "tokens", "epoch", "loss", "lr", "grad_norm", "clipped",
    "step_time", "data_wait", "tokens_per_s", "mfu", "memory",
)  # fmt: skip
EVAL_FIELDS = ("step", "time", "tokens", "loss", "se", "documents", "bpb")
SYSTEM_FIELDS = ("time", "gpu_utilisation", "gpu_power", "gpu_temperature", "memory_used", "cpu_percent")
_MEANS = ("loss", "lr", "grad_norm", "clipped", "step_time", "data_wait", "tokens_per_s", "mfu")
_QUIET = 60.0  # seconds
_FIRST_STEP = 1800.0
_RECENT = 2000  # steps whose pauses say how long one may be
MAX_MARKS = 10_000  # events of a kind that are kept; a log of billions of lines must not fill memory
MAX_TEXT = 8 << 20  # characters in all events of a kind


class Marks(list[dict[str, Any]]):
    """Events of one kind, in order: the newest, at most ``MAX_MARKS`` of them and about ``MAX_TEXT`` characters."""

    def __init__(self, events: Iterable[dict[str, Any]] = ()) -> None:
        super().__init__()
        self._size = 0
        for event in events:
            self.add(event)

    def add(self, event: dict[str, Any]) -> None:
        """Take in the newest."""
        self.append(event)
        self._size += _size(event)
        while len(self) > MAX_MARKS or (self._size > MAX_TEXT and len(self) > 1):
            self._size -= _size(self.pop(0))

    def cut_after(self, step: float) -> None:
        """Drop those above a step, and those that name none."""
        self[:] = [event for event in self if number(event, "step") <= step]
        self._size = sum(map(_size, self))


def _size(event: dict[str, Any]) -> int:
    return sum(len(value) if isinstance(value, str) else len(str(value)) for value in event.values())


class History:
    """All that a run has said. ``apply`` each event in order.

    Attributes:
        start: fields of the (last) ``start`` event, or {}.
        stop: fields of the ``stop`` event if the run ended and was not resumed since, else None.
        steps: training steps (``STEP_FIELDS``), in order of step; a resume has replaced what came after its step.
            Beyond ``columns.MAX_ROWS`` steps a row is several (``columns.Folded``).
        evals: split → evaluations (``EVAL_FIELDS``), never averaged: beyond as many, every second one is dropped.
        resumes, checkpoints, warnings, samples, phases, noise_scales: those events, in order.
        system: newest ``system`` event, or {}; systems: all of them (``SYSTEM_FIELDS``), in order of time.
        got_on: Unix seconds of the newest event but ``system``, which the engine writes even where its loop hangs.
        one_in: of so many steps one is here; 1: all are (``glance`` shows a sample first).
        version: grows with each applied event; tells a reader whether anything changed.
    """

    def __init__(self) -> None:
        self.start: dict[str, Any] = {}
        self.stop: dict[str, Any] | None = None
        self.steps = Folded(STEP_FIELDS, _MEANS, ("loss", "grad_norm"))
        self.evals: dict[str, Folded] = {}
        self.resumes = Marks()
        self.checkpoints = Marks()
        self.warnings = Marks()
        self.samples = Marks()
        self.phases = Marks()
        self.noise_scales = Marks()
        self.system: dict[str, Any] = {}
        self.systems = Folded(SYSTEM_FIELDS, SYSTEM_FIELDS[1:], ())
        self.last_time = self.got_on = math.nan
        self.one_in = 1
        self.version = 0

    @classmethod
    def of(cls, events: Iterable[dict[str, Any]]) -> History:
        """A history of all given events."""
        history = cls()
        for event in events:
            history.apply(event)
        return history

    def apply(self, event: dict[str, Any]) -> None:
        """Take in one event; unknown ones are skipped."""
        self.version += 1
        if not math.isnan(moment := number(event, "time")):
            self.last_time = moment
            if event["event"] != "system":
                self.got_on = moment
        match event["event"]:
            case "step":
                self._insert(self.steps, STEP_FIELDS, event)
            case "eval":
                split = str(event.get("split", "heldout"))
                if split in self.evals or len(self.evals) < 16:
                    self._insert(self.evals.setdefault(split, evaluations()), EVAL_FIELDS, event)
            case "start":
                self.start, self.stop = event, None
            case "resume":
                self._resume(event)
            case "stop":
                self.stop = event
            case "system":
                self.system = event
                if moment > (before := self.systems.last("time")) or (math.isnan(before) and math.isfinite(moment)):
                    self.systems.append(number(event, name) for name in SYSTEM_FIELDS)
            case "checkpoint" | "warning" | "sample" | "phase" | "noise_scale" as kind:
                marks: Marks = getattr(self, f"{kind}s")
                marks.add(event)

    def apply_steps(self, rows: FloatArray) -> bool:
        """Take in many steps at once: float64 [len(STEP_FIELDS), n]. False, and nothing is taken in, where they are
        not in ascending order behind those that are there: ``apply`` knows what to do with such."""
        steps = rows[0]
        before = self.steps.last("step")
        order = np.diff(steps, prepend=-1.0 if math.isnan(before) else before)
        if not len(steps) or not (order > 0).all() or steps[-1] > 2**53:
            return not len(steps)
        self.steps.extend(rows)
        self.version += len(steps)
        times = rows[1][np.isfinite(rows[1])]
        if len(times):
            self.last_time = self.got_on = float(times[-1])
        return True

    @property
    def step(self) -> int:
        """Newest step trained or evaluated, 0 before the first."""
        newest = [c.last("step") for c in (self.steps, *self.evals.values())]
        return int(max((s for s in newest if not math.isnan(s)), default=0))

    @property
    def val(self) -> Columns:
        """Held-out evaluations (empty columns if there are none)."""
        return self.evals.get("heldout", _NO_EVALS)

    @property
    def seen(self) -> Columns:
        """Evaluations on training documents (empty columns if there are none)."""
        return self.evals.get("seen", _NO_EVALS)

    @property
    def max_steps(self) -> int | None:
        """Planned steps, if the run said them."""
        value = number(self.start, "max_steps")
        return None if math.isnan(value) or value <= 0 else int(value)

    def _insert(self, columns: Columns, fields: tuple[str, ...], event: dict[str, Any]) -> None:
        step = number(event, "step")
        if math.isnan(step) or step < 0 or step > 2**53:
            return
        if step <= columns.last("step"):  # said again, after a resume that was not announced
            columns.cut_after(step - 1)
        columns.append(number(event, name) for name in fields)

    def _resume(self, event: dict[str, Any]) -> None:
        step = number(event, "step")
        if math.isnan(step):
            return
        self.stop = None
        self.resumes.add(event)
        for columns in (self.steps, *self.evals.values()):
            columns.cut_after(step)
        for marks in (self.checkpoints, self.samples):
            marks.cut_after(step)


def stalled_for(history: History, now: float, least: float = _QUIET) -> float:
    """Seconds since a running run last got on, where that is long for it; else 0.

    Long is more than ``least`` seconds, thirty steps, and three times its longest pause between two steps so far (an
    evaluation, a checkpoint); before the first step, more than ``_FIRST_STEP`` seconds (packing, compiling)."""
    silent = now - history.got_on
    longest = _FIRST_STEP
    if len(history.steps):
        times = history.steps["time"][-_RECENT:]
        if history.resumes:  # it may have stood still before for a day
            times = times[times >= number(history.resumes[-1], "time")]
        pauses = np.diff(times)
        pace = history.steps["step_time"][-_RECENT:]
        known = [3 * pauses[np.isfinite(pauses)], 30 * pace[np.isfinite(pace)]]
        longest = max([least, *(float(seconds.max()) for seconds in known if len(seconds))])
    return silent if silent > longest else 0.0  # NaN, where no time is known, is not above


def evaluations() -> Folded:
    """Columns for the evaluations of one split."""
    return Folded(EVAL_FIELDS, (), ())


_NO_EVALS = evaluations()
