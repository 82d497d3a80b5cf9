"""The data or the loss are broken: a tokenizer that does not fit, targets not shifted, words scrambled, a wrong mask.

Three signs: the loss stays at ln V (nothing is learnt: targets are unrelated), it stays near the unigram entropy (only
frequencies are learnt: for GPT-2's tokens of web text about 7.3 to 7.7 nats, 0.66 to 0.72 of ln V), or it is too good
to be true (the target leaks into the input, or most targets are masked).

A fourth stands in the data themselves: pairs of neighbouring words that are no rarer than in random order, where the
order of words carries about 3.5 bits a word in every language (Montemurro & Zanette 2011).
"""

from __future__ import annotations

import math

import numpy as np

from workbench.plateau.cause import Action, Assessment, Finding
from workbench.plateau.evidence import Evidence
from workbench.plateau.experiment import Measurement
from workbench.plateau.verdict import DIVERGING, NOT_ENOUGH, PLATEAU, Verdict

ID = "data_broken"
TITLE = "The data or the targets are broken"
PRIOR = -2.5
PROBE = Measurement(
    "held-out loss with the tokens of each document scrambled, against the loss as they stand; and one batch "
    "overfitted, which must fall to almost 0",
    "order", ("heldout", "scrambled"), overfit=60,
)  # fmt: skip
NO_ORDER = 0.97  # distinct pairs over those of shuffled documents; prose, documentation and code: 0.5 to 0.91
LOWEST = 0.7  # nats: source code and children's stories end at 1 and above, a target that leaks falls towards 0
LARGE = 9.5  # nats: ln of a vocabulary of subwords
EVEN = 0.02  # nats between evaluations; windows of text scatter by more, shuffled tokens are all alike
ENOUGH_TOKENS = 2e7  # behind which a healthy run of any size has left the unigram entropy


