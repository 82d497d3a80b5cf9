"""What loss a model of some size should have after some tokens: L = E + A/N^α + B/D'^β, plus a constant for the corpus.

Constants: Hoffmann et al. 2022 (arXiv 2203.15556) as refitted by Besiroglu et al. 2024 (arXiv 2404.10102).
Repeated tokens count less and less: D' = U + U·R*·(1 − e^(−R/R*)), R = epochs − 1 (Muennighoff et al. 2023, arXiv
2305.16264). That form never rises, so it is no model of overfitting.
The constant belongs to tokenizer and corpus: +0.22 to +0.27 fits GPT-2 tokens of FineWeb (llm.c's 124M run: +0.26);
on another corpus it is unknown, so without an anchor the interval is never narrower than ±0.15.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from workbench.plateau.interval import Interval

E, A, B, ALPHA, BETA = 1.8172, 482.01, 2085.43, 0.3478, 0.3658
R_STAR = 15.388
OFFSET, OFFSET_SPREAD = 0.245, 0.15
# A larger vocabulary has longer tokens, each with more to foretell: between 32,000 and 200,000 tokens of web text they
# grow by 3 to 9% a doubling, and the loss of a token with them. The shift counts as known to its own size.
GPT2, LONGER, SUBWORDS = 50257, 0.06, 2000
FITTED_PARAMETERS = (2e7, 2e10)  # outside, the law was never fitted, and the level it gives is no evidence
FITTED_TOKENS = (3e8, 1e12)


@dataclass(frozen=True)
class Expected:
    """Loss expected now; None where it cannot be computed, and ``basis`` then says why."""

    loss: Interval | None
    basis: str


def size_term(parameters: float) -> float:
    """A/N^α: what a finite model costs, in nats."""
    return A / parameters**ALPHA


def data_term(tokens: float) -> float:
    """B/D^β: what finite data cost, in nats."""
    return B / tokens**BETA


def drawn_unique(tokens: float, unique: float, with_replacement: bool) -> float:
    """Unique tokens seen so far. Drawing with replacement covers U·(1 − e^(−D/U)) of them (nanoGPT)."""
    if with_replacement:
        return unique * -math.expm1(-tokens / unique)
    return min(tokens, unique)


def effective_tokens(tokens: float, unique: float, with_replacement: bool = False) -> float:
    """D': how many fresh tokens the tokens seen are worth, given how many of them are unique."""
    drawn = drawn_unique(tokens, unique, with_replacement)
    if drawn <= 0 or tokens <= drawn:
        return tokens
    repeats = tokens / drawn - 1
    return drawn + drawn * R_STAR * -math.expm1(-repeats / R_STAR)


def expected_loss(
    parameters: float | None, tokens: float | None, effective: float | None, vocabulary: float | None = None
) -> Expected:
    """Loss that this size and these tokens should have given by now.

    Args:
        parameters: trainable parameters.
        tokens: tokens trained on.
        effective: D', where the unique tokens are known; else ``tokens`` stands for it.
        vocabulary: tokens of the tokenizer; None: as many as GPT-2's.
    """
    missing = [name for name, value in (("parameters", parameters), ("tokens seen", tokens)) if not value]
    if parameters is None or tokens is None or missing:
        return Expected(None, f"not computable: {' and '.join(missing)} unknown")
    if not FITTED_PARAMETERS[0] <= parameters <= FITTED_PARAMETERS[1]:
        return Expected(None, f"not computable: the law was not fitted for {parameters / 1e6:.3g}M parameters")
    if not FITTED_TOKENS[0] <= tokens <= FITTED_TOKENS[1]:
        return Expected(None, f"not computable: the law was not fitted for {tokens / 1e6:.4g}M tokens")
    if vocabulary is not None and vocabulary < SUBWORDS:
        return Expected(None, f"not computable: the law was not fitted for a vocabulary of {vocabulary:,.0f}")
    mid = E + size_term(parameters) + data_term(effective or tokens) + OFFSET
    doublings = math.log2(vocabulary / GPT2) if vocabulary else 0.0
    shift = mid * LONGER * doublings if abs(doublings) > 0.1 else 0.0
    spread = math.hypot(OFFSET_SPREAD, shift)
    mid += shift
    other = f", {shift:+.2f} ± {abs(shift):.2f} for a vocabulary of {vocabulary:,.0f}" if shift else ""
    repeated = "" if effective is None else f" worth {effective / 1e9:.2f}B fresh ones"
    basis = (
        f"Hoffmann's law (refit of Besiroglu et al. 2024) at {parameters / 1e6:.2f}M parameters and "
        f"{tokens / 1e9:.2f}B tokens{repeated}, +{OFFSET} for GPT-2 tokens of web text{other}; ±{spread:.2f} since no "
        "run on this corpus anchors it"
    )
    return Expected(Interval(mid - spread, mid, mid + spread), basis)


def healthy_slope(tokens: float | None) -> tuple[float, str]:
    """Nats per e-fold of tokens that a run on fresh data, its rate not yet annealed, loses now; and what that rests on.

    β·B/D^β. It falls with the tokens seen, hardly with the model. Far below the law's range it is capped: there the
    law, which was never fitted so early, promises more than any run gives. Unknown tokens: the slope at 100B tokens,
    the slowest that a run of this kind has.
    """
    if not tokens:
        return BETA * data_term(1e11), "tokens unknown: the slowest healthy slope, that of 100B tokens"
    slope = BETA * data_term(max(tokens, 1.0))
    if slope > SLOPE_CAP:
        return SLOPE_CAP, f"capped at {SLOPE_CAP} below the law's range"
    return slope, f"the law's data term at {tokens:.3g} tokens"


SLOPE_CAP = 0.4  # checked on small runs of this engine and on the 124M one-epoch log
