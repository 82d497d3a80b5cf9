"""How far a job of several stages is, as one bar that only moves forward."""

from __future__ import annotations

from textual.content import Content

from workbench.text import plain
from workbench.widgets.format import bar

# Stages of the data wing's jobs in their order, and about what share of the time each takes (measured on a corpus of
# 137 MB of text, caches cold). A job that skips some, because a cache holds what they make, jumps over them.
_STAGES: tuple[tuple[tuple[str, float], ...], ...] = (
    (
        ("reading documents", 4.0),
        ("counting tokens", 4.0),
        ("finding exact duplicates", 0.5),
        ("sketching", 4.5),
        ("finding near duplicates", 0.7),
        ("comparing near duplicates", 1.5),
        ("verifying near duplicates", 0.5),
        ("counting repeated lines", 0.7),
    ),
    (
        ("reading documents", 4.0),
        ("finding exact duplicates", 0.5),
        ("looking at documents", 4.0),
        ("sampling documents", 2.0),
        ("finding near duplicates", 0.7),
        ("comparing near duplicates", 1.0),
        ("verifying near duplicates", 0.5),
    ),
)


class Progress:
    """Stages told one after the other become one fraction, which never falls.

    Attributes:
        fraction: of the whole job, in [0, 1].
        stage: what is being done.
    """

    def __init__(self, stage: str = "", *, estimate: bool = False) -> None:
        self._weights = dict(_STAGES[1 if estimate else 0])
        self.fraction, self.stage = 0.0, stage

    def tell(self, stage: str, fraction: float) -> None:
        """A stage is so far done; one that is not known counts for itself."""
        self.stage = stage
        if stage not in self._weights:
            self.fraction = max(self.fraction, fraction)
            return
        names = list(self._weights)
        before = sum(self._weights[name] for name in names[: names.index(stage)])
        done = before + self._weights[stage] * max(0.0, min(1.0, fraction))
        self.fraction = max(self.fraction, done / sum(self._weights.values()))

    def line(self, stops: str, width: int = 24) -> Content:
        """Bar, share, stage, and the key that stops it."""
        return Content.assemble(
            (bar(self.fraction, width), "$text-primary on $foreground 15%"),
            f" {self.fraction:4.0%}  {plain(self.stage)}",
            (f"  ·  {stops}" if stops else "", "$text-muted"),
        )
