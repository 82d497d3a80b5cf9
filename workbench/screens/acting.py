"""What a screen does about a run: branch it, apply a cause's fix, probe a cause. Work is done in threads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.screens.base import WorkbenchScreen
from workbench.widgets.format import duration

if TYPE_CHECKING:
    from workbench.plateau.fixes import Fix
    from workbench.probes.site import Site


def branch(screen: WorkbenchScreen, run_dir: Path) -> None:
    """Ask for a step and options, and start the branch."""

    def visited(site: Site) -> None:
        ask(screen, site)

    _visit(screen, run_dir, visited)


def ask(screen: WorkbenchScreen, site: Site, step: int | None = None, sets: Sequence[str] = ()) -> None:
    """The question, filled in; its answer starts the branch and opens it."""
    from workbench.widgets.branch_dialog import BranchDialog

    def check(step: int, sets: list[str]) -> str:
        from engine import branch as branching
        from engine.config import ConfigError, parse_set, resolve
        from engine.errors import RunError

        try:
            given = {parse_set(text)[0] for text in sets}
            free = {"train.epochs": None} if "train.max_steps" in given and "train.epochs" not in given else {}
            branching.check(site.config, resolve(site.run_dir / "config.toml", sets, free), step)
        except (ConfigError, RunError) as error:
            return str(error)
        return ""

    def answered(answer: tuple[int, list[str]] | None) -> None:
        if answer is not None:
            screen.in_thread(lambda: _start_branch(screen, site.run_dir, *answer))

    steps = [kept.step for kept in site.checkpoints]
    screen.app.push_screen(BranchDialog(f"Branch of {site.run_dir.name}", steps, check, sets, step), answered)


def _start_branch(screen: WorkbenchScreen, run_dir: Path, step: int, sets: list[str]) -> str:
    from workbench.runs import launch

    made = launch.branch(run_dir, step, sets, screen.bench.runs_root)
    launch.start(made)
    screen.app.call_from_thread(screen.bench.open_run, made)
    return ""


def apply_fix(screen: WorkbenchScreen, run_dir: Path, cause: Mapping[str, Any]) -> None:
    """What the cause's action comes to here: the question of a branch, or Launch, both filled in."""
    raw = cause.get("action")
    action: Mapping[str, Any] = raw if isinstance(raw, Mapping) else {}

    def work() -> str:
        from workbench.plateau.fixes import fix_of
        from workbench.probes.site import visit

        site = visit(run_dir) if action.get("kind") == "branch" else None
        found = fix_of(str(action.get("kind")), action.get("set") or {}, action.get("from_step"), site)
        screen.app.call_from_thread(_fix, screen, run_dir, cause, found, site)
        return ""

    screen.in_thread(work)


def _fix(screen: WorkbenchScreen, run_dir: Path, cause: Mapping[str, Any], fix: Fix, site: Site | None) -> None:
    from workbench.plateau.fixes import set_texts

    if fix.kind == "branch" and site is not None:
        ask(screen, site, fix.step, set_texts(fix.sets))
    elif fix.kind == "restart":
        from engine.config import ConfigError

        try:
            screen.bench.plan_like(run_dir, fix.sets)
        except ConfigError as error:
            screen.say(str(error), wrong=True)
            return
        screen.say(str(cause.get("fix") or ""))
    else:
        screen.say(f"nothing to start: {cause.get('fix') or 'no fix is known'}")


def probe(screen: WorkbenchScreen, run_dir: Path, cause: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Ask whether to probe the cause, saying what it costs, and start it; stop the one under way instead."""
    from workbench.probes import conduct
    from workbench.widgets.prompt import Confirm

    name = str(cause.get("id"))
    if conduct.running(run_dir):

        def stop(yes: bool | None) -> None:
            if yes:
                screen.in_thread(lambda: _stop_probe(run_dir))

        screen.app.push_screen(Confirm(f"Stop the probe of {conduct.current(run_dir)}? What is done stays."), stop)
        return
    planned = cause.get("probe")
    if not isinstance(planned, Mapping):
        screen.say(f"no short experiment settles {name}: {cause.get('instead') or ''}", wrong=True)
        return
    if planned.get("refused"):
        screen.say(str(planned["refused"]), wrong=True)
        return
    if cause.get("confirmed") is not None:
        screen.say(f"{name} is settled: gptbench probe {run_dir.name} {name} --again asks anew")
        return

    def start(yes: bool | None) -> None:
        if yes:
            screen.in_thread(lambda: _start_probe(run_dir, name))

    share = planned.get("cost_fraction") or 0.0
    question = f"Settle {name} by experiment? {planned.get('what')}. Costs {share:.1%} of the run's compute so far"
    screen.app.push_screen(Confirm(f"{question}{_time(facts, share)}."), start)


def _time(facts: Mapping[str, Any], share: float) -> str:
    """How long that is, where the run's pace is known."""
    seen, per_step, seconds = (
        value if isinstance(value := (facts.get(key) or {}).get("value"), (int, float)) else 0
        for key in ("tokens_seen", "tokens_per_step", "step_seconds")
    )
    return f", about {duration(share * seen / per_step * seconds)} at its pace" if seen and per_step and seconds else ""


def _stop_probe(run_dir: Path) -> str:
    from workbench.probes import conduct

    conduct.stop(run_dir)
    return "the probe ends behind its step; p goes on from there"


def _start_probe(run_dir: Path, name: str) -> str:
    from workbench.plateau.cause import cause_of
    from workbench.probes import conduct

    cause = cause_of(name)
    if cause is not None and cause.PROBE is not None:
        conduct.prepare(run_dir, name, cause.PROBE)
        conduct.start(run_dir, name)
    return f"the probe of {name} has begun; p stops it"


def _visit(screen: WorkbenchScreen, run_dir: Path, then: Callable[[Site], None]) -> None:
    def work() -> str:
        from workbench.probes.site import visit

        screen.app.call_from_thread(then, visit(run_dir))
        return ""

    screen.in_thread(work)
