"""Scores the explainer, and two baselines of a few lines, on the recorded runs, dev and held-out apart.

Every scoring of held-out runs is added to ``recorded/scorings.jsonl``. The runs are read here alone: nothing in
``workbench`` can open them.
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.planted import labels, plan, record
from workbench.plateau.cause import all_causes
from workbench.plateau.diagnose import diagnose
from workbench.runs.facts import Fact, Facts, derive, facts_of_log, facts_of_run, override
from workbench.runs.history import History
from workbench.runs.importers.read import read_history
from workbench.runs.read import read_run

AS_LOG = "foreign log, facts given"
FACTS = (
    "parameters", "tokens_per_step", "lr", "min_lr", "warmup_steps", "decay_steps", "cooldown_steps", "max_steps",
    "schedule", "dropout", "weight_decay", "grad_clip", "block_size", "vocab_size", "optimizer", "unique_tokens",
    "train_tokens",
)  # fmt: skip
LOG_ONLY = {"step": ("step", "loss", "lr", "grad_norm"), "eval": ("step", "split", "loss")}


@dataclass(frozen=True)
class Scored:
    """One run under one scorer: causes with probabilities, likeliest first; the gain foretold, and the true one."""

    name: str
    causes: tuple[str, ...]
    ranked: tuple[tuple[str, float], ...]
    gain: tuple[float, float, float] | None = None
    truth: float | None = None

    @property
    def named(self) -> list[str]:
        return [cause for cause, p in self.ranked if p > 0.5]

    def hit(self, first: int) -> bool:
        """Whether a planted cause is above one half and among the first so many."""
        return any(cause in self.causes for cause in self.named[:first])

    def ranked_among(self, first: int) -> bool:
        """Whether a planted cause is among the first so many, however probable."""
        return any(cause in self.causes for cause, _ in self.ranked[:first])


def explained(line: dict[str, Any], run_dir: Path, hidden: bool, truth: float | None) -> Scored:
    """The explainer's answer; ``hidden``: it sees a log of steps, losses, rates and gradient norms, and no more."""
    if hidden:
        history = History.of(log_line(e) for e in line["events"] if e["event"] in LOG_ONLY)
        facts = Facts()
        derive(facts, history)
        d = diagnose(history, facts)
    else:
        source = read_run(run_dir)
        d = diagnose(source.history, facts_of_run(run_dir, source.history), run_dir)
    ranked = tuple((c.id, c.probability) for c in d.causes)
    planted = tuple(line["plant"]["causes"])
    gain = next((c.assessment.gain for c in d.causes if c.id in planted and c.probability > 0.5), None)
    return Scored(line["plant"]["name"], planted, ranked, None if gain is None else gain.ends, truth)


def as_log(line: dict[str, Any], run_dir: Path) -> Scored:
    """The explainer's answer to the same run as nanoGPT prints one, its settings stated as a person states them: no
    gradient norm, no loss by document, no size of the held-out set."""
    losses: dict[tuple[float, bool], dict[str, float]] = {}
    for e in line["events"]:
        if e["event"] in ("eval", "step") and e.get("loss") is not None:
            losses.setdefault((e["step"], e["event"] == "step"), {})[e.get("split", "")] = e["loss"]
    log = run_dir.with_suffix(".log")
    with log.open("w", encoding="utf-8") as file:
        for (step, training), at in sorted(losses.items()):
            if training:
                file.write(f"iter {step}: loss {at['']:.4f}, time 100.00ms, mfu 10.00%\n")
            elif len(at) == 2:
                file.write(f"step {step}: train loss {at['seen']:.4f}, val loss {at['heldout']:.4f}\n")
    history, reader = read_history(log)
    stated = facts_of_run(run_dir, read_run(run_dir).history)
    given = [(k, fact) for k in FACTS if (fact := stated[k]) is not None]
    given = [(k, Fact(fact.value, "given by --fact")) for k, fact in given]
    d = diagnose(history, override(facts_of_log(reader.facts, history), given, history))
    ranked = tuple((c.id, c.probability) for c in d.causes)
    return Scored(line["plant"]["name"], tuple(line["plant"]["causes"]), ranked)


def log_line(event: dict[str, Any]) -> dict[str, Any]:
    return {"event": event["event"]} | {k: event[k] for k in LOG_ONLY[event["event"]] if k in event}


def threshold_rules(line: dict[str, Any]) -> Scored:
    """(val − train)/train > 0.1: overfitting; no fall by 0.1% in ten evaluations: the rate is too low to move."""
    val, train = _curves(line)
    ranked: list[tuple[str, float]] = []
    if len(val) and train is not None and (val[-1] - train) / train > 0.1:
        ranked.append(("data_repetition", 1.0))
    if len(val) > 10 and val[-10:].min() > 0.999 * val[:-10].min():
        ranked.append(("lr_decayed_early", 0.9))
    return Scored(line["plant"]["name"], tuple(line["plant"]["causes"]), tuple(ranked))


def flat_means_overfit(line: dict[str, Any]) -> Scored:
    """No fall by 0.1% in ten evaluations is overfitting."""
    val, _ = _curves(line)
    flat = len(val) > 10 and val[-10:].min() > 0.999 * val[:-10].min()
    ranked = (("data_repetition", 1.0),) if flat else ()
    return Scored(line["plant"]["name"], tuple(line["plant"]["causes"]), ranked)


