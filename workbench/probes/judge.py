"""What a finished probe says of its cause: confirmed, refuted, or undecided, with its figures. Reads files alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data.bounded import read_array, read_json
from engine.events import EventReader, number
from workbench.plateau.experiment import MARGIN
from workbench.plateau.interval import Interval
from workbench.probes.compare import Floats, arms_difference, paired_difference, sets_difference
from workbench.probes.design import FORWARD
from workbench.probes.site import FOLDER, PLAN

LEARNT = 0.05  # nats by which text that was trained on is known better before it counts as learnt by heart
ORDERED = (0.05, 0.3)  # nats that the order of tokens is worth: below, none is known; above, it is
FELL, STUCK = 0.1, 0.02  # share of its loss that one batch loses when it alone is trained on, and does not
ENOUGH_TOKENS = 2e7  # behind which a healthy model of any size knows more than single tokens' frequencies


@dataclass(frozen=True)
class Result:
    """A settled probe, as ``result.json`` holds it.

    Attributes:
        confirmed: None is undecided. why: one sentence with its figures.
        gain: nats by which the change lowered the loss (or the difference that was measured); None without one.
        step: of the checkpoint; cost_measured: share of the run's compute that it took in fact.
    """

    cause: str
    what: str
    confirmed: bool | None
    why: str
    step: int
    gain: dict[str, float | None] | None = None
    steps: int = 0
    tokens: int = 0
    cost_fraction: float = 0.0
    cost_measured: float = 0.0
    seconds: float = 0.0
    arms: list[dict[str, Any]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def read_plan(run_dir: Path, cause: str) -> dict[str, Any] | None:
    """A probe's plan, or None where there is none to be read."""
    try:
        plan = read_json(run_dir / FOLDER / cause / PLAN)
    except (OSError, ValueError):
        return None
    return plan if isinstance(plan, dict) and plan.get("format") == 1 else None


def judge(run_dir: Path, cause: str) -> Result | None:
    """The result of a probe whose arms, or measurement, are all done; None as long as something is missing."""
    plan = read_plan(run_dir, cause)
    if plan is None:
        return None
    try:
        return _judge_arms(run_dir, plan) if plan["judge"] == "arms" else _judge_measurement(run_dir, plan)
    except (KeyError, TypeError, ValueError, IndexError):
        return None


@dataclass(frozen=True)
class ArmState:
    """How far an arm is: its step, tokens trained and evaluated, seconds of its steps; losses once it has ended."""

    step: int
    trained: float
    evaluated: float
    seconds: float
    diverged: bool
    losses: Floats | None
    weights: Floats | None

    @property
    def done(self) -> bool:
        """Whether nothing more comes of it."""
        return self.diverged or self.losses is not None


def arm_state(run_dir: Path, arm: Mapping[str, Any]) -> ArmState:
    """Read an arm's events and losses."""
    folder = run_dir / FOLDER / "arms" / str(arm["name"])
    step, trained, evaluated, seconds = 0, 0.0, 0.0, 0.0
    diverged = False
    for event in EventReader(folder).read():
        if event["event"] == "step":
            step = int(_known(event, "step"))
            trained += _known(event, "step_tokens")
            seconds += _known(event, "step_time")
        elif event["event"] == "eval":
            evaluated += _known(event, "tokens")
            seconds += _known(event, "seconds")
        elif event["event"] == "stop":
            diverged = event.get("reason") == "failed" and "not finite" in str(event.get("text"))
    losses = _load(folder / "evals" / f"heldout-{int(arm['last']):08d}.npy")
    weights = _load(folder / "evals" / "heldout-tokens.npy")
    if losses is None or weights is None or losses.shape != weights.shape:
        losses = weights = None
    elif not np.isfinite(losses).all():
        diverged, losses = True, None
    return ArmState(step, trained, evaluated, seconds, diverged, losses, weights)


def _known(event: dict[str, Any], key: str) -> float:
    value = number(event, key)
    return value if math.isfinite(value) else 0.0


def _load(path: Path) -> Floats | None:
    try:
        return np.asarray(read_array(path), np.float64).reshape(-1)
    except (OSError, ValueError):
        return None


