"""The markdown summary of a run: facts, curve, evidence, causes, what to do, and one line to remember.

All text that came from files or people is escaped for markdown and HTML: a run's summary may be read in a browser.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from workbench.atomic import write_atomically
from workbench.export.figures import Figure, figures
from workbench.plateau import advice
from workbench.plateau.diagnose import Diagnosis, RankedCause
from workbench.plateau.interval import Interval
from workbench.plateau.report import bar, expected, fix_of, level_known
from workbench.plateau.table import evidence_rows
from workbench.plateau.verdict import DIVERGING
from workbench.runs.facts import Fact, Facts
from workbench.runs.history import History
from workbench.text import plain

DIAGNOSIS_NAME = "diagnosis.json"
# What markdown or GitHub's dialect would obey inside a line: marks, links and images, tables, mathematics, mentions,
# and addresses that become links by themselves. All our text stands behind a lead, so marks of a line's begin do not.
_SPECIAL = re.compile(r"([\\`*_{}\[\]|~$@#]|(?<=[A-Za-z]):(?=//)|(?<=\bwww)\.)", re.IGNORECASE)
_UNITS = {
    "parameters": "", "tokens_per_step": " tokens", "tokens_seen": " tokens", "unique_tokens": " tokens",
    "effective_unique_tokens": " tokens", "train_tokens": " tokens", "val_tokens": " tokens", "step_seconds": " s",
}  # fmt: skip


def escape(text: object) -> str:
    """Foreign text as one line that markdown and HTML show and do not obey."""
    return _SPECIAL.sub(r"\\\1", html.escape(plain(text), quote=False))


def _code(command: str) -> str:
    """A command as code; as escaped text where a name in it could end the code, or be taken for a link or HTML."""
    return escape(command) if re.search(r"[`<>&\[\]]", command) else f"`{plain(command)}`"


def parts(history: History, facts: Facts, diagnosis: Diagnosis, name: str = "run") -> Iterator[str | Figure]:
    """The summary in order: pieces of markdown, and charts."""
    yield "\n".join([*_head(diagnosis, name), *_decision(diagnosis), *_facts(facts)])
    drawn = list(figures(history, diagnosis))
    if drawn:
        yield "\n## Curve\n\n"
        yield from drawn
    sections = (_evidence, _causes, _advice, _missing)
    yield "\n".join(line for section in sections for line in section(diagnosis))
    yield f"\n**TL;DR** {escape(diagnosis.tldr)}\n"


def summary(
    history: History, facts: Facts, diagnosis: Diagnosis, name: str = "run", images: Callable[[str], str] | None = None
) -> str:
    """The whole summary as markdown.

    Args:
        images: address of a chart's SVG, by the chart's name; None: charts stand as text alone.
    """
    shown: list[str] = []
    for part in parts(history, facts, diagnosis, name):
        if isinstance(part, Figure):
            shown += ["```text", *part.text(), "```", ""]
            if images is not None:
                shown += [f"![{part.title}]({images(part.name)})", ""]
        else:
            shown.append(part.strip("\n") + "\n")
    return "\n".join(shown)


def write_diagnosis(run_dir: Path, answer: dict[str, Any]) -> Path:
    """Write ``diagnosis.json``, whole or not at all."""
    path = run_dir / DIAGNOSIS_NAME
    write_atomically(path, json.dumps(answer, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    return path


def _head(d: Diagnosis, name: str) -> Iterator[str]:
    yield f"# {escape(name)}"
    yield ""
    yield f"**{d.verdict.name.replace('_', ' ')}**: {escape(d.verdict.why)}."
    yield ""
    yield f"Expected loss: {escape(expected(d))}."
    e = d.evidence
    noise = "unknown" if e.noise.eval_se is None else f"{e.noise.eval_se:.4f} nats"
    yield f"Noise of an evaluation: {noise} ({escape(e.noise.basis)}). {level_known(d)}".rstrip()
    yield ""


def _facts(facts: Facts) -> Iterator[str]:
    yield "## Facts"
    yield ""
    yield "| fact | value | source |"
    yield "|---|---|---|"
    for key, fact in facts.items():
        if fact is not None:
            yield f"| `{key}` | {escape(_value(key, fact))} | {escape(fact.source)} |"
    yield ""


def _value(key: str, fact: Fact) -> str:
    value = fact.value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}{_UNITS.get(key, '')}"
    if isinstance(value, float):
        return f"{value:.4g}{_UNITS.get(key, '')}"
    return str(value)


def _evidence(d: Diagnosis) -> Iterator[str]:
    rows = evidence_rows(d.evidence)
    if not rows:
        return
    yield "## Evidence"
    yield ""
    yield f"| step | {'val' if d.evidence.main_is_heldout else 'train'} loss ± noise | what changed |"
    yield "|---:|---|---|"
    for row in rows:
        noise = "" if row.noise is None else f" ± {row.noise:.4f}"
        yield f"| {row.step} | {row.loss:.4f}{noise} | {escape(row.comment)} |"
    yield ""


def _causes(d: Diagnosis) -> Iterator[str]:
    yield "## Why"
    yield ""
    if not d.probable:
        yield "No cause is more probable than not."
        yield ""
    for number, cause in enumerate(d.causes, start=1):
        if cause.probability >= 0.2:
            yield from _cause(number, cause)
    rest = [f"`{c.id}` {c.probability:.0%}" for c in d.causes if c.probability < 0.2]
    if rest:
        yield f"Unlikely: {', '.join(rest)}."
        yield ""


def _cause(number: int, cause: RankedCause) -> Iterator[str]:
    confirmed = {None: "", True: ", confirmed by experiment", False: ", refuted by experiment"}[cause.confirmed]
    yield f"### {number}. {escape(cause.title)} `{bar(cause.probability)}` {cause.probability:.0%}{confirmed}"
    yield ""
    if cause.tied_with:
        yield f"- tied with {', '.join(f'`{name}`' for name in cause.tied_with)}: the metrics cannot tell them apart"
    for lead, findings in (("for", cause.speaking_for), ("against", cause.against)):
        for finding in findings:
            yield f"- {lead}: {escape(finding.text)}"
    for text in cause.assessment.missing:
        yield f"- missing: {escape(text)}"
    if cause.confirmed is None and cause.probe is None:
        yield f"- no short experiment settles it; what would: {escape(cause.instead)}"
    elif cause.confirmed is None and cause.probe is not None:
        cost = f"{cause.probe.cost_fraction:.1%} of the compute so far"
        how = f"{_code(cause.probe_command)} ({cost})" if cause.probe_command else escape(cause.probe.refused)
        yield f"- experiment that would settle it: {escape(cause.probe.what)}: {how}"
    yield ""


def _advice(d: Diagnosis) -> Iterator[str]:
    yield "## What to do instead" if d.probable else "## What would make it better"
    yield ""
    if d.why_first:
        yield f"Fix first: {escape(d.why_first)}."
        yield ""
    for number, cause in enumerate(d.to_fix, start=1):
        yield f"{number}. {escape(fix_of(d, cause))} {_gain(cause.assessment.gain)}"
        if cause.fix_command:
            yield f"   {_code(cause.fix_command)}"
    if d.probable:
        yield ""
    if d.verdict.name != DIVERGING:
        yield from _levers(d)


def _levers(d: Diagnosis) -> Iterator[str]:
    for heading, texts, tied in advice.levers([v.to_dict() for v in d.levers]):
        if heading:
            yield f"{heading}:"
            yield ""
        for text in texts:
            yield f"- {escape(text)}"
        yield ""
        if tied:
            yield f"({advice.TIED})"
            yield ""


def _decision(d: Diagnosis) -> Iterator[str]:
    yield "## Decision"
    yield ""
    yield f"**{escape(d.decision['line'])}**"
    yield ""
    for lead, text, command in advice.choices(d.decision):
        yield f"- {lead}: {escape(text)}" + (f": {_code(command)}" if command else "")
    yield ""


def _gain(gain: Interval | None) -> str:
    return "(gain: not computable here)" if gain is None else f"(gain {gain} nats)"


def _missing(d: Diagnosis) -> Iterator[str]:
    if not d.missing:
        return
    yield "## What would be needed to know more"
    yield ""
    for key, what in d.missing.items():
        yield f"- `{key}`: {escape(what)}"
    yield ""
