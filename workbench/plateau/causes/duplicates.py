"""Copies in the training data: one pass over the files reads the same text many times.

Told from repetition by the data statistics: repetition is passes over the *files*, duplicates are copies within them.
Deduplicated data train to a lower loss on fewer tokens (Lee et al. 2022, arXiv 2107.06499); a few documents copied very
often cost more than their share (Hernandez et al. 2022, arXiv 2205.10487).
"""

from __future__ import annotations

from workbench.plateau import law
from workbench.plateau.cause import Action, Assessment, Finding
from workbench.plateau.evidence import Evidence
from workbench.plateau.experiment import Arms
from workbench.plateau.interval import Interval
from workbench.plateau.verdict import Verdict

ID = "duplicates"
TITLE = "Many copies of the same text in the data"
PRIOR = -1.5
PROBE = Arms(
    "each exact text once in place of its copies, from the newest checkpoint, against a plain continuation, both "
    "annealed to zero over the same tokens",
    "once", once=True, refutes=0.01,
)  # fmt: skip


def assess(e: Evidence, verdict: Verdict) -> Assessment:
    """Copies per unique token, against passes over the files; without the statistics there is no telling."""
    findings: list[Finding] = []
    missing: list[str] = []
    split = e.passes
    if split is None:
        missing.append("data statistics (train_tokens, unique_tokens): exact and near copies are not counted")
    else:
        passes, copies = split
        text = f"the files hold each token {copies:.1f} times and were read {passes:.1f} times"
        figures = {"copies": copies, "passes": passes}
        if copies < 1.2:
            weight = -3.5
        elif copies * max(passes, 1) < 4:
            weight = -1.5
        else:
            weight = 2.5 if copies > 2 * passes else 1.0 if copies > passes else -1.0
        findings.append(Finding(text, weight, figures))
    if e.facts["effective_unique_tokens"] is None:
        missing.append("effective_unique_tokens: near copies would add to the exact ones")
    if split is not None and e.gap is not None:
        if e.gap.grows:
            text = f"training text is learnt {e.gap.growth:.2f} better than held-out text since step {e.gap.since:.0f}"
            findings.append(Finding(text, 1.5, {"growth": e.gap.growth}))
        elif e.gap.growth + 2 * e.gap.se < 0.1:
            text = f"training text is learnt no better than held-out text (growth {e.gap.growth:.3f})"
            findings.append(Finding(text, -2.0, {"growth": e.gap.growth}))
    gain = None
    tokens = e.facts.number("tokens_seen")
    if e.expected.loss is not None and e.effective is not None and tokens:
        mid = max(law.data_term(e.effective) - law.data_term(tokens), 0.0)
        gain = Interval(0.5 * mid, mid, 2 * mid)
    elif split is not None and e.gap is not None and e.gap.grows:
        gain = Interval(0.1 * e.gap.growth, 0.4 * e.gap.growth, e.gap.growth)  # as in data_repetition
    learnt = e.gap is not None and e.gap.grows and e.gap.growth > 0.3
    concern = 0.85 if learnt and split is not None and split[1] > 2 * split[0] and split[0] * split[1] > 8 else 0.0
    fix = "Deduplicate the shards (a recipe that keeps one copy of each document), and fill up with other text."
    return Assessment(findings, fix, Action("data"), gain, missing, concern)
