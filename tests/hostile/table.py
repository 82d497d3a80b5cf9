"""Doors times sinks, counted: how often a hostile text reached a sink, and how often it had no effect there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from tests.hostile.world import DOORS

PROPERTY = "hostile"
SINKS = (
    "Data", "Launch", "Run", "Runs", "--web", "clipboard", "notification", "terminal", "errors", "--json",
    "shell lines", "summary.md", "HTML", "SVG", "PNG", "left out",
)  # fmt: skip


class Counted:
    """What one test saw. A text that has effect does not keep the others from being tried."""

    def __init__(self, properties: list[tuple[str, Any]]) -> None:
        self._properties = properties
        self.failures: list[str] = []

    def add(self, door: str, sink: str, effect: bool, detail: object) -> None:
        """A text reached a sink."""
        self._properties.append((PROPERTY, (door, sink, not effect)))
        if effect:
            self.failures.append(f"{DOORS.get(door, door)} → {sink}: {detail}")


class Table:
    """What all tests saw."""

    def __init__(self) -> None:
        self.reached: Counter[tuple[str, str]] = Counter()
        self.held: Counter[tuple[str, str]] = Counter()

    def add(self, properties: Sequence[tuple[str, Any]]) -> None:
        """Take in what a test's report carries."""
        for name, value in properties:
            if name == PROPERTY:
                door, sink, without_effect = value
                self.reached[door, sink] += 1
                self.held[door, sink] += bool(without_effect)

    def total(self) -> int:
        """Texts that reached a sink."""
        return self.reached.total()

    def missing(self) -> list[str]:
        """Doors and sinks at which nothing was seen: of them nothing is shown."""
        seen = {name for pair in self.reached for name in pair}
        return [f"nothing was seen at: {DOORS.get(name, name)}" for name in (*DOORS, *SINKS) if name not in seen]

    def lines(self) -> list[str]:
        """Rows of doors, columns of sinks: "texts without effect of texts that reached it"."""
        sinks = list(dict.fromkeys([*SINKS, *(sink for _, sink in self.reached)]))
        sinks = [sink for sink in sinks if any(sink == seen for _, seen in self.reached)]
        known = dict.fromkeys([*DOORS, *(door for door, _ in self.reached)])
        doors = [door for door in known if any((door, sink) in self.reached for sink in sinks)]
        width, columns = max(len(DOORS.get(door, door)) for door in doors), [max(9, len(sink)) for sink in sinks]
        rows = [" " * width + "  " + "  ".join(sink.rjust(w) for sink, w in zip(sinks, columns, strict=True))]
        for door in doors:
            cells = []
            for sink, w in zip(sinks, columns, strict=True):
                reached, held = self.reached[door, sink], self.held[door, sink]
                cells.append((f"{held} of {reached}" if reached else "–").rjust(w))
            rows.append(DOORS.get(door, door).ljust(width) + "  " + "  ".join(cells))
        total, kept = self.reached.total(), self.held.total()
        return [*rows, f"no effect: {kept} of {total} hostile texts that reached a sink"]
