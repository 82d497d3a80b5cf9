"""Whether the forecast's interval covers: published runs cut at 40, 60 and 80%, against the loss they ended at.

The width of the interval (``workbench.plateau.decision.WIDENING``) was set on the runs of ``FITTED``; the others are
held out. A cut run is told its plan, as a person who started it would be, and nothing of what came after.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.planted import labels, plan, record
from workbench.plateau.diagnose import diagnose
from workbench.runs.facts import facts_of_log, facts_of_run, override, parse_fact
from workbench.runs.history import History
from workbench.runs.importers.read import read_history

LOGS = Path(__file__).resolve().parents[3] / "shared" / "logs"
CUTS = (0.4, 0.6, 0.8)
_COSINE = ("schedule=cosine", "lr=3e-4", "min_lr=3e-5", "max_steps=24000", "warmup_steps=2160")
_WSD = ("schedule=wsd", "lr=3e-4", "min_lr=3e-5", "max_steps=24000", "cooldown_steps=4000", "warmup_steps=2160")
_CONSTANT = ("schedule=constant", "lr=3e-4", "max_steps=24000", "warmup_steps=2160")
RUNS: dict[str, tuple[str, ...]] = {
    "curves/25M_cosine_24000.csv": ("parameters=25e6", *_COSINE),
    "curves/400M_cosine_24000.csv": ("parameters=400e6", *_COSINE),
    "curves/100M_cosine_24000.csv": ("parameters=100e6", *_COSINE),
    "curves/100M_wsd_20000_24000.csv": ("parameters=100e6", *_WSD),
    "curves/25M_constant_24000.csv": ("parameters=25e6", *_CONSTANT),
    "llmc_124M_fineweb.log": ("schedule=cosine", "lr=6e-4", "min_lr=0", "max_steps=19560", "warmup_steps=700",
                              "parameters=124e6"),
}  # fmt: skip
FITTED = ("curves/25M_cosine_24000.csv", "curves/400M_cosine_24000.csv", "curves/25M_constant_24000.csv")


@dataclass(frozen=True)
class Forecast:
    """One cut of one run: what was foretold of its end, and what came."""

    run: str
    cut: float
    low: float
    mid: float
    high: float
    final: float

    @property
    def covered(self) -> bool:
        return self.low <= self.final <= self.high


def forecasts(names: tuple[str, ...] = tuple(RUNS)) -> Iterator[Forecast]:
    """Every forecast that can be made of those runs."""
    for name in names:
        history, reader = read_history(LOGS / name)
        curve = history.val if len(history.val) >= 10 else history.steps
        last = float(curve["step"][-1])
        # The mean of the last few: a single training loss is mostly its batch.
        tail = curve["loss"][-3:] if curve is history.val else curve["loss"][curve["step"] > 0.995 * last]
        final = float(tail.mean())
        for cut in CUTS:
            early = until(history, cut * last)
            facts = override(facts_of_log(reader.facts, early), [parse_fact(t) for t in RUNS[name]], early)
            loss = diagnose(early, facts).decision["continue"]["final_loss"]
            if loss["mid"] is not None:
                yield Forecast(name, cut, loss["low"], loss["mid"], loss["high"], final)


def small() -> Iterator[Forecast]:
    """The same of the planted suite's healthy development runs: a few hundred steps of 0.03M to 0.5M parameters."""
    for line, run_dir in healthy("cpu"):
        if line["plant"]["of"]:
            continue
        name, last = line["plant"]["name"], max(e.get("step", 0) for e in line["events"])
        for cut in CUTS:
            early = History.of(e for e in line["events"] if e.get("step", 0) <= cut * last)
            loss = diagnose(early, facts_of_run(run_dir, early), run_dir).decision["continue"]["final_loss"]
            if loss["mid"] is not None:
                yield Forecast(name, cut, loss["low"], loss["mid"], loss["high"], labels.final(line))


def healthy(*subsets: str) -> Iterator[tuple[dict[str, Any], Path]]:
    """The planted suite's healthy development runs as recorded, each with a run directory that lasts as it does."""
    with tempfile.TemporaryDirectory() as folder:
        for line in (v for subset in subsets for v in record.read(record.RECORDED, subset)):
            if line["plant"]["split"] == plan.DEV and not line["plant"]["causes"]:
                yield line, record.unpack(line, Path(folder))


def until(history: History, step: float) -> History:
    """The history as it was at a step."""
    result = History()
    result.apply({**history.start, "event": "start"})
    for split, table in history.evals.items():
        for i in range(len(table)):
            if table["step"][i] <= step:
                row = {k: float(table[k][i]) for k in table.fields}
                result.apply({**row, "event": "eval", "split": split})
    steps = history.steps
    for i in range(len(steps)):
        if steps["step"][i] <= step:
            result.apply({"event": "step", **{k: float(steps[k][i]) for k in ("step", "tokens", "loss", "lr")}})
    return result


def main() -> None:
    """Print each forecast; then coverage and error, fitted and held out apart."""
    if not LOGS.is_dir():
        print("needs the shared logs beside the checkout")
        return
    found, little = list(forecasts()), list(small())
    for f in (*found, *little):
        print(
            f"{f.run:<34} {f.cut:.0%}: {f.mid:.3f} ({f.low:.3f} to {f.high:.3f}), came {f.final:.3f}, "
            f"error {f.mid - f.final:+.3f}{'' if f.covered else '  outside'}"
        )
    for what, some in (
        ("fitted", [f for f in found if f.run in FITTED]),
        ("held out", [f for f in found if f.run not in FITTED]),
        ("small", little),
    ):
        error = sum(abs(f.mid - f.final) for f in some) / len(some)
        width = sum(f.high - f.low for f in some) / len(some)
        inside = sum(f.covered for f in some)
        print(
            f"{what}: nominal 90% covers {inside} of {len(some)} ({inside / len(some):.0%}); "
            f"mean error {error:.3f}, mean width {width:.3f} nats"
        )
