"""``gptbench probe``: the short experiment that settles a cause."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from workbench.errors import UserError
from workbench.plateau.cause import Cause, all_causes, cause_of, instead_of
from workbench.plateau.diagnose import Diagnosis, diagnosis_of
from workbench.plateau.experiment import BUDGET
from workbench.plateau.order import RankedCause
from workbench.probes import conduct, results
from workbench.probes.judge import Result
from workbench.probes.site import NoProbe
from workbench.runs.read import read_run
from workbench.runs.store import find_run, runs_root
from workbench.text import plain, quoted

STOP_SECONDS = 120.0
_LOOK = 0.3  # seconds between two looks at the arms


def probe(args: argparse.Namespace) -> int:
    """Plan it, start it in a process of its own, follow it, and say what it settles."""
    run_dir = find_run(runs_root(args.runs), args.target)
    if args.stop:
        return _stop(run_dir)
    if args.budget is not None and not 0 < args.budget <= 1:
        raise UserError(f"--budget {args.budget:g}: a share of the run's compute, above 0 and at most 1", 2)
    cause = _cause(args.cause)
    if cause is None and conduct.running(run_dir) and (name := conduct.current(run_dir)):
        cause = cause_of(name)  # follow the one under way
    if not (run_dir / "config.toml").is_file():
        raise NoProbe(_by_hand(run_dir, cause))
    diagnosis = diagnosis_of(read_run(run_dir))
    ranked = _chosen(diagnosis, cause)
    module = cause_of(ranked.id)
    assert module is not None
    if module.PROBE is None or ranked.probe is None:
        raise NoProbe(f"{ranked.id}: no short experiment settles it; what would: {ranked.instead}")
    known = results.settle(run_dir).get(ranked.id)
    under_way = conduct.running(run_dir) and conduct.current(run_dir) == ranked.id
    if not under_way and (known is None or args.budget is not None or args.again):
        plan = conduct.prepare(run_dir, ranked.id, module.PROBE, args.budget or (BUDGET if args.again else None))
        _say(args, f"{ranked.id}: {plan['what']}")
        _say(args, _plan_line(plan))
        conduct.start(run_dir, ranked.id)
        under_way = True
    if under_way:
        if args.detach:
            print(
                json.dumps({"run": str(run_dir), "cause": ranked.id})
                if args.json
                else f"started: {plain(run_dir.name)}"
            )
            return 0
        _follow(run_dir, args)
        known = results.settle(run_dir).get(ranked.id)
    if known is None:
        said = plain(conduct.failure(run_dir)) or "it was stopped; the same command goes on from there"
        raise UserError(f"{run_dir.name}: the probe of {ranked.id} ended without a result: {said}")
    return _answer(args, run_dir, known)


def _cause(name: str | None) -> Cause | None:
    if name is None:
        return None
    found = cause_of(name)
    if found is None:
        from engine.config import suggest

        known = [cause.ID for cause in all_causes()]
        near = suggest(name, known)
        raise UserError(f"no cause {name!r}; " + (f"did you mean {near}?" if near else f"known: {', '.join(known)}"), 2)
    return found


def _by_hand(run_dir: Path, cause: Cause | None) -> str:
    if cause is None:
        by_hand = "name a cause, and what to do by hand is said"
    elif cause.PROBE is None:
        by_hand = f"what would settle {cause.ID}: {instead_of(cause)}"
    else:
        by_hand = f"by hand, with its trainer: {cause.PROBE.what}"
    return f"{run_dir.name} is an imported log: there is no checkpoint to branch here; {by_hand}"


def _chosen(diagnosis: Diagnosis, cause: Cause | None) -> RankedCause:
    """The named cause; else the likeliest that is not settled and has a probe that this run allows."""
    if cause is not None:
        return next(c for c in diagnosis.causes if c.id == cause.ID)
    for ranked in diagnosis.causes:
        if ranked.confirmed is None and ranked.result is None and ranked.probe and not ranked.probe.refused:
            return ranked
    first = next((c for c in diagnosis.causes if c.confirmed is None), diagnosis.causes[0])
    why = first.probe.refused if first.probe else f"no short experiment settles {first.id}; what would: {first.instead}"
    raise NoProbe(why)


def _plan_line(plan: dict[str, Any]) -> str:
    cost = f"{plan['cost_fraction']:.1%} of the run's compute so far"
    if not plan["arms"]:
        return f"checkpoint of step {plan['step']}, {cost}"
    return (
        f"{len(plan['arms'])} arms from the checkpoint of step {plan['step']}, {plan['tokens']:,} tokens each "
        f"({plan['steps']} steps of the plain ones), {cost}"
    )


def _follow(run_dir: Path, args: argparse.Namespace) -> None:
    """Until it ends; an interrupt stops it behind its step, and it goes on from there the next time."""
    shown = ""
    try:
        while conduct.running(run_dir):
            progress = conduct.under_way(run_dir)
            line = f"arm {min(progress.done + 1, progress.arms)} of {progress.arms}" if progress else ""
            if line and progress and progress.arms and line != shown:
                shown = line
                _say(args, f"{line}, {progress.fraction:.0%}")
            time.sleep(_LOOK)
    except KeyboardInterrupt:
        if conduct.running(run_dir):
            conduct.stop(run_dir, STOP_SECONDS)
        done = conduct.under_way(run_dir)
        what = f"{done.done} of {done.arms} arms are done" if done and done.arms else "stopped"
        print(f"gptbench: {what}; the same command goes on from there", file=sys.stderr)
        raise


def _stop(run_dir: Path) -> int:
    if not conduct.stop(run_dir, STOP_SECONDS):
        raise UserError(f"{run_dir.name}: the probe was asked to stop and still runs; see probes/engine.log")
    print("stopped; gptbench probe goes on from there")
    return 0


def _answer(args: argparse.Namespace, run_dir: Path, result: Result) -> int:
    if args.json:
        print(json.dumps({"run": str(run_dir), **result.to_dict()}, indent=1, allow_nan=False))
        return 0
    word = {True: "CONFIRMED", False: "REFUTED", None: "UNDECIDED"}[result.confirmed]
    print(f"{word} {result.cause}: {plain(result.why)}.")
    print(f"cost: {result.cost_measured:.1%} of the run's compute, {result.seconds:.1f} s of steps and evaluations")
    if result.confirmed is None:
        print(f"more may tell: gptbench probe {quoted(run_dir.name)} {result.cause} --budget {min(1.0, 2 * BUDGET):g}")
    return 0


def _say(args: argparse.Namespace, text: str) -> None:
    print(plain(text), file=sys.stderr if args.json else sys.stdout, flush=True)
