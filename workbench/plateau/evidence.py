"""All that is measured of a run before anyone asks for a cause. Causes read this, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from workbench.plateau import anchored, law, rate, series, shuffling, signals, stability, trend
from workbench.plateau.interval import Interval
from workbench.plateau.series import Curve, Documents
from workbench.runs.anchors import Anchor
from workbench.runs.facts import Facts
from workbench.runs.history import History

DOCUMENT_SD, DOCUMENT_TOKENS = 0.45, 1000  # of web text: spread of a document's loss, nats; a usual length
BESIDE = "training loss beside it"  # told at the evaluations alone, with dropout on or off
AT_FIRST = 0.2  # of a gap: 0.34 of it under a shift, 0.07 under 30 epochs, when a third of the fall was made


@dataclass(frozen=True)
class Rise:
    """Held-out loss now, above its best.

    Attributes:
        best_step, best: where it was lowest (mean of up to three evaluations around it).
        amount, se: how far it stands above that, and the standard error of this difference.
    """

    best_step: float
    best: float
    amount: float
    se: float

    @property
    def beyond_noise(self) -> bool:
        """By three standard errors, and by more than 0.02."""
        return self.amount > max(3 * self.se, 0.02)


@dataclass(frozen=True)
class Gap:
    """Held-out loss less the loss on training text.

    Attributes:
        now: at the newest evaluation; then: at step ``since``, the first evaluation behind the warm-up.
        growth, se: how much it grew in between, and the standard error of that.
        falls: training-side loss lost over the recent window, nats (positive: it falls); falls_se.
        basis: "seen documents" (dropout off), "training loss" as trained, or ``BESIDE``.
        at_first: the gap when the training side had made a third of its fall: token frequencies are learnt by then and
            little else (Belrose et al. 2024, arXiv 2402.04362), nothing by heart. None where no evaluation shows it.
    """

    now: float
    then: float
    since: float
    growth: float
    se: float
    falls: float
    falls_se: float
    basis: str
    at_first: float | None = None

    @property
    def from_the_first(self) -> bool:
        """Whether much of it was there before anything could be learnt by heart."""
        return self.at_first is not None and self.at_first > max(0.3, AT_FIRST * self.now)

    @property
    def grows(self) -> bool:
        """Beyond noise, and by more than 0.05."""
        return self.growth > max(3 * self.se, 0.05)


@dataclass(frozen=True)
class Evidence:
    """A run, measured. ``main`` is the held-out curve; where a run has none, the training loss stands in for it."""

    history: History
    facts: Facts
    main: Curve
    main_is_heldout: bool
    train: Curve
    warm: float  # step behind which evaluations count: the end of the warm-up
    noise: trend.Noise
    trend: trend.Trend | None
    rise: Rise | None
    gap: Gap | None
    rate: rate.Rate | None
    stability: stability.Stability
    expected: law.Expected  # by the published law alone
    anchored: anchored.Anchored | None  # by earlier runs on the same held-out documents
    effective: float | None  # D', tokens worth fresh ones; None where the unique tokens are unknown
    signals: signals.Signals
    shuffling: shuffling.Shuffling

    @property
    def step(self) -> int:
        """Newest step."""
        return self.history.step

    @property
    def loss(self) -> float:
        """Newest loss of the main curve, NaN if there is none."""
        return float(self.main.loss[-1]) if len(self.main) else math.nan

    @property
    def level(self) -> law.Expected:
        """The loss expected now: what earlier runs promise, where there are any; else the law's."""
        return self.expected if self.anchored is None else law.Expected(self.anchored.loss, self.anchored.basis)

    @property
    def above(self) -> bool:
        """Whether the held-out loss lies above what is expected of it."""
        expected = self.level.loss
        return expected is not None and self.main_is_heldout and self.loss > expected.high

    @property
    def epochs(self) -> float | None:
        """Passes over the unique tokens (the effective ones where they are known)."""
        tokens = self.facts.number("tokens_seen")
        unique = self.facts.number("effective_unique_tokens") or self.facts.number("unique_tokens")
        return tokens / unique if tokens and unique else self.facts.number("epochs")

    @property
    def passes(self) -> tuple[float, float] | None:
        """Passes over the training files, and copies of each token within them; None where either is unknown."""
        tokens, files = self.facts.number("tokens_seen"), self.facts.number("train_tokens")
        unique = self.facts.number("effective_unique_tokens") or self.facts.number("unique_tokens")
        return (tokens / files, files / unique) if tokens and files and unique else None

    @property
    def progress(self) -> float | None:
        """Share of the planned steps done."""
        planned = self.facts.number("max_steps")
        return self.step / planned if planned else None

    @property
    def ended(self) -> bool:
        """Whether the plan is done: all planned steps, or the run said so."""
        if self.history.stop is not None and self.history.stop.get("reason") == "finished":
            return True
        # A log of every hundredth step ends up to that far from the plan's end.
        if self.progress is not None:
            return self.progress >= 0.99
        # A rate that came down to nothing is the end of a schedule, whoever planned it.
        return self.rate is not None and self.rate.share < 0.02 and self.rate.decay_from is not None

    def window_change(self) -> float:
        """Steps of the recent window as an e-fold: ln(last / first)."""
        return math.log(self.trend.last / self.trend.first) if self.trend else 0.0


