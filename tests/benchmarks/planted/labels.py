"""Whether a label stands, judged by the runs themselves and by none of the explainer's code.

A planted run must end above its undone twin by more than three standard deviations between seeds (and by 0.02), or be
flat where the twin is not; a plant in the held-out set itself must make its level uncertain.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

SEEDS = 3.0
LEAST = 0.02
FLAT = 0.35  # of the twin's slope


def heldout(line: dict[str, Any]) -> np.ndarray:
    """Step and held-out loss of a recorded run, [evaluations, 2]; an evaluation without a number counts as ln V."""
    found = [
        (e["step"], e["loss"] if e["loss"] is not None and math.isfinite(e["loss"]) else 12.0)
        for e in line["events"]
        if e["event"] == "eval" and e.get("split") == "heldout" and e["step"] > 0
    ]
    return np.array(found, dtype=np.float64).reshape(-1, 2)


def final(line: dict[str, Any]) -> float:
    """Mean of the last three evaluations."""
    return float(heldout(line)[-3:, 1].mean())


def slope(line: dict[str, Any]) -> float:
    """Nats that the held-out loss falls per e-fold of tokens over the last half of a run, by least squares."""
    points = heldout(line)
    late = points[points[:, 0] > 0.5 * points[-1, 0]]
    return -float(np.polyfit(np.log(late[:, 0]), late[:, 1], 1)[0])


def seed_spread(lines: dict[str, dict[str, Any]], base: str) -> float | None:
    """Standard deviation between seeds of a base's healthy runs; None below three of them."""
    ends = [final(v) for k, v in lines.items() if k.startswith(f"{base}-healthy-")]
    return float(np.std(ends, ddof=1)) if len(ends) >= 3 else None


def stands(line: dict[str, Any], lines: dict[str, dict[str, Any]]) -> tuple[bool, str]:
    """Whether a recorded run is what its plant says, and why."""
    plant = line["plant"]
    if not plant["causes"]:
        return True, "healthy by construction"
    twin, spread = lines.get(plant["twin"]), seed_spread(lines, plant["base"])
    if plant["by"] == "level":
        errors = [e["se"] for e in line["events"] if e["event"] == "eval" and e.get("se")]
        return bool(errors) and errors[-1] > 0.1, f"its level is known to ± {errors[-1] if errors else math.nan:.2f}"
    if twin is None or spread is None:
        return False, "its twin, or three seeds of its base, are not recorded"
    above = final(line) - final(twin)
    moves, moved = slope(line), slope(twin)
    why = f"{above:+.3f} from its twin (seeds ± {spread:.3f}); falls by {moves:.2f} per e-fold, the twin by {moved:.2f}"
    flat = moved > 0.05 and moves < FLAT * moved
    distant = above > max(SEEDS * spread, LEAST)
    return (flat and distant) if plant["by"] == "flat" else distant, why
