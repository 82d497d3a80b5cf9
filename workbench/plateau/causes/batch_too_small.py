"""The batch is too small for the rate: the noise of the gradient sets the floor.

The measure is the gradient noise scale, B_noise = tr(Σ)/|G|² (McCandlish et al. 2018): well below it, steps are mostly
noise. Without it only the batch against a published optimum can be named, and the cause stays tied with the rate's.
"""

from __future__ import annotations

import math

from workbench.plateau.cause import Action, Assessment, Finding, above_expected
from workbench.plateau.evidence import Evidence
from workbench.plateau.experiment import Arms
from workbench.plateau.interval import Interval
from workbench.plateau.signals import FAR, Signals
from workbench.plateau.verdict import PLATEAU, Verdict

ID = "batch_too_small"
TITLE = "The batch is too small for this learning rate"
PRIOR = -2.0
PROBE = Arms(
    "four times the batch by accumulation, from the newest checkpoint, against a plain continuation, both annealed to "
    "zero over the same tokens",
    "batch-x4", batch=4.0, high=True, calms=True, refutes=None,
)  # fmt: skip


def assess(e: Evidence, verdict: Verdict) -> Assessment:
    """The batch against the gradient noise scale, or against the published optimum."""
    findings: list[Finding] = []
    missing: list[str] = []
    s = e.signals
    if s.noise_ratio is not None and s.noise_tokens is not None:
        r = s.noise_ratio
        weight = 3.0 if r < 0.03 else 1.5 if r < 0.1 else 0.0 if r < 0.3 else -3.0
        text = f"a step's tokens are {r:.2g} of the gradient noise scale ({s.noise_tokens:,.0f} tokens)"
        findings.append(Finding(text, weight, {"noise_ratio": r, "noise_tokens": s.noise_tokens}))
    else:
        missing.append("gradient noise scale: without it a small batch cannot be told from a high rate")
    if s.batch_ratio is not None and s.batch is not None:
        r = s.batch_ratio
        weight = 1.5 if r < 1 / 30 else 0.7 if r < 1 / 8 else -0.5 if r < 1 / 2 else -2.5
        text = f"{s.batch:,.0f} tokens a step are {r:.2g} of the published optimum for these tokens"
        findings.append(Finding(text, weight, {"batch_ratio": r}))
    elif s.batch is None:
        missing.append("tokens_per_step: the batch is unknown")
    if s.lr_ratio is not None and s.lr_ratio < 1 / 3:
        text = "the rate is far below the published optima: its noise is small at any batch"
        findings.append(Finding(text, -2.5, {"lr_ratio": s.lr_ratio}))
    hot = _for_batch(s)
    if hot is not None and hot > 3 * FAR:
        text = f"a rate that suits a batch goes with its root: for one so small the peak is {hot:.2g}× the optimum"
        findings.append(Finding(text, 2.0, {"lr_ratio_of_batch": hot}))
    findings += noise_floor(e, verdict)
    findings += above_expected(e, 0.7)
    # At a rate near the optimum of larger batches, steps that are mostly noise set the floor: the rate that suits a
    # batch falls with B / (B + B_noise) (McCandlish et al. 2018).
    measured = s.noise_ratio is not None and s.noise_ratio < 0.1
    below = s.batch_ratio is not None and s.batch_ratio < 1 / 3
    high = s.lr_ratio is not None and s.lr_ratio > 0.5
    seen = (measured and below and high) or (hot is not None and hot > 3 * FAR)
    concern = 0.75 if seen and e.step > 2 * e.warm else 0.0
    accumulate = e.facts.number("grad_accum")
    sets: dict[str, object] = {"train.grad_accum": int(4 * accumulate)} if accumulate else {}
    gain = Interval(0.02, 0.06, 0.2) if s.noise_ratio is not None and s.noise_ratio < 0.1 else None
    fix = "Accumulate gradients over four times as many sequences, from the newest checkpoint on."
    return Assessment(findings, fix, Action("branch", sets, e.step or None), gain, missing, concern)


def _for_batch(s: Signals) -> float | None:
    """The peak rate over what suits a batch far below the optimum (Malladi et al. 2022, arXiv 2205.10287: with its
    root), where the noise scale was not measured; None for other batches."""
    if s.noise_ratio is not None or not s.batch_ratio or s.batch_ratio > 1 / 8 or not s.lr_ratio:
        return None
    return s.lr_ratio / math.sqrt(s.batch_ratio)


def noise_floor(e: Evidence, verdict: Verdict) -> list[Finding]:
    """What speaks for a floor of noise: flat while the rate is high, and not because the data are used up."""
    findings: list[Finding] = []
    if e.rate is None:
        return findings
    if e.rate.floor_since is not None or e.rate.share < 0.1:
        text = f"the rate has come down to {e.rate.share:.0%} of its peak: noise of the steps sets no floor there"
        findings.append(Finding(text, -1.5, {"lr_share": e.rate.share}))
    elif e.rate.share > 0.3 and verdict.name == PLATEAU:
        text = f"flat while the rate stands at {e.rate.share:.0%} of its peak, as on a floor of noise"
        findings.append(Finding(text, 0.7, {"lr_share": e.rate.share}))
    if e.gap is not None and e.gap.grows and e.gap.growth > 0.15:
        text = f"training text is learnt {e.gap.growth:.2f} better than held-out text, at this very rate and batch"
        findings.append(Finding(text, -2.5, {"growth": e.gap.growth}))
    return findings
