"""What nobody said of a run, and what each such fact would change, in numbers where they can be had."""

from __future__ import annotations

from workbench.plateau import law
from workbench.plateau.evidence import Evidence
from workbench.text import count

_MISSING = {
    "parameters": "the loss expected of this size, and what a larger model would gain",
    "tokens_per_step": "tokens seen: the expected loss, and how fast a healthy run would still improve",
    "unique_tokens": "epochs: whether the data repeat, and what fresh data would gain",
    "lr": "the learning rate over the run: what annealing would still gain",
    "max_steps": "where the plan ends, and the forecast of going on",
    "val_tokens": "how far the held-out level can be trusted: it may be tiny, and a few thousand tokens say little",
    "dropout": "whether regularisation holds the run back",
    "grad_clip": "whether gradients are clipped",
    "step_seconds": "the GPU-hours of going on, cooling down, or the best lever",
}  # fmt: skip
_REPEATED = (4.0, 10.0)  # epochs: up to the first, repeats are nearly worth fresh tokens; from the second on they cost


def missing_facts(e: Evidence) -> dict[str, str]:
    """Fact → what it would change, of those that are unknown and would change anything."""
    facts = e.facts
    missing = {key: what for key, what in _MISSING.items() if facts[key] is None}
    if facts["tokens_seen"] is not None:
        missing.pop("tokens_per_step", None)
    if e.rate is not None:
        missing.pop("lr", None)
    if e.noise.level_se is not None or not e.main_is_heldout:
        missing.pop("val_tokens", None)
    if e.epochs is not None:
        missing.pop("unique_tokens", None)
    elif "unique_tokens" in missing and (tokens := facts.number("tokens_seen")):
        missing["unique_tokens"] += _if_repeated(e, tokens)
    if e.gap is None:
        missing["loss on seen documents"] = "whether the model memorises: without it overfitting cannot be shown"
    return missing


def _if_repeated(e: Evidence, tokens: float) -> str:
    """From how many unique tokens on the run would have repeated nothing that matters, and what repeating costs."""
    few, many = (tokens / epochs for epochs in _REPEATED)
    text = f". Above {count(few)} it made fewer than {_REPEATED[0]:.0f} epochs, which cost nearly nothing"
    if e.expected.loss is not None:
        drawn = e.facts.text("sampling") == "with_replacement"
        cost = law.data_term(law.effective_tokens(tokens, many, drawn)) - law.data_term(tokens)
        text += f"; at {count(many)} fresh tokens would gain {cost:.2f}"
    return text
