"""What the shards are worth: effective unique tokens, and what takes tokens away. Not computed is –, never 0."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from workbench.text import plain
from workbench.widgets.format import UNKNOWN, bar, count, share, size


class StatisticsPane(Widget):
    """Shows a hint, progress, or figures (``data.statistics.Statistics.to_dict()``)."""

    DEFAULT_CSS = """
    StatisticsPane { height: auto; min-height: 4; padding: 0 1; }
    """
    figures: reactive[Mapping[str, Any] | None] = reactive(None, layout=True)
    progress: reactive[tuple[str, float] | None] = reactive(None, layout=True)
    hint: reactive[str] = reactive("", layout=True)
    over: reactive[str] = reactive("", layout=True)  # which shards, where not all
    shard: reactive[Mapping[str, Any] | None] = reactive(None, layout=True)  # of those, the one under the cursor

    def render(self) -> Content:
        if self.progress is not None:
            stage, fraction = self.progress
            return Content.assemble(
                (bar(fraction, 24), "$text-primary on $foreground 15%"), f" {fraction:4.0%}  {plain(stage)}\n",
                ("s or esc stops counting", "$text-muted"),
            )  # fmt: skip
        if self.figures is None:
            return Content.styled(self.hint, "$text-muted")
        text = figures_text(self.figures, self.over)
        return text if self.shard is None else Content("\n").join([text, shard_text(self.shard)])


def figures_text(f: Mapping[str, Any], over: str = "") -> Content:
    """The figures, what the shards are worth first; ``over``: of which shards, where not of all."""
    rows, copies = f.get("rows"), f.get("exact_duplicate_rows")
    tokens, unique = f.get("tokens"), f.get("unique_tokens")
    basis = plain(f.get("tokens_note") or f.get("tokens_basis") or "")
    copied = f"({share(copies / rows)} of rows)" if copies is not None and rows else ""
    near, effective = f.get("near_duplicate_rows"), f.get("effective_tokens")
    if near is not None:
        low, high = f.get("near_duplicate_rows_low"), f.get("near_duplicate_rows_high")
        estimated = f.get("worth_basis") != "exact"
        copied += f", near copies {'about ' if estimated else ''}{near:,} rows"
        copied += f" ({low:,} – {high:,})" if estimated and low is not None and high is not None else ""
    lines: list[tuple[str, str, str]] = []
    if effective is not None:
        low, high = f.get("effective_tokens_low"), f.get("effective_tokens_high")
        between = f"{share(effective / tokens)} of all" if tokens else ""
        if low is not None and high is not None and low != high:
            between += f", 90% interval {count(low)} – {count(high)}"
        exact = f.get("worth_basis") == "exact"
        lines.append(("effective unique", count(effective), between + ("" if exact else " (estimate; d exactly)")))
        lines.append(("  taken away", "", _taken(f, tokens)))
    elif unique is not None:
        lines.append(("unique tokens", count(unique), "exact copies once; d finds near copies and repeated lines"))
    documents = f"in {f.get('documents') or 0:,} documents, {size(f.get('bytes'))} on disk" + (
        f", {over}" if over else ""
    )
    lines += [
        ("tokens", count(tokens), basis),
        ("exact copies", UNKNOWN if copies is None else f"{copies:,} rows", copied),
        ("text", size(f.get("text_bytes")), documents),
    ]
    return Content("\n").join(
        Content.assemble((f"{label:<17}", "$text-muted"), (value, "bold"), (f" {note.strip()}", "$text-muted"))
        for label, value, note in lines
    )


def shard_text(f: Mapping[str, Any]) -> Content:
    """One shard's effective tokens, and what duplication takes away from it (``data.figures.FileStatistics``)."""
    tokens, unique, effective = f.get("tokens"), f.get("unique_tokens"), f.get("effective_tokens")
    exact = None if tokens is None or unique is None else tokens - unique
    of = {**f, "exact_duplicate_tokens": exact}
    low, high = f.get("effective_tokens_low"), f.get("effective_tokens_high")
    between = f" ({count(low)} – {count(high)})" if low is not None and high is not None and low != high else ""
    worth = f"effective {count(effective)}{between} of {count(tokens)}"
    name = plain(PurePath(str(f.get("file"))).name)
    return Content.assemble(
        (f"{name:<17} ", "$text-muted"), worth, (f" · {_taken(of, tokens)}", "$text-muted")
    )  # fmt: skip


def _taken(f: Mapping[str, Any], tokens: int | None) -> str:
    """What exact, near and boilerplate duplication take away, with their 90% intervals where they are estimates."""
    parts = []
    for name in ("exact", "near", "boilerplate"):
        key = f"{name}_duplicate_tokens" if name != "boilerplate" else "boilerplate_tokens"
        value, low, high = f.get(key), f.get(f"{key}_low"), f.get(f"{key}_high")
        if value is not None:
            notes = [share(value / tokens)] if tokens else []
            notes += [f"{count(low)}–{count(high)}"] if low is not None and high is not None and low != high else []
            parts.append(f"{name} {count(value)}" + (f" ({', '.join(notes)})" if notes else ""))
    return " · ".join(parts)
