"""The model is too small for the tokens it has seen: what is left to lose is the size term of the law, not the data's.

A larger model is always better at equal tokens; that alone is a lever, no cause. It is the cause of flatness where the
data term has become small beside the size term (Hoffmann et al. 2022): many fresh tokens per parameter, and held-out
text no worse than seen text.
"""

from __future__ import annotations

from workbench.plateau import law
from workbench.plateau.cause import Action, Assessment, Finding
from workbench.plateau.evidence import Evidence
from workbench.plateau.interval import Interval
from workbench.plateau.signals import FAR
from workbench.plateau.verdict import Verdict

ID = "capacity"
TITLE = "The model is too small for these tokens"
PRIOR = -1.0
PROBE = None
INSTEAD = "a larger model on the same tokens"
LARGER = 3.0
TOO_MANY = 400.0  # tokens for each parameter of the blocks: twenty times what is balanced


def assess(e: Evidence, verdict: Verdict) -> Assessment:
    """Tokens per parameter, the two terms of the law, and what speaks for another cause."""
    findings: list[Finding] = []
    missing: list[str] = []
    n, tokens = e.facts.number("parameters"), e.facts.number("tokens_seen")
    if n and tokens:
        _ratio(e, n, tokens, findings)
    else:
        missing.append("parameters and tokens_per_step: the model's size cannot be set against its tokens")
    epochs, gap = e.epochs, e.gap
    if epochs is None:
        missing.append("unique_tokens: repeated data would explain flatness as well")
    elif epochs > 8:
        findings.append(Finding(f"{epochs:.1f} epochs: repeated data come before size", -1.5, {"epochs": epochs}))
    if gap is not None and gap.grows and gap.growth > 0.15:
        text = f"seen text is learnt {gap.growth:.2f} better than held-out text: the model still has room"
        findings.append(Finding(text, -3.0, {"growth": gap.growth}))
    elif gap is not None and gap.growth < 0.1:
        text = f"seen text is learnt no better than held-out text (gap growth {gap.growth:.3f} ± {gap.se:.3f})"
        findings.append(Finding(text, 1.5, {"growth": gap.growth, "se": gap.se}))
    if e.rise is not None and e.rise.beyond_noise:
        findings.append(Finding("the held-out loss rises: too small a model levels off", -2.5, {"rise": e.rise.amount}))
    _rate(e, findings, missing)
    exhausted = _exhausted(e, n, tokens) or _tiny(e, tokens)
    if exhausted and e.trend is not None:
        text = (
            f"it falls by {e.trend.gain.mid:.2f} nats per e-fold of steps, where a healthy run falls by "
            f"{e.trend.healthy:.2f} at these tokens, and neither the data nor the rate explain it"
        )
        findings.append(Finding(text, 1.0, {"gain": e.trend.gain.mid, "healthy": e.trend.healthy}))
    if e.stability.blown_up > 0:
        findings.append(Finding("the training loss has blown up", -2.0, {"blown_up": e.stability.blown_up}))
    fix = f"Train a larger model, about {LARGER:.0f}× the parameters, on the same tokens."
    return Assessment(findings, fix, Action("restart", larger(e)), gain(n, tokens), missing, 0.75 if exhausted else 0.0)


def _exhausted(e: Evidence, n: float | None, tokens: float | None) -> bool:
    """Whether a model past 20 tokens a parameter has nearly stopped, on fresh data and at a sound rate."""
    if not n or not tokens or tokens < 20 * n or e.trend is None or e.trend.gain.high > e.trend.healthy:
        return False
    fresh = e.epochs is not None and e.epochs <= 4 and e.gap is not None and e.gap.growth < 0.1
    sound = e.signals.lr_ratio is None or 1 / 3 <= e.signals.lr_ratio <= 3
    idle = e.rate is None or (e.rate.floor_since is not None and e.rate.floor_since < 0.8 * e.step)
    return fresh and sound and not idle and not e.noise.restless and e.stability.blown_up <= 0


def _blocks(e: Evidence) -> float | None:
    """Parameters of the blocks, 12·layers·width² (Kaplan et al. 2020: embeddings hardly count); None if unknown."""
    layers, width = e.facts.number("n_layer"), e.facts.number("n_embd")
    return 12 * layers * width**2 if layers and width else None


