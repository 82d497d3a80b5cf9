"""The data are read in order of their source, not shuffled: the model follows each source and forgets the last.

Seen in the training loss: levels that last for a fortieth of the run and more, far beyond the noise of shuffled
batches. Shuffled published runs (llm.c, modded-nanogpt, build-nanogpt) stay below 0.04 nats. A run too short for such
waves shows it by a training loss that wanders from that of seen documents, or has a memory (``plateau.shuffling``).
"""

from __future__ import annotations

from workbench.plateau.cause import Action, Assessment, Finding
from workbench.plateau.evidence import Evidence
from workbench.plateau.shuffling import SURE
from workbench.plateau.verdict import Verdict

ID = "data_order"
TITLE = "The data are not shuffled"
PRIOR = -2.5
PROBE = None
INSTEAD = "the same run on shuffled shards (this engine shuffles documents and sequences itself)"


def assess(e: Evidence, verdict: Verdict) -> Assessment:
    """Long waves of the training loss, and whether the held-out loss goes with them."""
    findings: list[Finding] = []
    missing: list[str] = []
    drift, z = e.signals.drift, e.signals.drift_z
    waves = e.signals.waves
    if drift is None or z is None:
        missing.append("a training loss at each step: waves from source to source cannot be seen")
    else:
        text = f"the training loss departs by up to {drift:.2f} nats for a fortieth of the run, {z:.0f}× shuffled noise"
        figures = {"drift": drift, "drift_z": z}
        if waves:
            findings.append(Finding(text, 3.5 if drift > 0.25 else 2.5, figures))
        else:
            text = f"the training loss has no long waves (at most {drift:.3f} nats for a fortieth of the run)"
            findings.append(Finding(text, -2.0, figures))
    sure = waves and drift is not None and drift > 0.25
    s = e.shuffling
    moving = not e.signals.dead and not e.stability.blown_up
    if s.wanders and s.distance is not None and s.distance_se is not None:
        text = (
            f"from one evaluation to the next the training loss wanders by {s.distance:.2f} nats from that of seen "
            f"documents, where the noise of its means is {s.distance_se:.2f}"
        )
        findings.append(Finding(text, 3.5 if moving else 1.0, {"distance": s.distance, "se": s.distance_se}))
        sure |= moving
    if s.remembers and s.memory is not None and s.memory_z is not None:
        text = (
            f"around its trend the training loss has a memory: {s.memory:.2f} nats last from one step to the next "
            f"({s.memory_z:.0f} standard errors), where shuffled steps know nothing of each other"
        )
        findings.append(Finding(text, 3.0 if moving else 0.5, {"memory": s.memory, "memory_z": s.memory_z}))
        sure |= moving
    if e.stability.harder > SURE:
        text = (
            f"the training loss stands {e.stability.harder:.2f} above its best level while the held-out loss did not "
            "rise: the text that is read now is another"
        )
        findings.append(Finding(text, 2.5, {"harder": e.stability.harder}))
    if e.stability.lost or (e.noise.restless and not s.ordered):
        findings.append(Finding("the training is unstable, which makes waves too", -2.5))
    if e.epochs is not None and e.epochs > 4 and waves:
        findings.append(Finding(f"{e.epochs:.1f} epochs: the loss steps down at each of them as well", -1.5))
    if e.facts.text("sampling") == "with_replacement":
        findings.append(Finding(f"windows are drawn at random ({e.facts.source('sampling')})", -2.0))
    concern = 0.75 if sure else 0.0
    fix = "Shuffle documents over all shards before training."
    return Assessment(findings, fix, Action("data"), None, missing, concern)
