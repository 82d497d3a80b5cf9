"""Further measurements that single causes rest on: gradients, batch noise, drift, dropout's cost, published optima.

Optimal rate and batch of AdamW: Kaplan et al. 2020 (arXiv 2001.08361, eq. D.1), LR = 0.003239 − 0.0001395·ln N; Li et
al. 2025 (arXiv 2503.04715, "Step Law"), LR = 1.79·N^−0.713·D^0.307 and B = 0.58·D^0.571 tokens. They differ by up to a
factor of about 5, and the loss is flat around them: only what lies well outside *both* says anything.
Muon's rate is that of an update of unit spectral norm, so it hardly goes with the size: 0.02 of Jordan et al. 2024 and
of nanochat's matrices, 0.0125 in this engine's own runs (``engine/EXPERIMENTS.md``); other trainers scale it otherwise.
Gradient noise scale: McCandlish et al. 2018 (arXiv 1812.06162).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from engine.events import number
from workbench.plateau import series
from workbench.plateau.rate import Rate
from workbench.plateau.series import Curve, take
from workbench.runs.facts import Facts
from workbench.runs.history import FloatArray, History

VOCABULARY = 50304  # GPT-2's, where a run does not say its own
_BLOCKS = 40
MUON = (0.005, 0.04)  # rates around those published, of an optimiser that scales its updates as the engine does
FAR = 4.0  # times above or below the published optima, from where on a rate is more likely wrong than not
SCRATCH = 0.6  # of ln V: a first loss below is none of a model that knows nothing
FREQUENCIES = 0.65  # of ln V: about where a model stands that knows how often each token occurs, and little else
WAVE = 0.12  # nats; shuffled published runs stay below 0.04


@dataclass(frozen=True)
class Signals:
    """What was measured besides the curves; None where a run does not tell.

    Attributes:
        log_vocab: ln of the vocabulary: the loss of guessing; vocab_known: whether the run stated it.
        initial: loss of the untrained model, which is about that; None where no loss of the first step is told.
        trained_before: the first losses lie far below guessing: the weights come from an earlier training, of which
            nothing is known here; published optima and what is learnt first are those of training from scratch.
        grad_early, grad_now: median gradient norm of the first and of the newest tenth behind the warm-up.
        lr_ratio: peak rate over the published optima: above 1 over the higher one, below 1 under the lower one.
        batch: tokens of a step; batch_ratio: over the published optimum; noise_ratio: over the measured noise scale.
        noise_tokens: the newest gradient noise scale, tokens.
        drift: largest departure of a fortieth of the run's training loss from its neighbours, nats; drift_z: all of
            them, as a multiple of what shuffled data would show; turns: how often it stood above and below, the lesser.
        slow_start: share of the run behind its warm-up until the loss had come down to ``FREQUENCIES`` of the untrained
            model's; None where the untrained loss is unknown, or it never came so far.
        moved: sum of the learning rate over the steps: how far Adam or Muon can have moved a weight; None where the
            untrained loss is unknown (a model that was trained before has not far to go).
        dropout_cost: training loss as trained less the loss on seen documents (dropout off), nats; its error.
    """

    log_vocab: float
    vocab_known: bool
    initial: float | None = None
    trained_before: bool = False
    grad_early: float | None = None
    grad_now: float | None = None
    lr_ratio: float | None = None
    batch: float | None = None
    batch_ratio: float | None = None
    noise_ratio: float | None = None
    noise_tokens: float | None = None
    drift: float | None = None
    drift_z: float | None = None
    turns: int = 0
    slow_start: float | None = None
    moved: float | None = None
    dropout_cost: float | None = None
    dropout_cost_se: float | None = None

    @property
    def hot(self) -> bool:
        """Whether the peak rate lies far above the published optima."""
        return self.lr_ratio is not None and self.lr_ratio > FAR

    @property
    def dead(self) -> bool:
        """Whether hardly anything of the gradients is left."""
        early, now = self.grad_early, self.grad_now
        return now is not None and early is not None and (now < 1e-7 or (early > 0 and now < 1e-4 * early))

    @property
    def waves(self) -> bool:
        """Whether the training loss goes up and down in long waves: neither noise nor a single blow-up."""
        return (
            self.drift is not None
            and self.drift_z is not None
            and self.drift > WAVE
            and self.drift_z > 8
            and (self.turns >= 3)
        )


def measure(history: History, facts: Facts, main: Curve, train: Curve, lr: Rate | None, warm: float) -> Signals:
    """All signals of a run; ``warm`` is the step at which its warm-up ends."""
    vocabulary = facts.number("vocab_size")
    early, now = _gradients(history, warm)
    batch, noise = facts.number("tokens_per_step"), _noise_scale(history)
    planned = facts.number("max_steps")
    tokens = batch * planned if batch and planned else facts.number("tokens_seen")
    optimum = batch_optimum(tokens) if tokens else None
    drift, drift_z, turns = _drift(train, warm)
    cost, cost_se = _dropout_cost(history, train, warm)
    before = _trained_before(main, train, vocabulary, facts.number("parameters"))
    initial = None if before else _initial(main, train)
    return Signals(
        log_vocab=math.log(max(vocabulary, 2)) if vocabulary else initial or math.log(VOCABULARY),
        vocab_known=vocabulary is not None,
        initial=initial,
        grad_early=early,
        grad_now=now,
        trained_before=before,
        lr_ratio=None if before else _lr_ratio(facts, lr, tokens),
        batch=batch,
        batch_ratio=batch / optimum if batch and optimum else None,
        noise_ratio=batch / noise if batch and noise else None,
        noise_tokens=noise,
        drift=drift,
        drift_z=drift_z,
        turns=turns,
        slow_start=None if initial is None else _slow_start(train if len(train) > len(main) else main, initial, warm),
        moved=None if initial is None or lr is None else _moved(history, lr),
        dropout_cost=cost,
        dropout_cost_se=cost_se,
    )


def _trained_before(main: Curve, train: Curve, vocabulary: float | None, parameters: float | None) -> bool:
    """By a vocabulary that is known, or, of a model too large for single characters, taken for one of subwords."""
    known = vocabulary or (VOCABULARY if parameters is not None and parameters > 3e7 else None)
    first = [c.loss[0] for c in (main, train) if len(c) and c.step[0] <= max(10, 0.002 * c.step[-1])]
    return known is not None and bool(first) and float(max(first)) < SCRATCH * math.log(known)


def _initial(main: Curve, train: Curve) -> float | None:
    """The loss before anything was learnt; None as well for one that no vocabulary of 26 to 260,000 tokens gives."""
    for curve in (main, train):
        if len(curve) and curve.step[0] <= 1 and math.log(26) < curve.loss[0] < math.log(2.6e5):
            return float(curve.loss[0])
    return None


def _slow_start(curve: Curve, initial: float, warm: float) -> float | None:
    """Frequencies of tokens are learnt first (Belrose et al. 2024, arXiv 2402.04362), and by every model."""
    part = curve.between(1, math.inf)
    if len(part) < 10:
        return None
    smooth = np.minimum.accumulate(np.convolve(part.loss, np.ones(3) / 3, mode="valid"))
    below = np.flatnonzero(smooth < FREQUENCIES * initial)
    return max(float(part.step[below[0] + 1]) - warm, 0.0) / float(part.step[-1]) if len(below) else None


def _moved(history: History, lr: Rate) -> float:
    """An update of Adam is about as large as the rate in each weight (Kingma & Ba 2015, section 2.1); rates between
    the logged ones by the trapezoidal rule."""
    steps = np.concatenate([[0.0], lr.steps, [float(history.step)]])
    values = np.concatenate([[lr.values[0]], lr.values, [lr.values[-1]]])
    return float(np.trapezoid(values, steps))


def _gradients(history: History, warm: float) -> tuple[float | None, float | None]:
    step, norm = take(history.steps, "step", "grad_norm")
    norm = norm[(step > warm) & np.isfinite(norm)]
    if len(norm) < 10:
        return None, None
    tenth = max(3, len(norm) // 10)
    return float(np.median(norm[:tenth])), float(np.median(norm[-tenth:]))


def _noise_scale(history: History) -> float | None:
    values = [number(e, "b_noise") for e in history.noise_scales[-5:]]
    values = [v for v in values if math.isfinite(v) and v > 0]
    return float(np.median(values)) if values else None


def _lr_ratio(facts: Facts, lr: Rate | None, tokens: float | None) -> float | None:
    """None as well for optimisers that nothing was published on, and for rates logged as a share of the peak."""
    peak = facts.number("lr") or (lr.peak if lr is not None and lr.peak < 0.5 else None)
    parameters = facts.number("parameters")
    optimiser = facts.text("optimizer")
    if not peak or (optimiser == "muon" and facts.source("optimizer") != "config.toml"):
        return None
    return rate_ratio(peak, parameters, tokens, optimiser)


def rate_ratio(peak: float, parameters: float | None, tokens: float | None, optimiser: str | None) -> float | None:
    """A peak rate over the published optima: above 1 over the higher one, below 1 under the lower one, else 1.

    For AdamW Kaplan et al. 2020 (equation D.1) and, where the tokens are known, Li et al. 2025 (arXiv 2503.04715); for
    this engine's Muon the rates around those published. None for other optimisers, or without the parameters.
    """
    if optimiser == "muon":
        low, high = MUON
    elif parameters and optimiser in (None, "adamw", "adam"):
        optima = [0.003239 - 0.0001395 * math.log(min(parameters, 1e10))]
        if tokens:
            optima.append(1.79 * parameters**-0.713 * tokens**0.307)
        low, high = min(optima), max(optima)
    else:
        return None
    return peak / high if peak > high else peak / low if peak < low else 1.0


def batch_optimum(tokens: float) -> float:
    """Tokens of a step that suit so many tokens in all (Li et al. 2025, arXiv 2503.04715)."""
    return float(0.58 * tokens**0.571)


def _drift(train: Curve, warm: float) -> tuple[float | None, float | None, int]:
    """Steps in the training loss that last for a fortieth of the run; medians, so that single spikes make none."""
    part = train.between(max(warm, 0.1 * train.step[-1]) if len(train) else 0.0, math.inf)
    size = len(part) // _BLOCKS
    if size < 8:
        return None, None, 0
    levels = np.median(part.loss[: size * _BLOCKS].reshape(_BLOCKS, size), axis=1)
    bend = levels[1:-1] - (levels[:-2] + levels[2:]) / 2
    white = 1.25 * max(_scatter(part.loss), 1e-6) * math.sqrt(1.5 / size)
    turns = min(int((bend > WAVE / 2).sum()), int((bend < -WAVE / 2).sum()))
    return float(np.abs(bend).max()), float(np.sqrt((bend**2).mean())) / white, turns


def _scatter(values: FloatArray) -> float:
    return 1.4826 * float(np.median(np.abs(np.diff(values)))) / math.sqrt(2)


def _dropout_cost(history: History, train: Curve, warm: float) -> tuple[float | None, float | None]:
    seen = series.evaluations(history.seen).between(warm, math.inf)
    if len(seen) < 3:
        return None, None
    recent = seen.between(float(seen.step[-min(len(seen), 5)]), math.inf)
    near = train.between(float(recent.step[0]), float(recent.step[-1]))
    if len(near) < 8:
        return None, None
    # The training loss is of other documents than the seen ones: their choice is the larger error.
    choice = float(recent.se[-1]) if math.isfinite(recent.se[-1]) else 0.05
    error = math.hypot(float(near.loss.std(ddof=1)) / math.sqrt(len(near)), choice)
    return float(near.loss.mean() - recent.loss.mean()), error