def gather(history: History, facts: Facts, run_dir: Path | None = None, anchors: Sequence[Anchor] = ()) -> Evidence:
    """Measure a run. ``run_dir`` gives the per-document losses of a native one, ``anchors`` are earlier ones."""
    heldout = series.evaluations(history.val)
    train = series.training(history)
    main_is_heldout = len(heldout) >= 2 or len(train) < trend.MIN_EVALS
    main = heldout if main_is_heldout else train
    documents = Documents(run_dir if main_is_heldout else None, "heldout")

    lr = rate.read_rate(history, facts)
    warm = _warm(facts, lr, history)
    noise = trend.measure_noise(main, documents, warm)
    if noise.level_se is None and main_is_heldout:
        noise = replace(noise, level_se=_level_se(facts))
    tokens = facts.number("tokens_seen")
    slope = _recent(main, documents, noise, warm, lr, law.healthy_slope(tokens))

    unique = facts.number("effective_unique_tokens") or facts.number("unique_tokens")
    effective = None
    if tokens and unique:
        effective = law.effective_tokens(tokens, unique, facts.text("sampling") == "with_replacement")
    elif tokens and (epochs := facts.number("epochs")):
        effective = law.effective_tokens(tokens, tokens / epochs, facts.text("sampling") == "with_replacement")
    return Evidence(
        history=history,
        facts=facts,
        main=main,
        main_is_heldout=main_is_heldout,
        train=train,
        warm=warm,
        noise=noise,
        trend=slope,
        rise=_rise(main.between(warm, math.inf), documents, noise),
        gap=_gap(history, main, train, documents, run_dir, warm, slope) if main_is_heldout else None,
        rate=lr,
        stability=_stability(history, main, train, warm, main_is_heldout),
        expected=law.expected_loss(facts.number("parameters"), tokens, effective, facts.number("vocab_size")),
        anchored=anchored.anchored(anchors, facts, lr, effective) if main_is_heldout else None,
        effective=effective,
        signals=signals.measure(history, facts, main, train, lr, warm),
        shuffling=shuffling.measure(train, series.evaluations(history.seen), warm),
    )


def _level_se(facts: Facts) -> float | None:
    """Standard error of the held-out level over its choice of documents, of a log that says how many there are."""
    documents, tokens = facts.number("val_documents"), facts.number("val_tokens")
    if documents is None and tokens is not None:
        documents = tokens / DOCUMENT_TOKENS
    return None if documents is None else DOCUMENT_SD / math.sqrt(max(documents, 1.0))