def assess(e: Evidence, verdict: Verdict) -> Assessment:
    """Where the loss stands between 0 and ln V, and whether anything else explains it."""
    findings: list[Finding] = []
    missing: list[str] = []
    top, loss = e.signals.log_vocab, e.loss
    tokens = e.facts.number("tokens_seen")
    concern = 0.0
    if not math.isfinite(loss):
        return Assessment([], _FIX, Action("data"), None, ["a loss"])
    if not e.signals.vocab_known:
        missing.append("vocab_size: ln V is taken for GPT-2's vocabulary")
    share = loss / top
    settled = e.step > 3 * e.warm and (tokens or 0) > ENOUGH_TOKENS
    flat = verdict.name in (PLATEAU, NOT_ENOUGH)
    figures = {"loss": loss, "log_vocab": top}
    pairs = e.facts.number("distinct_pairs")
    if pairs is not None and pairs > NO_ORDER:
        text = f"neighbouring words form {pairs:.0%} as many pairs as in random order (text: 50% to 90%): no order"
        findings.append(Finding(text, 6.0, {"distinct_pairs": pairs}))
        concern = 0.9
    elif abs(loss - top) < 0.15 and e.step > 2 * e.warm and flat:
        text = f"the loss {loss:.3f} still stands at ln V = {top:.2f}: nothing is learnt"
        findings.append(Finding(text, 3.0, figures))
        concern = 0.9 if settled or (len(e.main) >= 5 and e.step >= 200) else 0.0
    elif (soon := _too_soon(e)) is not None:
        text = (
            f"by step {soon[0]:.0f} the loss was {soon[1]:.2f}, below what the frequencies of tokens alone leave: most "
            "targets follow from next to nothing"
        )
        findings.append(Finding(text, 4.0, figures))
        concern = 0.85
    elif 0.55 < share < 0.82 and verdict.name == PLATEAU and (since := _stuck(e)) is not None:
        text = f"the loss has stood at {loss:.3f}, {share:.0%} of ln V = {top:.2f}, since step {since:.0f}, and evenly:"
        text += " the frequencies of tokens are learnt, and nothing of their order"
        findings.append(Finding(text, 4.0, figures))
    elif 0.55 < share < 0.82 and verdict.name == PLATEAU:
        text = f"flat at {loss:.3f}, {share:.0%} of ln V = {top:.2f}: near the entropy of single tokens"
        findings.append(Finding(text, 3.0 if settled else 0.5, figures))
    elif 0.55 < share < 0.82 and settled:
        findings.append(Finding(f"the loss {loss:.3f} is still {share:.0%} of ln V = {top:.2f}", 1.0, figures))
    elif e.expected.loss is not None and LOWEST < loss < e.expected.loss.low - 0.6 and (e.epochs or 1.0) < 5:
        text = f"the loss {loss:.3f} is far below what size and tokens give on web text ({e.expected.loss}): it may be"
        text += " easier text, or another vocabulary"
        findings.append(Finding(text, 0.5, figures))
    elif loss < LOWEST and (e.epochs is None or e.epochs < 5):
        text = f"the loss {loss:.3f} is implausibly low for language that is not read many times"
        findings.append(Finding(text, 4.0, figures))
        concern = 0.85
    else:
        findings.append(Finding(f"the loss {loss:.3f} is one that language gives", -2.5, figures))
    if pairs is not None and pairs <= NO_ORDER:
        text = f"the training documents' words stand in order ({pairs:.0%} of the pairs of random order)"
        findings.append(Finding(text, -0.5, {"distinct_pairs": pairs}))
    s = e.stability
    if s.blown_up > 0 or s.lost or e.noise.restless or verdict.name == DIVERGING:
        findings.append(Finding("the training is unstable, which explains a high loss as well", -3.0))
    if e.signals.lr_ratio is not None and not 1 / 8 < e.signals.lr_ratio < 8:
        findings.append(Finding("the learning rate is far from the published optima, which explains it too", -2.0))
    if e.rate is not None and e.rate.floor_since is not None and e.rate.floor_since < 0.5 * e.step:
        findings.append(Finding("the learning rate has long been at its floor, which explains it too", -1.5))
    if e.gap is not None and e.gap.grows and e.gap.growth > 0.3:
        text = f"seen text is learnt {e.gap.growth:.2f} better than held-out text: targets do follow from the input"
        findings.append(Finding(text, -2.0, {"growth": e.gap.growth}))
    missing.append("a look at a batch: decode inputs and targets, and check that these are those shifted by one")
    return Assessment(findings, _FIX, Action("data"), None, missing, concern)


def _too_soon(e: Evidence) -> tuple[float, float] | None:
    """Step and loss by which a large vocabulary was foretold better than by frequencies, before more can be learnt.

    The frequencies of GPT-2's tokens leave 0.6 to 0.72 of ln V, and in a hundred steps of a million tokens healthy
    runs came to 0.53 at best; where every other token is padding, half of it is gone at once.
    """
    per_step, initial = e.facts.number("tokens_per_step"), e.signals.initial
    if not per_step or initial is None or initial < LARGE:
        return None
    part = e.train.between(2, min(100.0, 1e6 / per_step))
    level = float(np.median(part.loss[-5:])) if len(part) >= 5 else math.inf  # single batches scatter
    return (float(part.step[-1]), level) if level < 0.48 * initial else None


def _stuck(e: Evidence) -> float | None:
    """The early step since when the loss stands still, without the scatter that documents give; None otherwise."""
    part = e.main.between(max(e.warm, 0.02 * e.step), math.inf)
    if len(part) < 6 or part.step[0] > 0.2 * e.step or e.noise.eval_se is None or e.noise.eval_se > EVEN:
        return None
    early = float(part.loss[: max(2, len(part) // 5)].mean())
    return float(part.step[0]) if abs(early - e.loss) < 0.1 else None


_FIX = "Decode a batch and compare inputs with targets; check tokenizer, shift and mask before anything else."