def _curves(line: dict[str, Any]) -> tuple[np.ndarray, float | None]:
    losses = [e["loss"] for e in line["events"] if e["event"] == "step" and e["loss"] is not None]
    finite = [v for v in losses[-20:] if math.isfinite(v)]
    return labels.heldout(line)[:, 1], float(np.mean(finite)) if finite else None


def wilson(hits: int, of: int) -> str:
    """A share with its 95% interval (Wilson 1927)."""
    if not of:
        return "none"
    z, p = 1.96, hits / of
    middle, half = p + z * z / 2 / of, z * math.sqrt(p * (1 - p) / of + z * z / 4 / of / of)
    low, high = (middle - half) / (1 + z * z / of), (middle + half) / (1 + z * z / of)
    return f"{hits}/{of} ({max(low, 0):.0%} to {min(high, 1):.0%})"


def summary(scored: list[Scored]) -> dict[str, Any]:
    """Top-1 and top-2 of what is named (above one half), the same of the mere ranking, false alarms, Brier score,
    reliability by quarters, and the error of foretold gains."""
    planted, healthy = [s for s in scored if s.causes], [s for s in scored if not s.causes]
    pairs = [(dict(s.ranked).get(c.ID, 0.0), c.ID in s.causes) for s in scored for c in all_causes()]
    bins = [
        [hit for p, hit in pairs if low <= p < low + 0.25 or (low == 0.75 and p >= 1)] for low in (0, 0.25, 0.5, 0.75)
    ]
    gains = [(s.gain, s.truth) for s in planted if s.gain is not None and s.truth is not None]
    return {
        "top1": wilson(sum(s.hit(1) for s in planted), len(planted)),
        "top2": wilson(sum(s.hit(2) for s in planted), len(planted)),
        "ranked1": wilson(sum(s.ranked_among(1) for s in planted), len(planted)),
        "ranked2": wilson(sum(s.ranked_among(2) for s in planted), len(planted)),
        "false_alarms": wilson(sum(bool(s.named) for s in healthy), len(healthy)),
        "brier": round(sum((p - hit) ** 2 for p, hit in pairs) / len(pairs), 4) if pairs else None,
        "reliability": [f"{sum(b)}/{len(b)}" for b in bins],
        "gain_inside": f"{sum(g[0] <= t <= g[2] for g, t in gains)}/{len(gains)}",
        "gain_error": round(float(np.mean([abs(g[1] - t) for g, t in gains])), 3) if gains else None,
    }


def main(records: Path = record.RECORDED, only: str = "") -> None:
    """Print the scores of every recorded subset, or of one split alone; those held out are kept beside the records."""
    begin, scorings = time.perf_counter(), []
    with tempfile.TemporaryDirectory() as folder:
        for subset in plan.BASES:
            lines = {v["plant"]["name"]: v for v in record.read(records, subset)}
            for split in (only,) if only else (plan.DEV, plan.HELDOUT):
                scorings += _score(subset, split, lines, Path(folder))
    if not scorings:
        print("nothing is recorded; python -m tests.benchmarks.planted make")
    if held_out := [s for s in scorings if s["split"] == plan.HELDOUT]:
        with (records / "scorings.jsonl").open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(scoring) + "\n" for scoring in held_out)
    print(f"{time.perf_counter() - begin:.1f} s")


def _score(subset: str, split: str, lines: dict[str, dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    chosen = [v for v in lines.values() if v["plant"]["split"] == split]
    if not chosen:
        return []
    kept = []
    print(f"-- {subset}, {split}: {len(chosen)} runs")
    for line in chosen:
        stands, why = labels.stands(line, lines)
        if stands:
            kept.append(line)
        else:
            print(f"   left out: {line['plant']['name']}: {why}")
    print(f"   {sum(bool(v['plant']['causes']) for v in kept)} planted and labelled, "
          f"{sum(not v['plant']['causes'] for v in kept)} healthy")  # fmt: skip
    by: dict[str, list[Scored]] = {
        "config given": [],
        "log only": [],
        AS_LOG: [],
        "threshold rules": [],
        "flat means overfit": [],
    }
    for line in kept:
        run_dir = record.unpack(line, folder / subset)
        twin = lines.get(line["plant"]["twin"])
        # A mixture's difference is that of both its causes: neither's gain alone can be held against it.
        single = twin is not None and len(line["plant"]["causes"]) == 1
        truth = labels.final(line) - labels.final(twin) if single and twin is not None else None
        by["config given"].append(explained(line, run_dir, False, truth))
        by["log only"].append(explained(line, run_dir, True, truth))
        by[AS_LOG].append(as_log(line, run_dir))
        by["threshold rules"].append(threshold_rules(line))
        by["flat means overfit"].append(flat_means_overfit(line))
    for s in by["config given"]:
        if (s.causes and not s.hit(1)) or (not s.causes and s.named):
            first = ", ".join(f"{cause} {p:.2f}" for cause, p in s.ranked[:3])
            print(f"   {s.name}: planted {'+'.join(s.causes) or 'nothing'}, said {first}")
    results = []
    for scorer, scored in by.items():
        found = summary(scored)
        print(f"   {scorer}: " + ", ".join(f"{k} {v}" for k, v in found.items()))
        results.append({"time": round(time.time()), "subset": subset, "split": split, "scorer": scorer, **found})
    return results