def _stability(history: History, main: Curve, train: Curve, warm: float, main_is_heldout: bool) -> stability.Stability:
    """Stability of the training. A rise that the same held-out documents do not share is no blow-up: text is harder."""
    found = stability.measure(history, train, warm)
    held = main.between(max(warm, 1), math.inf)
    if not found.blown_up or not main_is_heldout or len(held) < 6:
        return found
    # The risen training loss is that of the newest twentieth: the held-out loss must have been measured within it.
    behind = float(held.step[-1]) >= 0.95 * history.step
    shared = float(held.loss[-1]) - float(held.loss.min())
    if behind and shared < 0.2 * found.blown_up:
        return replace(found, blown_up=0.0, harder=found.blown_up)
    return found


def _recent(
    main: Curve,
    documents: Documents,
    noise: trend.Noise,
    warm: float,
    lr: rate.Rate | None,
    healthy: tuple[float, str],
) -> trend.Trend | None:
    """The recent trend; that of the newest fifth alone where a run that moved before is surely flat there.

    Not near the end of a decay: there a healthy curve levels off by itself.
    """
    slope = trend.measure_trend(trend.window(main, warm), documents, noise, healthy)
    if slope is None or slope.flat or lr is None or lr.share < 0.3:
        return slope
    part = main.between(max(warm, 0.8 * main.step[-1]), math.inf)
    if len(part) < 8:
        return slope
    newest = trend.measure_trend(part, documents, noise, healthy)
    if newest is None:
        return slope
    # A second look deserves a stricter interval.
    return newest if newest.widened(1.3).flat else slope


def _warm(facts: Facts, lr: rate.Rate | None, history: History) -> float:
    """End of the warm-up; unknown: a twentieth of the run, which is spent falling from the initial loss."""
    stated = facts.number("warmup_steps")
    if stated is None and lr is not None:
        stated = float(lr.steps[int(np.argmax(lr.values > 0.98 * lr.peak))])
    return max(stated or 0.0, 0.05 * history.step)


def _rise(part: Curve, documents: Documents, noise: trend.Noise) -> Rise | None:
    if len(part) < trend.MIN_EVALS or noise.eval_se is None:
        return None
    # Means of three neighbours: the lowest of many noisy evaluations is too low by chance.
    smooth = np.convolve(part.loss, np.ones(3) / 3, mode="valid")
    at = int(np.argmin(smooth)) + 1
    now = float(part.loss[-3:].mean())
    amount = now - float(smooth[at - 1])
    se = noise.eval_se * math.sqrt(2 / 3)
    paired = documents.change(float(part.step[at]), float(part.step[-1]))
    if paired is not None:
        se = math.hypot(se, paired[1])
    return Rise(float(part.step[at]), float(smooth[at - 1]), amount, se)


