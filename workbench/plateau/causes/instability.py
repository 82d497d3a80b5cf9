"""The optimiser leaves the valley: spikes, a blown-up loss, a heavy tail of gradient norms.

Told by robust deviations from a running median, and by what clipping does (nanoGPT clips at 1.0 by default).
"""

from __future__ import annotations

from workbench.plateau.cause import Action, Assessment, Finding
from workbench.plateau.causes import dead_gradients
from workbench.plateau.evidence import Evidence
from workbench.plateau.experiment import Arms
from workbench.plateau.interval import Interval
from workbench.plateau.verdict import DIVERGING, Verdict

ID = "instability"
TITLE = "Training is unstable"
PRIOR = -1.5
PROBE = Arms(
    "a third of the learning rate and gradients clipped at 1.0, from the newest checkpoint, against a plain "
    "continuation, both annealed to zero over the same tokens",
    "calm", rate=1 / 3, at_least={"optim.grad_clip": 1.0}, high=True, calms=True, refutes=None,
)  # fmt: skip


def assess(e: Evidence, verdict: Verdict) -> Assessment:
    """Lost and spiking steps, the gradients' tail, and clipping."""
    s = e.stability
    findings: list[Finding] = []
    missing: list[str] = []
    if s.lost:
        findings.append(Finding(f"{s.lost} steps had a loss that is not a number", 5.0, {"lost": s.lost}))
    if s.blown_up > 0:
        text = f"the training loss stands {s.blown_up:.2f} above its best level, far beyond its noise"
        findings.append(Finding(text, 4.0, {"blown_up": s.blown_up}))
    elif verdict.name == DIVERGING and not s.lost:
        findings.append(Finding(verdict.why, 4.0))
    tail = s.norm_tail is not None and s.norm_tail > 10
    rose = rises_together(e)
    clip = e.facts.number("grad_clip")
    thrown = clip == 0 and e.signals.hot and _abrupt(e)
    if len(s.spikes) >= 3:
        text = f"{len(s.spikes)} of {s.steps} steps spike, by up to {s.largest:.2f} nats, last at step {s.spikes[-1]}"
        weight = 2.5 if s.largest > 0.5 else 1.0
        findings.append(Finding(text, weight, {"spikes": len(s.spikes), "largest": s.largest}))
    elif s.steps >= 50 and not (s.lost or rose or e.noise.restless) and s.blown_up <= 0 and verdict.name != DIVERGING:
        text = f"{len(s.spikes)} spikes in {s.steps} steps: the training loss is smooth"
        # A rate at which nothing is learnt makes no spikes: there the gradients tell.
        findings.append(Finding(text, -1.0 if tail or thrown else -3.0, {"spikes": len(s.spikes), "steps": s.steps}))
    elif s.steps < 50 and not e.noise.restless:
        missing.append("a training loss at each step: spikes between evaluations cannot be seen")
    if e.noise.restless and e.noise.jitter is not None and e.noise.over_documents is not None:
        text = (
            f"the loss of the same documents jumps by {e.noise.jitter:.2f} from one evaluation to the next, where the "
            f"choice of documents explains {e.noise.over_documents:.3f}"
        )
        figures = {"jitter": e.noise.jitter, "over_documents": e.noise.over_documents}
        findings.append(Finding(text, 3.0, figures))
    if rose:
        findings.append(Finding(rose, 2.5))
    ordered = e.shuffling.ordered and not s.lost and s.blown_up <= 0 and verdict.name != DIVERGING
    waves = ordered or (e.signals.waves and not s.lost and not e.noise.restless and verdict.name != DIVERGING)
    if waves:
        findings.append(Finding("the training loss comes and goes in long waves, as with the data it reads", -6.0))
    if e.signals.dead or dead_gradients.same_for_all(e) is not None:
        findings.append(Finding("the gradients are gone: nothing moves any more", -6.0))
    if tail and s.norm_tail is not None:
        text = f"the largest hundredth of gradient norms exceeds {s.norm_tail:.0f}× the median"
        findings.append(Finding(text, 1.5, {"norm_tail": s.norm_tail}))
    elif s.norm_tail is not None:
        text = f"gradient norms are even: their 99th percentile is {s.norm_tail:.1f}× the median"
        findings.append(Finding(text, -0.5, {"norm_tail": s.norm_tail}))
    if clip == 0:
        findings.append(Finding("gradients are not clipped", 1.5 if tail else 0.7, {"grad_clip": 0.0}))
        if thrown:
            findings.append(Finding("nor is so high a rate warmed up to: what its first steps break stays broken", 3.0))
    elif clip is not None and s.clipped is not None and s.clipped > 0.5:
        text = f"{s.clipped:.0%} of the steps are clipped at {clip:g}"
        findings.append(Finding(text, 0.3, {"clipped": s.clipped, "grad_clip": clip}))
    elif clip is not None:
        findings.append(Finding(f"gradients are clipped at {clip:g}", -0.3, {"grad_clip": clip}))
    else:
        missing.append("grad_clip: whether gradients are clipped is unknown")
    seen = e.noise.restless or s.lost >= 3 or s.blown_up > 0 or verdict.name == DIVERGING
    wild = (tail and clip == 0 and e.signals.hot) or thrown
    concern = 0.9 if (seen or wild) and not waves else 0.0
    lr = e.facts.number("lr")
    sets: dict[str, object] = {"optim.grad_clip": 1.0}
    if lr:
        sets["optim.lr"] = float(f"{lr / 3:.3g}")
    gain = Interval(0.5 * s.blown_up, s.blown_up, 3 * s.blown_up) if s.blown_up > 0 else None
    fix = "Lower the peak learning rate to a third, clip gradients at 1.0, and warm up for longer."
    return Assessment(findings, fix, Action("restart", sets), gain, missing, concern)


def _abrupt(e: Evidence) -> bool:
    """Whether the warm-up takes less than a hundredth of the plan."""
    warmup, planned = e.facts.number("warmup_steps"), e.facts.number("max_steps")
    if warmup is not None and planned is not None:
        return warmup < 0.01 * planned
    lr = e.rate  # of a log, the first rates tell
    return warmup is None and lr is not None and lr.steps[0] <= max(5, 0.02 * e.step) and lr.values[0] > 0.9 * lr.peak


def rises_together(e: Evidence) -> str:
    """Held-out loss that rises while the training side rises too, as a sentence; "" where it does not. No data do that
    to a run whose rate is high: only its steps can."""
    if e.rise is None or not e.rise.beyond_noise or e.gap is None or e.gap.grows or e.gap.falls > e.gap.falls_se:
        return ""
    if (e.rate is not None and e.rate.share < 0.3) or e.stability.harder or not e.main_is_heldout:
        return ""
    return f"held-out loss rose by {e.rise.amount:.3f} since step {e.rise.best_step:.0f}, and the training side with it"