def _judge_arms(run_dir: Path, plan: dict[str, Any]) -> Result | None:
    states = [(arm, arm_state(run_dir, arm)) for arm in plan["arms"]]
    if not states or not all(state.done for _, state in states):
        return None
    spent = float(plan["spent_tokens"])
    cost = sum(s.trained + FORWARD * s.evaluated for _, s in states) / spent

    def level(s: ArmState) -> float | None:
        known = s.losses is not None and s.weights is not None
        return round(float(np.average(s.losses, weights=s.weights)), 5) if known else None  # type: ignore[arg-type]

    described = [
        {"name": a["name"], "changed": a["changed"], "pair": a["pair"], "tokens": round(s.trained),
         "loss": level(s)}
        for a, s in states
    ]  # fmt: skip
    common = {
        "cause": plan["cause"], "what": plan["what"], "step": int(plan["step"]), "steps": int(plan["steps"]),
        "tokens": int(plan["tokens"]), "cost_fraction": float(plan["cost_fraction"]), "cost_measured": round(cost, 5),
        "seconds": round(sum(s.seconds for _, s in states), 3), "arms": described,
    }  # fmt: skip
    plain, changed = ([s for a, s in states if a["changed"] is flag] for flag in (False, True))
    lost = [any(s.diverged for s in group) for group in (plain, changed)]
    if any(lost):
        confirmed = {(True, False): True, (False, True): False}.get((lost[0], lost[1]))
        which = " and ".join(name for name, yes in zip(("plain", "changed"), lost, strict=True) if yes)
        return Result(confirmed=confirmed, why=f"the {which} arms diverged", **common)
    weights = plain[0].weights
    if weights is None or any(s.losses is None or s.losses.shape != weights.shape for s in (*plain, *changed)):
        return None
    gain, se, sd = arms_difference([s.losses for s in plain if s.losses is not None],
                                   [s.losses for s in changed if s.losses is not None], weights)  # fmt: skip
    confirmed = verdict_of(gain, plan["refutes"])
    lower = "lower" if gain.mid >= 0 else "higher"
    low, high = sorted((gain.low, gain.high)) if gain.mid >= 0 else sorted((-gain.high, -gain.low))
    why = (
        f"over {plan['steps']} steps from step {plan['step']} the changed arms end {abs(gain.mid):.3f} nats {lower} "
        f"({low:.3f} to {high:.3f}; {len(weights)} held-out documents paired ± {se:.3f}, two orders of the data ± "
        f"{sd:.3f})"
    )
    healthy = plan.get("healthy_cooldown")
    if confirmed and healthy is not None:
        fallen = _fallen(run_dir, plan, [s.losses for s in changed if s.losses is not None], weights)
        if fallen is None or fallen < healthy:
            confirmed = None
            shown = "unknown" if fallen is None else f"{fallen:.3f}"
            why += (
                f": but they came down by {shown} in all, no more than annealing may give a healthy run of this size "
                f"({healthy:.2f})"
            )
        else:
            why += f": they came down by {fallen:.3f}, where annealing gives a healthy run {healthy:.2f} at most"
    elif confirmed is None:
        why += _undecided(plan["refutes"], gain)
    return Result(confirmed=confirmed, why=why, gain=gain.to_dict(), **common)


def _fallen(run_dir: Path, plan: dict[str, Any], changed: list[Floats], weights: Floats) -> float | None:
    """How much lower the changed arms end than the checkpoint stood, nats, on the same documents; None if unknown."""
    name = next(str(arm["name"]) for arm in plan["arms"] if not arm["changed"])
    before = _load(run_dir / FOLDER / "arms" / name / "evals" / f"heldout-{int(plan['step']):08d}.npy")
    if before is None or before.shape != weights.shape:
        return None
    return float(np.average(before - np.mean(changed, axis=0), weights=weights))


def verdict_of(gain: Interval, refutes: float | None = MARGIN, margin: float = MARGIN) -> bool | None:
    """Confirmed: surely above 0 and by ``margin`` or more; refuted: surely less than ``refutes``; else undecided."""
    if gain.low > 0 and gain.mid >= margin:
        return True
    return False if refutes is not None and gain.high < refutes else None


def _undecided(refutes: float | None, gain: Interval) -> str:
    if refutes is None and gain.high < MARGIN:
        return ": so few tokens could prove this cause, but not disprove it"
    least = min(MARGIN, refutes or MARGIN)
    return f": it may be more or less than {least:g}, longer arms would tell"


def _judge_measurement(run_dir: Path, plan: dict[str, Any]) -> Result | None:
    try:
        found = read_json(run_dir / FOLDER / plan["cause"] / "measured.json")
    except (OSError, ValueError):
        return None
    losses = {
        (int(r["step"]), str(r["set"])): (np.array(r["losses"], float), np.array(r["tokens"], float))
        for r in found["losses"]
    }
    step = int(plan["step"])
    at = {name: value for (s, name), value in losses.items() if s == step}
    spent = float(plan["spent_tokens"])
    cost = (float(found["trained_tokens"]) + FORWARD * float(found["forward_tokens"])) / spent
    empty = [name for name in plan["measure"]["sets"] if name not in at and name not in ("leaked", "clean")]
    confirmed, why, gain = (
        (None, f"there are no documents of: {', '.join(empty)}", None)
        if empty
        else _READ[plan["judge"]](at, losses, found, spent)
    )
    return Result(
        plan["cause"], plan["what"], confirmed, f"at step {step} {why}", step, None if gain is None else gain.to_dict(),
        cost_fraction=float(plan["cost_fraction"]), cost_measured=round(cost, 5), seconds=round(found["seconds"], 3),
    )  # fmt: skip


