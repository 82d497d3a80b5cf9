"""The diagnosis as plain lines of text: for `gptbench explain`, the plateau pane and a pager alike."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from workbench.plateau import advice
from workbench.plateau.cause import Finding
from workbench.plateau.diagnose import Diagnosis, RankedCause
from workbench.plateau.interval import Interval
from workbench.plateau.table import evidence_rows
from workbench.plateau.verdict import DIVERGING
from workbench.runs.history import History
from workbench.text import plain

_BAR = 10
_IN_FULL = 0.2  # causes below this are named in one line


def report_lines(diagnosis: Diagnosis, history: History, width: int = 80) -> list[str]:
    """The whole report, wrapped to ``width`` columns; safe to print (foreign text is made plain)."""
    parts = [
        _verdict(diagnosis, width),
        _decision(diagnosis, width),
        _table(diagnosis, width),
        _causes(diagnosis, width),
        _advice(diagnosis, width),
        _missing(diagnosis, width),
        wrap("TL;DR  ", diagnosis.tldr, width),
    ]
    lines: list[str] = []
    for part in parts:
        block = list(part)
        if block:
            lines += [*block, ""]
    return lines[:-1]


def bar(probability: float, cells: int = _BAR) -> str:
    """A probability as a bar of blocks."""
    full = round(probability * cells)
    return "█" * full + "░" * (cells - full)


def wrap(lead: str, text: str, width: int) -> Iterator[str]:
    """``text`` behind ``lead``, its further lines set in."""
    body = textwrap.wrap(plain(text), max(20, width - len(lead)), break_long_words=True, break_on_hyphens=False)
    for i, line in enumerate(body or [""]):
        yield (lead if i == 0 else " " * len(lead)) + line


def _verdict(d: Diagnosis, width: int) -> Iterator[str]:
    yield from wrap("", f"{d.verdict.name.replace('_', ' ').upper()}: {d.verdict.why}.", width)
    e = d.evidence
    yield from wrap("", f"Expected loss: {expected(d)}.", width)
    noise = "unknown" if e.noise.eval_se is None else f"{e.noise.eval_se:.4f}"
    yield from wrap("", f"Noise of an evaluation: {noise} ({e.noise.basis}). {level_known(d)}".rstrip(), width)


def expected(d: Diagnosis) -> str:
    """The loss that this size and these tokens should have given, and what that rests on."""
    level = d.evidence.level
    if level.loss is None:
        return level.basis
    held = "" if d.evidence.main_is_heldout else " on held-out text, of which this run has no loss"
    return f"{level.loss}{held}, by {level.basis}"


def level_known(d: Diagnosis) -> str:
    """How far the held-out level itself is known; "" where there is none."""
    e = d.evidence
    if not e.main_is_heldout:
        return ""
    if e.noise.level_se is not None:
        return f"The level is known to ± {e.noise.level_se:.3f}."
    tokens = e.facts.number("val_tokens")
    if tokens is None:
        return "How well the level is known cannot be said: the held-out set may be tiny."
    return f"The level rests on {tokens:,.0f} held-out tokens."


def _table(d: Diagnosis, width: int) -> Iterator[str]:
    rows = evidence_rows(d.evidence)
    if not rows:
        return
    name = "val loss" if d.evidence.main_is_heldout else "train loss"
    yield f"{'step':>8}  {name + ' ± noise':<18}  what changed"
    for row in rows:
        noise = "" if row.noise is None else f" ± {row.noise:.4f}"
        for line in wrap(f"{row.step:>8}  {f'{row.loss:.4f}{noise}':<18}  ", row.comment, width):
            yield line.rstrip()


def _causes(d: Diagnosis, width: int) -> Iterator[str]:
    shown = [c for c in d.causes if c.probability >= _IN_FULL]
    if d.probable:
        yield "Why"
    else:
        yield from wrap("", "Why: no cause is more probable than not.", width)
    for cause in shown:
        yield from _cause(cause, width)
    rest = [c for c in d.causes if c not in shown]
    named = [f"{c.id} {c.probability:.0%}" for c in rest if c.probability >= 0.01]
    if others := len(rest) - len(named):
        named.append(f"{others} other{'s' if others > 1 else ''} below 1%")
    if named:
        yield from wrap("  unlikely: ", ", ".join(named), width)


def _cause(cause: RankedCause, width: int) -> Iterator[str]:
    tied = f", tied with {', '.join(cause.tied_with)}: the metrics cannot tell them apart" if cause.tied_with else ""
    confirmed = {None: "", True: ", confirmed by experiment", False: ", refuted by experiment"}[cause.confirmed]
    lead = f"  {bar(cause.probability)} {cause.probability:4.0%}  "
    yield from wrap(lead, f"{cause.title} [{cause.id}]{confirmed}{tied}", width)
    yield from _findings("      + ", cause.speaking_for, width)
    yield from _findings("      − ", cause.against, width)
    for text in cause.assessment.missing:
        yield from wrap("      ? ", text, width)
    if cause.probability > 0.3 and cause.confirmed is None:
        yield from _settle(cause, width)


def _settle(cause: RankedCause, width: int) -> Iterator[str]:
    if cause.probe is None:
        yield from wrap("      no short experiment settles it; what would: ", cause.instead, width)
        return
    cost = f" ({cause.probe.cost_fraction:.1%} of the compute so far)" if cause.probe_command else ""
    yield from wrap("      settle it: ", cause.probe.what + cost, width)
    if cause.probe.refused:
        yield from wrap("        not here: ", cause.probe.refused, width)
    elif cause.probe_command:
        yield from command(cause.probe_command, width)


def command(text: str, width: int) -> Iterator[str]:
    """A command line to copy, its options on lines behind it where it is long."""
    lead = "      $ "
    if len(lead + text) <= width:
        yield lead + plain(text)
        return
    first, *options = plain(text).split(" --")
    rows = [lead + first]
    for option in options:
        if len(f"{rows[-1]} --{option} \\") <= width and len(rows) > 1:
            rows[-1] += f" --{option}"
        else:
            rows.append(f"          --{option}")
    yield from (f"{row} \\" for row in rows[:-1])
    yield rows[-1]


def _findings(lead: str, findings: list[Finding], width: int) -> Iterator[str]:
    for finding in findings:
        yield from wrap(lead, finding.text, width)


def _advice(d: Diagnosis, width: int) -> Iterator[str]:
    yield "What to do instead" if d.probable else "What would make it better"
    if d.why_first:
        yield from wrap("Fix first: ", f"{d.why_first}.", width)
    for number, cause in enumerate(d.to_fix, start=1):
        yield from wrap(f"  {number}. ", f"{fix_of(d, cause)} {_gain(cause.assessment.gain)}", width)
        if cause.fix_command:
            yield from command(cause.fix_command, width)
    if d.verdict.name != DIVERGING:
        yield from _levers(d, width)


def fix_of(d: Diagnosis, cause: RankedCause) -> str:
    """What undoes a cause; of the one that the decision is about, that it stands there."""
    fix = cause.assessment.fix
    return f"As decided, against {cause.id}:" if fix == d.decision["line"] else fix


def _levers(d: Diagnosis, width: int) -> Iterator[str]:
    for heading, texts, tied in advice.levers([v.to_dict() for v in d.levers]):
        if heading:
            yield f"  {heading}"
        for text in texts:
            yield from wrap("  - ", text, width)
        if tied:
            yield from wrap("    ", advice.TIED, width)


def _decision(d: Diagnosis, width: int) -> Iterator[str]:
    yield from wrap("Decision: ", d.decision["line"], width)
    for lead, text, typed in advice.choices(d.decision):
        yield from wrap(f"  {lead:<20}  ", text, width)
        if typed:
            yield from command(typed, width)


def _gain(gain: Interval | None) -> str:
    return "(gain: not computable here)" if gain is None else f"gain {gain} nats"


def _missing(d: Diagnosis, width: int) -> Iterator[str]:
    if not d.missing:
        return
    yield "What would be needed to know more"
    for key, what in d.missing.items():
        yield from wrap(f"  {key}: ", what, width)
