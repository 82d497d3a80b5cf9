"""The peak learning rate is too high: the loss hovers far above its valley, and the noise of the steps sets the floor.

The floor of SGD-like noise goes with rate / batch (Smith et al. 2018, arXiv 1711.00489), so without the gradient noise
scale it cannot be told from too small a batch: the two are then reported as tied. Told from a rate that is merely not
annealed yet by its level against the published optima and by signs of strain: clipping, jumps, blow-ups.

A short branch of a checkpoint cannot show it: annealing takes away the noise of both arms, and what the rate has cost
lies behind them. A short run from the start can, one way: the best rate falls with the tokens that a run is given
(Bjorck et al. 2024, arXiv 2409.19913), so what is too high for a hundredth of them is too high for all.
"""

from __future__ import annotations

import math

import numpy as np

from workbench.plateau.cause import Action, Assessment, Finding, above_expected
from workbench.plateau.causes import batch_too_small
from workbench.plateau.evidence import Evidence
from workbench.plateau.experiment import Arms
from workbench.plateau.interval import Interval
from workbench.plateau.signals import FAR
from workbench.plateau.verdict import Verdict

ID = "lr_too_high"
TITLE = "The learning rate is too high"
PRIOR = -2.0
PROBE = Arms(
    "LR ÷ 3 from the start, against the full rate, both over the run's first tokens and annealed to zero over them",
    "lr-third", rate=1 / 3, fresh=True, refutes=None,
)  # fmt: skip


def assess(e: Evidence, verdict: Verdict) -> Assessment:
    """The peak against published optima, the floor at a high rate, and signs of strain."""
    findings: list[Finding] = []
    missing: list[str] = []
    ratio = e.signals.lr_ratio
    if e.signals.trained_before:
        missing.append("earlier training: published optima are of training from scratch, and its rate is unknown")
    elif ratio is None:
        missing.append(
            "parameters, lr and the optimiser (AdamW, or this engine's Muon): the rate cannot be set against published "
            "optima"
        )
    else:
        text = f"the peak rate is {ratio:.2g}× the published optimum for its optimiser at this size"
        if 1 / 3 <= ratio <= 3:
            text = "the peak rate lies within a factor of 3 of the published optima for its optimiser"
        weight = _weight(ratio)
        findings.append(Finding(text, weight, {"lr_ratio": ratio}))
    # So far above the optima a rate costs more than the noise of its steps, which annealing takes away.
    findings += [f for f in batch_too_small.noise_floor(e, verdict) if f.weight > 0 or not (ratio and ratio > FAR)]
    s = e.stability
    clip = e.facts.number("grad_clip")
    if s.clipped is not None and s.clipped > 0.5 and clip:
        text = f"{s.clipped:.0%} of the steps behind the warm-up are clipped at {clip:g}"
        findings.append(Finding(text, 0.5, {"clipped": s.clipped}))
    if e.noise.restless or s.blown_up > 0 or len(s.spikes) >= 3:
        findings.append(Finding("the loss jumps or has blown up, as at too high a rate", 1.0))
    findings += above_expected(e, 0.7)
    stable = not (e.noise.restless or s.blown_up > 0 or s.lost)
    concern = (
        (0.85 if ratio > 1.25 * FAR else 0.75) if ratio and ratio > FAR and stable and e.step > 2 * e.warm else 0.0
    )
    lr = e.facts.number("lr") or (e.rate.peak if e.rate is not None else None)
    sets: dict[str, object] = {"optim.lr": float(f"{lr / 3:.3g}")} if lr else {}
    gain = _gain(ratio) if ratio and ratio > FAR else None
    fix = "Start again with a third of the peak learning rate."
    return Assessment(findings, fix, Action("restart", sets), gain, missing, concern)


def _weight(ratio: float) -> float:
    """Log-odds by how far the peak lies above the higher of the published optima (below 1: under the lower one)."""
    if ratio < 1 / 3:
        return -4.0
    return float(np.interp(math.log(ratio), np.log([2, 3, FAR, 6, 15]), [-1.5, 0.0, 1.5, 3.0, 3.5]))


def _gain(ratio: float) -> Interval:
    """Around the optimum the loss rises with the square of ln(rate) (Li et al. 2025, arXiv 2503.04715: a few hundredths
    at a factor of four, for large models); small ones in short runs lose a nat at a factor of six."""
    square = math.log(ratio) ** 2
    return Interval(0.01 * square, 0.1 * square, 0.5 * square)