Sets = dict[str, tuple[Floats, Floats]]
Read = tuple[bool | None, str, Interval | None]


def _memorised(at: Sets, every: Any, found: dict[str, Any], spent: float) -> Read:
    gap = sets_difference(at["heldout"], at["seen"])
    why = f"held-out documents have a loss {_signed(gap)} above those trained on ({_counts(at, 'heldout', 'seen')})"
    return verdict_of(gap, LEARNT, LEARNT), why, gap


def _leaked(at: Sets, every: Any, found: dict[str, Any], spent: float) -> Read:
    if "leaked" not in at or "clean" not in at:
        which = "every" if "leaked" in at else "no"
        return "leaked" in at, f"{which} held-out document has an exact copy in the training data", None
    whole = tuple(np.concatenate([at["clean"][i], at["leaked"][i]]) for i in (0, 1))
    share = float(at["leaked"][1].sum() / whole[1].sum())
    gap = sets_difference(at["clean"], at["leaked"])
    effect = Interval(share * gap.low, share * gap.mid, share * gap.high)
    why = f"without the copied ones the held-out loss is {_signed(effect)} higher ({_counts(at, 'leaked', 'clean')})"
    return verdict_of(effect), why, effect


def _shift(at: Sets, every: Any, found: dict[str, Any], spent: float) -> Read:
    gap = sets_difference(at["heldout"], at["unread"])
    why = f"held-out text lies {_signed(gap)} above training text not read yet ({_counts(at, 'heldout', 'unread')})"
    return verdict_of(gap, LEARNT, LEARNT), why, gap


def _tiny(at: Sets, every: dict[tuple[int, str], tuple[Floats, Floats]], found: dict[str, Any], spent: float) -> Read:
    first, last = min(s for s, _ in every), max(s for s, _ in every)
    falls = []
    for names in (("own",), ("own", "more")):
        before, after = (np.concatenate([every[s, n][0] for n in names if (s, n) in every]) for s in (first, last))
        weights = np.concatenate([every[last, n][1] for n in names if (last, n) in every])
        falls.append(paired_difference(before, after, weights))
    own, whole = falls
    why = (
        f"since step {first} the loss fell by {_signed(own)} on the documents that the run evaluates, and by "
        f"{_signed(whole)} on these and {len(at.get('more', ((), ()))[0])} more"
    )
    if whole.low > 0 >= own.low:
        return True, why, whole
    agree = own.low > 0 and whole.low > 0
    level = whole.high - whole.low < 0.04 and whole.low <= 0
    return (False if agree or level else None), why, whole


def _order(at: Sets, every: Any, found: dict[str, Any], spent: float) -> Read:
    worth = paired_difference(at["scrambled"][0], at["heldout"][0], at["heldout"][1])
    fell = _fell(found)
    why = (
        f"the order of the tokens is worth {_signed(worth)} ({len(at['heldout'][0])} documents scrambled), and one "
        f"batch trained on alone loses {fell:.0%} of its loss in {len(found['overfit'])} steps"
    )
    if worth.low > ORDERED[1]:
        return False, why, worth
    if worth.high < ORDERED[0] and fell > FELL and spent > ENOUGH_TOKENS:
        return True, why, worth
    return None, why, worth


def _alive(at: Sets, every: Any, found: dict[str, Any], spent: float) -> Read:
    fell, dead = _fell(found), int(found["dead_tensors"])
    losses = found["overfit"]
    why = (
        f"one batch trained on alone goes from {losses[0]:.3f} to {losses[-1]:.3f} in {len(losses)} steps of a fresh "
        f"optimiser; {dead} of {found['tensors']} tensors have no gradient"
    )
    return (True if fell < STUCK else False if fell > FELL and not dead else None), why, None


def _fell(found: dict[str, Any]) -> float:
    first, last = float(found["overfit"][0]), float(np.mean(found["overfit"][-3:]))
    return (first - last) / first if math.isfinite(last) and first > 0 else 0.0


def _signed(value: Interval) -> str:
    return f"{value.mid:+.3f} nats ({value.low:+.3f} to {value.high:+.3f})"


def _counts(at: Sets, *names: str) -> str:
    return " and ".join(f"{len(at[name][0])}" for name in names) + " documents"


_READ = {
    "memorised": _memorised, "leaked": _leaked, "shift": _shift, "tiny": _tiny, "order": _order, "alive": _alive,
}  # fmt: skip
