"""Why a run is as it is: each cause with its probability, what speaks for and against it, and the fix.

It shows the JSON that ``gptbench explain --json`` answers, whoever made it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from workbench.text import plain
from workbench.widgets.format import bar

VERDICT_COLOURS = {
    "improving": "$text-success",
    "finished": "$text-primary",
    "plateau": "$text-warning",
    "overfitting": "$text-error",
    "diverging": "$text-error",
    "not_enough_evidence": "$text-muted",
}
_BAR = 8
_SHOWN = 0.05  # causes below this stay out, unless all are


class PlateauPane(VerticalScroll, can_focus=True):
    """``show`` takes a diagnosis; ``hint`` says what is missing until there is one."""

    DEFAULT_CSS = """
    PlateauPane { scrollbar-gutter: stable; }
    PlateauPane > Static { width: 1fr; height: auto; padding: 0 1; }
    """
    BINDINGS = [
        Binding("j", "scroll_down", "Down", show=False),
        Binding("k", "scroll_up", "Up", show=False),
        Binding("g", "scroll_home", "Top", show=False),
        Binding("G", "scroll_end", "End", show=False),
    ]

    def __init__(self, *, hint: str = "", id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.hint = hint
        self.diagnosis: Mapping[str, Any] | None = None

    def compose(self) -> ComposeResult:
        """One sheet of text."""
        yield Static(Content.styled(self.hint, "$text-muted"))

    def show(self, diagnosis: Mapping[str, Any] | None) -> None:
        """Show another diagnosis, or the hint again."""
        self.diagnosis = diagnosis
        self._lay_out()

    def on_resize(self) -> None:
        """Wrap anew."""
        self._lay_out()

    def _lay_out(self) -> None:
        width = max(20, self.scrollable_content_region.width - 2)
        if self.diagnosis is None:
            self.query_one(Static).update(Content.styled(self.hint, "$text-muted"))
        else:
            self.query_one(Static).update(Content("\n").join(list(lines(self.diagnosis, width))))


def verdict_line(diagnosis: Mapping[str, Any]) -> Content:
    """The verdict and its likeliest cause, on one line."""
    verdict = str(diagnosis.get("verdict") or "not_enough_evidence")
    line = Content.styled(plain(verdict).replace("_", " "), f"bold {VERDICT_COLOURS.get(verdict, '')}")
    causes = _ranked(diagnosis)
    if causes and _probability(causes[0]) >= 0.5:
        lead = "; suspected: " if verdict in ("improving", "not_enough_evidence") else ": "
        line += Content.assemble(lead, plain(causes[0].get("title") or causes[0].get("id")))
        return line + Content.styled(f" {_probability(causes[0]):.0%}", "bold")
    return line + Content.assemble(": ", plain(diagnosis.get("why_verdict") or ""))


def lines(diagnosis: Mapping[str, Any], width: int) -> Iterator[Content]:
    """The whole diagnosis, wrapped to ``width``."""
    if diagnosis.get("tldr") and diagnosis["tldr"] != diagnosis.get("why_verdict"):
        yield from _wrapped("", diagnosis["tldr"], width, "bold")
    if str(diagnosis.get("why_verdict") or "").casefold() not in str(diagnosis.get("tldr") or "").casefold():
        yield from _wrapped("", diagnosis["why_verdict"], width)
    causes = _ranked(diagnosis)
    likely = [cause for cause in causes if _probability(cause) >= _SHOWN]
    if causes and not likely:
        yield Content("")
        yield from _wrapped(
            "", f"no cause is likely: {len(causes)} looked at, all below {_SHOWN:.0%}", width, "$text-muted"
        )
    for cause in likely:
        yield Content("")
        yield from _cause(cause, width)
    if levers := diagnosis.get("levers") or []:
        yield Content("")
        yield Content.styled("what would make it better", "bold")
        for lever in levers:
            gain = _interval(lever.get("gain_equal_tokens"))
            yield from _wrapped(
                "  ▸ ", plain(lever.get("text")) + (f" (gain {gain} nat at equal tokens)" if gain else ""), width
            )


def _cause(cause: Mapping[str, Any], width: int) -> Iterator[Content]:
    probability = _probability(cause)
    colour = "$text-error" if probability >= 0.5 else "$text-warning" if probability >= 0.2 else "$text-muted"
    title = plain(cause.get("title") or cause.get("id"))
    room = width - _BAR - 6
    yield Content.assemble(
        (bar(probability, _BAR), f"{colour} on $foreground 10%"),
        (f" {probability:4.0%} ", f"bold {colour}"),
        (title if len(title) <= room else title[: room - 1] + "…", "bold"),
    )
    confirmed = cause.get("confirmed")
    if confirmed is not None:
        yield from _wrapped("  ", "confirmed by a probe" if confirmed else "refuted by a probe", width, "bold")
    for sign, key, style in (("  + ", "for", ""), ("  − ", "against", ""), ("  ? ", "missing", "$text-muted")):
        for item in cause.get(key) or ():
            yield from _wrapped(sign, item.get("text") if isinstance(item, Mapping) else item, width, style)
    if cause.get("fix"):
        yield from _wrapped("  → ", cause["fix"], width, "$text-success")
    if gain := _interval(cause.get("predicted_gain")):
        yield from _wrapped("    ", f"expected gain {gain} nat", width, "$text-muted")


def _wrapped(lead: str, text: object, width: int, style: str = "") -> Iterator[Content]:
    if not text:
        return
    wrapped = textwrap.wrap(plain(text), max(10, width - len(lead)), break_long_words=True) or [""]
    for i, line in enumerate(wrapped):
        yield Content.styled((lead if i == 0 else " " * len(lead)) + line, style)


def _ranked(diagnosis: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    causes: Sequence[Mapping[str, Any]] = diagnosis.get("causes") or ()
    return sorted(causes, key=_probability, reverse=True)


def _probability(cause: Mapping[str, Any]) -> float:
    value = cause.get("probability")
    return float(value) if isinstance(value, (int, float)) else 0.0


def _interval(value: Any) -> str:
    if not isinstance(value, Mapping) or not all(
        isinstance(value.get(k), (int, float)) for k in ("low", "mid", "high")
    ):
        return ""
    return f"{value['mid']:.3f} ({value['low']:.3f} to {value['high']:.3f})"
