"""What the model wrote while it was trained: the newest first, the prompt set off from what was written behind it."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from textual.content import Content

from engine.events import number
from workbench.text import plain
from workbench.widgets.text_pane import TextPane

_LONGEST = 4000  # characters shown of one text


class SamplesPane(TextPane):
    """``show`` takes ``sample`` events, in order (``engine.events``)."""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.samples: Sequence[Mapping[str, Any]] = ()

    def show(self, samples: Sequence[Mapping[str, Any]]) -> None:
        """Show these samples."""
        self.samples = samples
        self.lay_out()

    def lines(self, width: int) -> Iterator[Content]:
        return lines(self.samples, width)


def lines(samples: Sequence[Mapping[str, Any]], width: int) -> Iterator[Content]:
    """All samples wrapped to ``width`` cells: steps from the newest on, the prompts of a step in their order."""
    steps: dict[float, list[Mapping[str, Any]]] = {}
    for sample in samples:
        step = number(dict(sample), "step")
        if not math.isnan(step):
            steps.setdefault(step, []).append(sample)
    for place, (step, written) in enumerate(sorted(steps.items(), reverse=True)):
        if place:
            yield Content("")
        yield Content.styled(f"step {step:,.0f}", "bold")
        for sample in written:
            yield from _sample(sample, width)


def _sample(sample: Mapping[str, Any], width: int) -> Iterator[Content]:
    said = (str(sample.get(key) or "")[:_LONGEST] for key in ("prompt", "text"))
    prompt, text = (plain(" ".join(part.splitlines())) for part in said)
    whole, at = prompt + text, 0
    for i, line in enumerate(textwrap.wrap(whole, max(10, width - 2), drop_whitespace=False) or [""]):
        told = max(0, min(len(line), len(prompt) - at))  # the prompt's part of this line
        at += len(line)
        yield Content.assemble("▸ " if i == 0 else "  ", (line[:told], "$text-muted"), line[told:])