def _gap(
    history: History,
    main: Curve,
    train: Curve,
    documents: Documents,
    run_dir: Path | None,
    warm: float,
    slope: trend.Trend | None,
) -> Gap | None:
    seen = series.evaluations(history.seen)
    common = np.intersect1d(main.step, seen.step)
    common = common[common > warm]
    if len(common) >= 2:
        first, last = float(common[0]), float(common[-1])
        held, near = dict(zip(main.step, main.loss, strict=True)), dict(zip(seen.step, seen.loss, strict=True))
        now, then = float(held[last] - near[last]), float(held[first] - near[first])
        seen_documents = Documents(run_dir, "seen")
        paired = [documents.change(first, last), seen_documents.change(first, last)]
        jitter = [
            trend.residual_sd(np.log(c.step), c.loss, robust=True) for c in (_above(main, warm), _above(seen, warm))
        ]
        se = math.sqrt(sum((j or 0.02) ** 2 * 2 for j in jitter) + sum(p[1] ** 2 for p in paired if p))
        begin = slope.first if slope else first
        recent = seen.between(begin, last)
        third = max(1, len(recent) // 3)
        falls = float(recent.loss[:third].mean() - recent.loss[-third:].mean()) if len(recent) >= 2 else 0.0
        change = seen_documents.change(float(recent.step[0]), last) if len(recent) >= 2 else None
        falls_se = math.hypot((jitter[1] or 0.02) * math.sqrt(2 / third), change[1] if change else 0.0)
        at_first = _gap_at_first(main, seen)
        return Gap(now, then, first, now - then, se, falls, falls_se, "seen documents", at_first)
    return _gap_to_training(main, train, warm, slope)


def _gap_at_first(main: Curve, seen: Curve) -> float | None:
    common = np.intersect1d(main.step, seen.step)
    if len(common) < 5 or common[0] > 1:  # the fall is counted from the untrained model
        return None
    held, near = (c.loss[np.isin(c.step, common)] for c in (main, seen))
    fallen = (near[0] - near) / max(float(near[0] - near.min()), 1e-9)
    begun = np.flatnonzero((fallen > 0.2) & (fallen < 0.4))
    if not len(begun):
        begun = np.flatnonzero((fallen > 0.2) & (fallen < 0.65))[:1]  # sparse evaluations pass over a third
    return float((held - near)[begun].mean()) if len(begun) else None


def _above(curve: Curve, step: float) -> Curve:
    return curve.between(step + 1, math.inf)


def _gap_to_training(main: Curve, train: Curve, warm: float, slope: trend.Trend | None) -> Gap | None:
    """The gap to the loss as trained, where no seen documents were evaluated."""
    evals = _above(main, warm)
    if len(evals) >= trend.MIN_EVALS and len(train) <= 2 * len(main):
        return _gap_beside(evals, _above(train, warm), slope)
    if len(evals) < 4 or len(train) < 20:
        return None
    half = float(np.median(np.diff(evals.step))) / 2
    gaps, errors = [], []
    for step, loss in ((evals.step[0], evals.loss[0]), (evals.step[-1], evals.loss[-1])):
        near = train.between(step - half, step + half)
        if len(near) < 3:
            return None
        gaps.append(float(loss - near.loss.mean()))
        errors.append(float(near.loss.std(ddof=1)) / math.sqrt(len(near)))
    jitter = trend.residual_sd(np.log(evals.step), evals.loss) or 0.02
    recent = train.between(slope.first if slope else evals.step[0], math.inf)
    third = max(1, len(recent) // 3)
    if len(recent) < 6:
        return None
    falls = float(recent.loss[:third].mean() - recent.loss[-third:].mean())
    falls_se = float(np.std(np.diff(recent.loss))) / math.sqrt(third)
    se = math.sqrt(2 * jitter**2 + sum(e**2 for e in errors))
    return Gap(gaps[1], gaps[0], float(evals.step[0]), gaps[1] - gaps[0], se, falls, falls_se, "training loss")


def _gap_beside(evals: Curve, train: Curve, slope: trend.Trend | None) -> Gap | None:
    """The gap to training losses that are told at the evaluations alone, as tables of both have them."""
    common = np.intersect1d(evals.step, train.step)
    if len(common) < trend.MIN_EVALS:
        return None
    held, near = (c.loss[np.isin(c.step, common)] for c in (evals, train))
    jitter = [trend.residual_sd(np.log(common), losses, robust=True) or 0.02 for losses in (held, near)]
    recent = near[common >= (slope.first if slope else common[0])]
    third = max(1, len(recent) // 3)
    falls = float(recent[:third].mean() - recent[-third:].mean())
    now, then = float(held[-1] - near[-1]), float(held[0] - near[0])
    se = math.sqrt(2 * sum(j**2 for j in jitter))
    falls_se = jitter[1] * math.sqrt(2 / third)
    return Gap(now, then, float(common[0]), now - then, se, falls, falls_se, BESIDE)


def annealing_left(evidence: Evidence, final: float) -> Interval | None:
    """What annealing from the rate now to ``final`` (a learning rate) gains; None where the rate is unknown."""
    found = rate.annealing(evidence.rate, evidence.facts.number("parameters"), final)
    return None if found is None else found[0]
