"""Scores the explainer, and the two baselines, on the logs of other trainers; scorings of held-out runs are kept.

Three views: the log and what its owner can state of the data (``--data SHARDS`` counts it), the log as it was printed,
settings included, and its curves alone.
"""

from __future__ import annotations

import functools
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.planted import labels, plan, score
from tests.benchmarks.planted.others import plan as others
from tests.benchmarks.planted.others import record
from tests.benchmarks.planted.score import Scored, summary
from workbench.plateau.diagnose import Diagnosis, diagnose
from workbench.runs.facts import Fact, facts_of_log, override
from workbench.runs.importers.read import read_history

TOLD, PRINTED, CURVES = "log, and its data stated", "log as printed", "curves only"
IMPLAUSIBLE = 1.0  # nats below the twin: no model of that size is so much better
_HEADER = ("Overriding", "tokens per iteration", "number of parameters", "Initializing", "defaulting", "num ", "using ")


def stands(line: dict[str, Any], lines: dict[str, dict[str, Any]]) -> tuple[bool, str]:
    """``labels.stands``; a loss that is implausibly low stands by itself."""
    if line["plant"]["by"] != "implausible":
        return labels.stands(line, lines)
    below = labels.final(lines[line["plant"]["twin"]]) - labels.final(line)
    return below > IMPLAUSIBLE, f"{below:.2f} below its twin"


def diagnosis(line: dict[str, Any], folder: Path, view: str) -> Diagnosis:
    """The explainer's answer to a log, seen in one of the three ways."""
    text = line["log"]
    if view == CURVES:
        text = "".join(v for v in text.splitlines(keepends=True) if not v.startswith(_HEADER))
    path = folder / "a.log"  # a name that says nothing
    path.write_text(text)
    history, reader = read_history(path)
    told = line["told"] | {"distinct_pairs": pairs().get(f"{_vocabulary(line)}/{line['plant']['corpus']}")}
    given = [(k, Fact(v, "given by --fact")) for k, v in told.items() if v is not None] if view == TOLD else []
    return diagnose(history, override(facts_of_log(reader.facts, history), given, history))


@functools.cache
def pairs() -> dict[str, float]:
    """Encoding and corpus → ``data.word_order.of_shards`` of the shard that it was made of."""
    found: dict[str, float] = json.loads((record.RECORDED / "others-pairs.json").read_text())
    return found


def _vocabulary(line: dict[str, Any]) -> str:
    return others.ENCODINGS[line["plant"]["base"]][0]


def scored(line: dict[str, Any], folder: Path, view: str, truth: float | None = None) -> Scored:
    """The answer as the suite counts it."""
    d = diagnosis(line, folder, view)
    planted = tuple(line["plant"]["causes"])
    gain = next((c.assessment.gain for c in d.causes if c.id in planted and c.probability > 0.5), None)
    ranked = tuple((c.id, c.probability) for c in d.causes)
    return Scored(line["plant"]["name"], planted, ranked, None if gain is None else gain.ends, truth)


def development(records: Path, folder: Path) -> list[Scored]:
    """The labelled development runs, in each view."""
    lines = record.read(records)
    chosen = [v for v in record.kept(plan.DEV, records) if stands(v, lines)[0]]
    return [scored(line, folder, view) for view in (TOLD, PRINTED, CURVES) for line in chosen]


def main(split: str, base: str = "", records: Path = record.RECORDED) -> None:
    """Print the scores of a split, or of one base of it; those held out are kept beside the records."""
    lines = record.read(records)
    chosen = []
    for line in record.kept(split, records):
        if base not in ("", line["plant"]["base"]):
            continue
        good, why = stands(line, lines)
        if good:
            chosen.append(line)
        else:
            print(f"   left out: {line['plant']['name']}: {why}")
    healthy = sum(not v["plant"]["causes"] for v in chosen)
    print(f"-- others {base}, {split}: {len(chosen) - healthy} planted and labelled, {healthy} healthy")
    scorings = []
    with tempfile.TemporaryDirectory() as folder:
        by: dict[str, list[Scored]] = {}
        for view in (TOLD, PRINTED, CURVES):
            by[view] = []
            for line in chosen:
                twin = lines.get(line["plant"]["twin"])
                single = twin is not None and len(line["plant"]["causes"]) == 1
                truth = labels.final(line) - labels.final(twin) if single and twin is not None else None
                by[view].append(scored(line, Path(folder), view, truth))
        stepped = [_with_steps(v, Path(folder)) for v in chosen]
        by["threshold rules"] = [score.threshold_rules(v) for v in stepped]
        by["flat means overfit"] = [score.flat_means_overfit(v) for v in stepped]
    for view in (TOLD, PRINTED):
        for s in by[view]:
            if (s.causes and not s.hit(1)) or (not s.causes and s.named):
                first = ", ".join(f"{cause} {p:.2f}" for cause, p in s.ranked[:3])
                print(f"   {view}: {s.name}: planted {'+'.join(s.causes) or 'nothing'}, said {first}")
    for name, some in by.items():
        found = summary(some)
        print(f"   {name}: " + ", ".join(f"{k} {v}" for k, v in found.items()))
        scorings.append(
            {"time": round(time.time()), "subset": f"others {base}".strip(), "split": split, "scorer": name, **found}
        )
    if split == plan.HELDOUT:
        with (records / "scorings.jsonl").open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(scoring) + "\n" for scoring in scorings)


def _with_steps(line: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The run with the training losses of its log, for the baselines."""
    path = folder / "a.log"
    path.write_text(line["log"])
    history, _ = read_history(path)
    steps = [{"event": "step", "step": s, "loss": v}
             for s, v in zip(history.steps["step"].tolist(), history.steps["loss"].tolist(), strict=True)]  # fmt: skip
    return line | {"events": [*line["events"], *steps]}
