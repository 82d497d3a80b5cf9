"""Faults, counted: each one is injected inside ``with fault(kind):`` and survived unless what stands inside fails."""

from __future__ import annotations

import contextlib
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

PROPERTY = "fault"
# What the whole suite injects at least, by how the names of kinds begin.
WANTED = {
    "SIGKILL of the engine": 60, "SIGKILL of the engine: at a random moment": 10,
    "SIGKILL of the engine: while it starts": 3, "SIGKILL of the engine: inside a checkpoint's writing": 10,
    "SIGKILL of the engine: at a chosen point": 10, "the workbench gone: SIGKILL": 3, "the workbench gone: SIGHUP": 3,
    "both terminals of a session gone": 4, "disk full: events": 5, "disk full: checkpoints": 5, "disk full: packs": 5,
    "disk full: sketches": 4, "torn last line of events": 300, "two workbenches and commands on one runs folder": 8,
    "two resumes of one run at once": 5, "the clock jumps": 20, "a recycled pid": 10, "runs folder read-only": 20,
    "runs folder's mount gone": 15, "a dead GPU": 11, "shards changed under an engine": 15, "huge events.jsonl": 20,
}  # fmt: skip


class Tally:
    """The faults of one test. One that is not survived does not keep the others from being tried."""

    def __init__(self, properties: list[tuple[str, Any]]) -> None:
        self._properties = properties
        self.failures: list[str] = []

    @contextlib.contextmanager
    def __call__(self, *kinds: str, detail: object = "") -> Iterator[None]:
        """One fault of each kind named; ``detail`` is told where it is not survived."""
        yield from self.several(kinds, detail)

    def several(self, kinds: Sequence[str], detail: object = "") -> Iterator[None]:
        """As a call; ``kinds`` may grow inside, as faults are injected."""
        survived = False
        try:
            yield
            survived = True
        except Exception:
            self.failures.append(f"{', '.join(dict.fromkeys(kinds))} ({detail}):\n{traceback.format_exc()}")
        finally:
            for kind in kinds:
                self._properties.append((PROPERTY, (kind, survived)))

    chain = contextlib.contextmanager(several)


class Table:
    """Faults of all tests, by kind."""

    def __init__(self) -> None:
        self.injected: Counter[str] = Counter()
        self.survived: Counter[str] = Counter()

    def add(self, properties: Sequence[tuple[str, Any]]) -> None:
        """Take in what a test's report carries."""
        for name, value in properties:
            if name == PROPERTY:
                kind, survived = value
                self.injected[kind] += 1
                self.survived[kind] += bool(survived)

    def total(self) -> int:
        """Faults that were injected."""
        return self.injected.total()

    def missing(self) -> list[str]:
        """Kinds of which the whole suite injected fewer than are wanted."""
        found = {kind: sum(count for name, count in self.injected.items() if name.startswith(kind)) for kind in WANTED}
        return [f"{kind}: {found[kind]}, {least} are wanted" for kind, least in WANTED.items() if found[kind] < least]

    def lines(self) -> list[str]:
        """The table: what was survived, in all and by kind."""
        total, kept = self.injected.total(), self.survived.total()
        width = max(map(len, self.injected), default=0)
        rows = [
            f"  {kind:<{width}}  {self.survived[kind]:>4} of {self.injected[kind]}" for kind in sorted(self.injected)
        ]
        return [*rows, f"survived {kept} of {total} faults, of {len(self.injected)} kinds"]
