"""How often a healthy run is called otherwise: published logs and curves, and the suite's healthy runs, as they grew.

Each is cut at 40, 60, 80 and 100% of its steps, and told its plan or nothing but its log. An alarm is a cause more
probable than not, or a verdict of a plateau, overfitting or divergence.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.benchmarks.forecast import LOGS, RUNS, healthy, until
from tests.benchmarks.planted import plan, score
from workbench.plateau.diagnose import Diagnosis, diagnose
from workbench.runs.facts import Facts, derive, facts_of_log, facts_of_run, override, parse_fact
from workbench.runs.history import History
from workbench.runs.importers.read import read_history

CUTS = (0.4, 0.6, 0.8, 1.0)
HEALTHY_LOGS = ("nanogpt_124M_one_epoch.log", "modded_nanogpt_2024-10-10.txt", "nanochat_speedrun.log")
BAD = ("plateau", "overfitting", "diverging")


@dataclass(frozen=True)
class Said:
    """What was said of one cut of a healthy run; ``told``: whether its plan or configuration was given."""

    run: str
    cut: float
    told: bool
    verdict: str
    cause: str
    probability: float

    @property
    def alarm(self) -> bool:
        return self.probability > 0.5 or self.verdict in BAD


def published() -> Iterator[Said]:
    """Of every published healthy log and curve."""
    for name in (*RUNS, *HEALTHY_LOGS):
        history, reader = read_history(LOGS / name)
        for cut in CUTS:
            early = until(history, cut * history.step) if cut < 1 else history
            plain = facts_of_log(reader.facts, early)
            yield _said(name, cut, False, diagnose(early, plain))
            if given := [parse_fact(text) for text in RUNS.get(name, ())]:
                yield _said(name, cut, True, diagnose(early, override(plain, given, early)))


def suite() -> Iterator[Said]:
    """Of the planted suite's healthy development runs, whole and cut; those cut have no losses by document."""
    for line, run_dir in healthy(*plan.BASES):
        name, last = line["plant"]["name"], max(e["step"] for e in line["events"] if "step" in e)
        for cut in CUTS:
            kept = [e for e in line["events"] if e.get("step", 0) <= cut * last]
            bare = History.of(score.log_line(e) for e in kept if e["event"] in score.LOG_ONLY)
            facts = Facts()
            derive(facts, bare)
            yield _said(name, cut, False, diagnose(bare, facts))
            whole = History.of(kept)
            yield _said(name, cut, True, diagnose(whole, facts_of_run(run_dir, whole), run_dir))


def _said(run: str, cut: float, told: bool, d: Diagnosis) -> Said:
    return Said(run, cut, told, d.verdict.name, d.causes[0].id, d.causes[0].probability)


def main() -> None:
    """Print each alarm, then how many there were."""
    for what, found in (("published", list(published()) if LOGS.is_dir() else []), ("suite", list(suite()))):
        for s in found:
            if s.alarm:
                how = "told" if s.told else "log only"
                print(f"{s.run} at {s.cut:.0%}, {how}: {s.verdict}, {s.cause} {s.probability:.2f}")
        alarms, runs = [s for s in found if s.alarm], {s.run for s in found}
        print(
            f"{what}: {len(alarms)} alarms in {len(found)} looks at {len(runs)} healthy runs "
            f"({len({s.run for s in alarms})} of them)"
        )
