"""What a diagnosis advises, as pieces of text, for the report, the pane and the summary. Reads the JSON alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

EQUAL, MORE = "At equal compute", "For more compute"
NO_FIGURE = "no figure for any lever"
TIED = "no honest order between these: their intervals overlap"
_AT_EQUAL_COMPUTE = {"larger_model": ", on a third of the tokens", "more_tokens": ", with half the parameters"}


def choices(decision: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """What can be done; what it comes to (final loss with its interval, steps, hours); what to type for it, or ""."""
    for key, lead in (("continue", "continue as planned"), ("cool_down_now", "cool down now")):
        choice = decision.get(key) or {}
        if choice.get("steps") and (loss := interval(choice.get("final_loss"), 3)):
            text = f"loss {loss}, {choice['steps']:,.0f} steps{_hours(choice, decision)}"
            yield lead, text, choice.get("command") or ""
    best = decision.get("best_lever") or {}
    loss, tied = interval(best.get("final_loss"), 3), best.get("tied_with")
    if not best.get("text") or best["text"] == NO_FIGURE:
        return
    if best["text"] == decision.get("line"):  # said already: what it comes to is new
        if loss:
            yield "with that", f"loss {loss}{_hours(best, decision)}", best.get("command") or ""
        return
    text = f"loss {loss}{_hours(best, decision)}: {brief(best['text'])}" if loss else best["text"]
    yield "best lever", text + (f"; tied with {', '.join(tied)}" if tied else ""), best.get("command") or ""


def brief(text: str) -> str:
    """The beginning of an advice that can be done, without how and why, and without its full stop."""
    return re.split(r"[:;] | \(", text, maxsplit=1)[0].removesuffix(".")


def levers(found: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, list[str], bool]]:
    """Groups of levers: a heading ("" goes on), their texts, and whether there is no order among them.

    At equal compute, where they compare, tier by tier; then what more compute buys; then those without a figure.
    """
    equal = [v for v in found if interval(v.get("gain_equal_compute")) and v["gain_equal_compute"]["mid"] > 0]
    for number, tier in enumerate(sorted({v["tier"] for v in equal})):
        same = [v for v in equal if v["tier"] == tier]
        texts = [
            f"{v['text']}{_AT_EQUAL_COMPUTE.get(v['id'], '')}: gain {interval(v['gain_equal_compute'])} nats"
            for v in same
        ]
        yield "" if number else EQUAL, texts, len(same) > 1
    more = [v for v in found if v.get("compute", 1) > 1 and interval(v.get("gain"))]
    if more:
        yield (
            MORE,
            [f"{v['text']}, at {v['compute']:.0f}× the compute: gain {interval(v['gain'])} nats" for v in more],
            False,
        )
    unknown = [v["text"] for v in found if not interval(v.get("gain"))]
    if unknown:
        yield "Without a figure, for want of facts", ["; ".join(unknown)], False


def interval(value: Any, digits: int = 2) -> str:
    """``0.11 (0.03 to 0.19)``; "" for one that was not computed."""
    if not isinstance(value, Mapping):
        return ""
    ends = [value.get(key) for key in ("low", "mid", "high")]
    if not all(isinstance(end, (int, float)) for end in ends):
        return ""
    low, mid, high = (f"{end:.{digits}f}" for end in ends)
    return f"{mid} ({low} to {high})"


def _hours(choice: Mapping[str, Any], decision: Mapping[str, Any]) -> str:
    hours = choice.get("gpu_hours")
    return "" if not isinstance(hours, (int, float)) else f", {hours:,.3g} {decision.get('hours_of', 'GPU-hours')}"
