"""Why a run is as it is: each cause with its probability, what speaks for and against it, and the fix.

It shows the JSON that ``gptbench explain --json`` answers, whoever made it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

from textual.binding import Binding
from textual.content import Content

from workbench.plateau import advice
from workbench.text import plain
from workbench.widgets.format import bar
from workbench.widgets.text_pane import TextPane

VERDICT_COLOURS = {
    "improving": "$text-success",
    "finished": "$text-primary",
    "plateau": "$text-warning",
    "overfitting": "$text-error",
    "diverging": "$text-error",
    "not_enough_evidence": "$text-muted",
}
_BAR = 8
_SHOWN = 0.05  # causes below this stay out, unless an experiment settled them
_LIKELY = 0.5  # from here on the likeliest cause is opened by itself


class PlateauPane(TextPane):
    """``show`` takes a diagnosis; ``hint`` says what is missing until there is one.

    One cause is under the cursor; enter opens it to its evidence, or closes it.
    """

    BINDINGS = [
        Binding("j,down", "move(1)", "Down", show=False),
        Binding("k,up", "move(-1)", "Up", show=False),
        Binding("g,home", "edge(-1)", "Top", show=False),
        Binding("G,end", "edge(1)", "End", show=False),
        Binding("enter", "open", "Open", show=False),
    ]

    def __init__(self, *, hint: str = "", id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.hint = hint
        self.diagnosis: Mapping[str, Any] | None = None
        self.cursor = ""  # id of the cause under the cursor
        self._toggled: set[str] = set()  # causes whose state enter has changed
        self._begins: dict[str, tuple[int, int]] = {}  # first line of each cause, and the one behind its last

    @property
    def current(self) -> Mapping[str, Any] | None:
        """The cause under the cursor, as the diagnosis has it."""
        return next((c for c in likely(self.diagnosis or {}) if c.get("id") == self.cursor), None)

    def show(self, diagnosis: Mapping[str, Any] | None) -> None:
        """Show another diagnosis, or the hint again."""
        if diagnosis is None:
            self.cursor = ""
            self._toggled.clear()
        self.diagnosis = diagnosis
        names = [str(c.get("id")) for c in likely(diagnosis or {})]
        if self.cursor not in names:
            self.cursor = names[0] if names else ""
        self.lay_out()

    def action_open(self) -> None:
        """Open the cause under the cursor to its evidence, or close it."""
        if self.cursor:
            self._toggled ^= {self.cursor}
            self.lay_out()
            self.call_after_refresh(self._into_view)

    def action_move(self, direction: int) -> None:
        """The next or the previous cause; first through what the view does not hold of this one."""
        names = list(self._begins)
        if self.cursor in names:
            first, end = self._begins[self.cursor]
            top, height = round(self.scroll_offset.y), self.scrollable_content_region.height
            hidden = end > top + height if direction > 0 else first < top
            at = names.index(self.cursor) + direction
            if not hidden and 0 <= at < len(names):
                self.cursor = names[at]
                self.lay_out()
                self._into_view(from_below=direction < 0)
                return
        self.scroll_relative(y=direction, animate=False)

    def action_edge(self, direction: int) -> None:
        """The first or the last cause, and the end of the sheet."""
        if self._begins:
            self.cursor = list(self._begins)[0 if direction < 0 else -1]
            self.lay_out()
        if direction < 0:
            self.scroll_home(animate=False)
        else:
            self.scroll_end(animate=False)

    def _into_view(self, from_below: bool = False) -> None:
        if self.cursor not in self._begins:
            return
        first, end = self._begins[self.cursor]
        top, height = round(self.scroll_offset.y), self.scrollable_content_region.height
        if first >= top and end <= top + height:
            return
        fits = end - first <= height
        to = end - height if (fits and first >= top) or (from_below and not fits) else first
        self.scroll_to(y=max(0, to), animate=False)

    def lines(self, width: int) -> list[Content]:
        """The diagnosis, or the hint."""
        self._begins = {}
        if self.diagnosis is None:
            return list(_wrapped("", self.hint, width, "$text-muted"))
        return lines(self.diagnosis, width, self.cursor, self._toggled, self._begins)


def likely(diagnosis: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The causes that are shown, the likeliest first."""
    return [c for c in _ranked(diagnosis) if _probability(c) >= _SHOWN or c.get("confirmed") is not None]


