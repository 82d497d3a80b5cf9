"""The batch is too large: few steps for the tokens, each with more gradient than it needs.

Above the gradient noise scale further tokens in a step hardly help (McCandlish et al. 2018); the same tokens make more
steps at a smaller batch. Without the noise scale a large batch is named, but stays a suspicion.
"""

from __future__ import annotations

from workbench.plateau.cause import Action, Assessment, Finding, above_expected
from workbench.plateau.evidence import Evidence
from workbench.plateau.experiment import Arms
from workbench.plateau.interval import Interval
from workbench.plateau.verdict import Verdict

ID = "batch_too_large"
TITLE = "The batch is too large for these tokens"
PRIOR = -2.0
FEW_STEPS = 200  # a whole run of fewer has hardly begun to descend, whatever its tokens
FAR = 20.0  # times the published optimum, from where on even an unmeasured batch leaves too few steps
PROBE = Arms(
    "a quarter of the batch at half the rate, from the newest checkpoint, against a plain continuation, both annealed "
    "to zero over the same tokens",
    "batch-quarter", batch=0.25, rate=0.5, high=True, refutes=0.01,
)  # fmt: skip


def assess(e: Evidence, verdict: Verdict) -> Assessment:
    """The batch against the gradient noise scale and the published optimum, and how few steps it leaves."""
    findings: list[Finding] = []
    missing: list[str] = []
    s = e.signals
    if s.noise_ratio is not None and s.noise_tokens is not None:
        r = s.noise_ratio
        weight = 3.0 if r > 10 else 1.0 if r > 3 else -1.0 if r > 1 else -3.0
        text = f"a step's tokens are {r:.2g}× the gradient noise scale ({s.noise_tokens:,.0f} tokens)"
        findings.append(Finding(text, weight, {"noise_ratio": r, "noise_tokens": s.noise_tokens}))
    else:
        missing.append("gradient noise scale: whether a step has more tokens than it can use is not measured")
    if s.batch_ratio is not None and s.batch is not None:
        r = s.batch_ratio
        weight = 3.0 if r > 2 * FAR else 2.0 if r > FAR else 0.5 if r > 6 else -0.5 if r > 3 else -2.0
        text = f"{s.batch:,.0f} tokens a step are {r:.2g}× the published optimum for these tokens"
        findings.append(Finding(text, weight, {"batch_ratio": r}))
        steps = e.facts.number("max_steps") or (e.step if e.ended else None)
        if r > 6 and steps and steps < FEW_STEPS:
            text = f"{steps:.0f} steps are all there are, the warm-up included"
            findings.append(Finding(text, 1.5, {"steps": steps}))
    elif s.batch is None:
        missing.append("tokens_per_step: the batch is unknown")
    findings += above_expected(e, 0.7)
    measured = s.noise_ratio is not None and s.noise_ratio > 10
    high = e.above
    far = s.batch_ratio is not None and s.batch_ratio > FAR and (s.noise_ratio is None or s.noise_ratio > 3)
    concern = 0.85 if far and measured else 0.75 if far or (measured and high and e.main_is_heldout) else 0.0
    accumulate, micro = e.facts.number("grad_accum"), e.facts.number("micro_batch")
    sets: dict[str, object] = {}
    if accumulate and accumulate >= 4:
        sets = {"train.grad_accum": int(accumulate // 4)}
    elif micro and micro >= 4:
        sets = {"train.micro_batch": int(micro // 4)}
    gain = Interval(0.02, 0.06, 0.2) if measured else None
    fix = "Start again with a quarter of the batch and half the rate: four times as many steps on the same tokens."
    return Assessment(findings, fix, Action("restart", sets), gain, missing, concern)
