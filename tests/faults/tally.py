"""Faults, counted: each one is injected inside ``with fault(kind):`` and survived unless what stands inside fails."""

from __future__ import annotations

import contextlib
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

PROPERTY = "fault"


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

    def lines(self) -> list[str]:
        """The table: what was survived, in all and by kind."""
        total, kept = self.injected.total(), self.survived.total()
        width = max(map(len, self.injected), default=0)
        rows = [
            f"  {kind:<{width}}  {self.survived[kind]:>4} of {self.injected[kind]}" for kind in sorted(self.injected)
        ]
        return [*rows, f"survived {kept} of {total} faults, of {len(self.injected)} kinds"]