def settled(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> list[str]:
    """What experiments have said since the diagnosis before; nothing where there was none."""
    if before is None:
        return []
    known = {c.get("id"): c.get("experiment") for c in before.get("causes") or ()}
    words = {True: "confirmed", False: "refuted", None: "undecided"}
    return [
        f"{c.get('id')}: {words.get(c.get('confirmed'), 'undecided')} by experiment"
        for c in now.get("causes") or ()
        if c.get("experiment") and c.get("experiment") != known.get(c.get("id"))
    ]


def verdict_line(diagnosis: Mapping[str, Any]) -> Content:
    """The verdict and its likeliest cause, on one line; how the run stands where no cause is likely."""
    verdict = str(diagnosis.get("verdict") or "not_enough_evidence")
    colour, causes = f"bold {VERDICT_COLOURS.get(verdict, '')}", _ranked(diagnosis)
    line = Content.styled(plain(verdict).replace("_", " "), colour)
    if causes and _probability(causes[0]) >= _LIKELY:
        lead = "; suspected: " if verdict in ("improving", "not_enough_evidence") else ": "
        line += Content.assemble(lead, plain(causes[0].get("title") or causes[0].get("id")))
        return line + Content.styled(f" {_probability(causes[0]):.0%}", "bold")
    if diagnosis.get("standing"):
        return Content.styled(plain(diagnosis["standing"]), colour)
    return line + Content.assemble(": ", plain(diagnosis.get("why_verdict") or ""))


def lines(
    diagnosis: Mapping[str, Any],
    width: int,
    cursor: str | None = None,
    toggled: Container[str] = (),
    begins: dict[str, tuple[int, int]] | None = None,
) -> list[Content]:
    """The diagnosis, wrapped to ``width``, but for what ``verdict_line`` says.

    Args:
        cursor: the cause under it; None: no cursor, and every cause open.
        toggled: causes that are not as they are by themselves (open: the likeliest, if it is probable).
        begins: takes the first line of each cause, and the one behind its last.
    """
    shown = list(_wrapped("", diagnosis.get("why_verdict"), width))
    if expected := advice.interval(diagnosis.get("expected_loss")):
        shown += _wrapped("", f"expected of this size and these tokens: {expected}", width)
    shown += _decision(diagnosis, width)
    causes = likely(diagnosis)
    if diagnosis.get("causes") and not causes:
        text = f"no cause is likely: {len(diagnosis['causes'])} looked at, all below {_SHOWN:.0%}"
        shown += [Content(""), *_wrapped("", text, width, "$text-muted")]
    if causes:
        shown.append(Content(""))
    for number, cause in enumerate(causes):
        name = str(cause.get("id"))
        by_itself = number == 0 and _probability(cause) >= _LIKELY
        is_open = cursor is None or by_itself != (name in toggled)
        first = len(shown)
        shown += _cause(cause, width, None if cursor is None else name == cursor, is_open)
        if is_open:
            shown += _evidence(cause, width, (diagnosis.get("decision") or {}).get("line"))
        if begins is not None:
            begins[name] = first, len(shown)
    shown += _advice(diagnosis, width)
    shown += _table(diagnosis, width)
    if missing := diagnosis.get("missing") or []:
        shown += [Content(""), Content.styled("what would be needed to know more", "bold")]
        for item in missing:
            shown += _wrapped("  ? ", f"{item.get('fact')}: {item.get('would_change')}", width, "$text-muted")
    return shown


def _decision(diagnosis: Mapping[str, Any], width: int) -> Iterator[Content]:
    decision = diagnosis.get("decision") or {}
    if not decision.get("line"):
        return
    yield Content("")
    yield from _wrapped("▶ ", decision["line"], width, "bold $text-accent")
    for lead, text, _ in advice.choices(decision):
        yield from _wrapped("  ", f"{lead}: {text}", width)


def _advice(diagnosis: Mapping[str, Any], width: int) -> Iterator[Content]:
    levers = diagnosis.get("levers") or []
    if not levers or diagnosis.get("verdict") == "diverging":
        return
    yield Content("")
    yield Content.styled("what would make it better", "bold")
    for heading, texts, tied in advice.levers(levers):
        if heading:
            yield from _wrapped("  ", heading.lower(), width, "$text-muted")
        for text in texts:
            yield from _wrapped("  ▸ ", text, width)
        if tied:
            yield from _wrapped("    ", advice.TIED, width, "$text-muted")


def _table(diagnosis: Mapping[str, Any], width: int) -> Iterator[Content]:
    rows = diagnosis.get("table") or []
    if not rows:
        return
    yield Content("")
    yield Content.styled("evidence", "bold")
    yield from _wrapped("", f"{'step':>8}  {'loss ± noise':<15}  what changed", width, "$text-muted")
    for row in rows:
        noise = "" if row.get("noise") is None else f" ± {row['noise']:.4f}"
        lead = f"{row['step']:>8}  {row['loss']:.4f}{noise}".ljust(25) + "  "
        if width - len(lead) < 20:
            lead = f"{row['step']:>8}  {row['loss']:.4f}  "
        yield from _wrapped(lead, row.get("changed") or "–", width)


_SAID = {True: " ✓ by experiment", False: " ✗ by experiment"}


def _cause(cause: Mapping[str, Any], width: int, under_cursor: bool | None, is_open: bool) -> Iterator[Content]:
    probability = _probability(cause)
    colour = "$text-error" if probability >= 0.5 else "$text-warning" if probability >= 0.2 else "$text-muted"
    title, confirmed = plain(cause.get("title") or cause.get("id")), cause.get("confirmed")
    sign = "" if under_cursor is None else "▾ " if is_open else "▸ "
    said = _SAID[confirmed] if isinstance(confirmed, bool) else ""
    room = width - _BAR - 6 - len(sign)
    if len(title) + len(said) > room:
        said = said[:2]
    room -= len(said)
    yield Content.assemble(
        (sign, "bold $text-accent" if under_cursor else "$text-muted"),
        (bar(probability, _BAR), f"{colour} on $foreground 10%"),
        (f" {probability:4.0%} ", f"bold {colour}"),
        (title if len(title) <= room else title[: room - 1] + "…", "bold reverse" if under_cursor else "bold"),
        (said, "$text-success" if confirmed else "$text-muted"),
    )


def _evidence(cause: Mapping[str, Any], width: int, decided: str | None) -> Iterator[Content]:
    confirmed = cause.get("confirmed")
    if confirmed is not None:
        text = "confirmed by experiment" if confirmed else "refuted by experiment"
        yield from _wrapped("  ", text, width, "bold")
    for sign, key, style in (("  + ", "for", ""), ("  − ", "against", ""), ("  ? ", "missing", "$text-muted")):
        for item in cause.get(key) or ():
            yield from _wrapped(sign, item.get("text") if isinstance(item, Mapping) else item, width, style)
    if cause.get("fix"):
        yield from _wrapped("  → ", "as decided" if cause["fix"] == decided else cause["fix"], width, "$text-success")
    if gain := _interval(cause.get("predicted_gain")):
        yield from _wrapped("    ", f"expected gain {gain} nat", width, "$text-muted")
    action, probe = cause.get("action"), cause.get("probe")
    if isinstance(action, Mapping) and action.get("kind") not in (None, "none", "stop"):
        what = "branches it off" if action["kind"] == "branch" else "opens Launch with it"
        yield from _wrapped("  F ", what, width, "$text-accent")
    if confirmed is None and isinstance(probe, Mapping):
        if probe.get("refused"):
            yield from _wrapped("    ", f"no probe here: {probe['refused']}", width, "$text-muted")
        else:
            cost = probe.get("cost_fraction")
            share = f" ({cost:.1%} of the compute so far)" if isinstance(cost, (int, float)) else ""
            yield from _wrapped("  p ", f"settles it: {probe.get('what')}{share}", width, "$text-accent")
    elif confirmed is None and cause.get("instead"):
        yield from _wrapped("    ", f"no short experiment settles it: {cause['instead']}", width, "$text-muted")


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