def _tiny(e: Evidence, tokens: float | None) -> bool:
    """Whether the blocks have hundreds of tokens a parameter, and the run falls no faster than a healthy one."""
    blocks = _blocks(e)
    if not blocks or not tokens or tokens < TOO_MANY * blocks or e.trend is None:
        return False
    fast = e.trend.gain.mid > e.trend.healthy and e.trend.gain.low > 0.5 * e.trend.healthy
    if fast or (e.gap is not None and e.gap.grows) or (e.epochs or 0) > 4:
        return False
    sound = e.signals.lr_ratio is None or 1 / FAR < e.signals.lr_ratio < FAR
    return sound and e.stability.blown_up <= 0 and not e.noise.restless and e.step > 3 * e.warm


def _ratio(e: Evidence, n: float, tokens: float, findings: list[Finding]) -> None:
    ratio = tokens / n
    figures = {"tokens_per_parameter": ratio}
    text = f"{ratio:.3g} tokens per parameter (about 20 are balanced)"
    blocks = _blocks(e)
    if blocks and tokens > TOO_MANY * blocks:
        text += f", {tokens / blocks:,.0f} for each of the blocks' {blocks:,.0f}"
    if ratio > 100 or (blocks and tokens > TOO_MANY * blocks):
        weight = 2.5
    elif ratio > 40:
        weight = 1.5
    elif ratio > 15:
        weight = 0.0
    elif ratio > 5:
        weight = -1.5
    else:
        weight = -3.0
    findings.append(Finding(text, weight, figures))
    if e.expected.loss is not None:
        size, data = law.size_term(n), law.data_term(e.effective or tokens)
        text = f"the law's size term is {size:.2f}, its data term {data:.2f}"
        weight = 1.0 if size > 3 * data else -0.5 if size > data else -2.0
        findings.append(Finding(text, weight, {"size_term": size, "data_term": data}))


def _rate(e: Evidence, findings: list[Finding], missing: list[str]) -> None:
    if e.rate is None:
        missing.append("lr and schedule: a rate still high, or at its floor, would explain flatness as well")
    elif e.rate.floor_since is not None and e.rate.floor_since < 0.8 * e.step:
        text = f"the learning rate has stood at its floor since step {e.rate.floor_since:.0f}"
        findings.append(Finding(text, -1.5, {"floor_since": e.rate.floor_since}))
    elif e.rate.share > 0.7:
        text = f"the learning rate is still at {e.rate.share:.0%} of its peak: annealing comes first"
        findings.append(Finding(text, -1.0, {"lr_share": e.rate.share}))
    if e.signals.lr_ratio is not None and not 1 / FAR < e.signals.lr_ratio < FAR:
        text = "the peak rate is far from the published optima, which explains it too"
        findings.append(Finding(text, -1.5, {"lr_ratio": e.signals.lr_ratio}))


def larger(e: Evidence) -> dict[str, int]:
    """Options of a model of about ``LARGER`` times the parameters; none where its shape is unknown."""
    width, layers = e.facts.number("n_embd"), e.facts.number("n_layer")
    if not width or not layers:
        return {}
    heads = int(e.facts.number("n_head") or max(1, width // 64))
    wider = max(round(1.5 * heads), heads + 1)  # heads of the size they have
    return {
        "model.n_head": wider, "model.n_embd": int(width) // heads * wider, "model.n_layer": round(layers * 1.34),
    }  # fmt: skip


def gain(parameters: float | None, tokens: float | None) -> Interval | None:
    """Nats that ``LARGER`` times the parameters give at equal tokens (the law's size term); None outside its range."""
    if parameters is None or not law.FITTED_PARAMETERS[0] <= parameters <= law.FITTED_PARAMETERS[1]:
        return None
    if tokens is None or not law.FITTED_TOKENS[0] <= tokens <= law.FITTED_TOKENS[1]:
        return None
    mid = law.size_term(parameters) - law.size_term(LARGER * parameters)
    return Interval(0.8 * mid, mid, 1.2 * mid)
