"""Verbs about runs: train, runs, stop, resume, and the workbench itself."""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from engine.config import SECTIONS, Config, fields_of, resolve
from workbench.errors import UserError
from workbench.runs import launch
from workbench.runs.follow import Follower
from workbench.runs.machine import refuse_if_too_large
from workbench.runs.store import find_run, list_runs, runs_root
from workbench.text import plain

if TYPE_CHECKING:
    from workbench.app import GptbenchApp

STOP_SECONDS = 120.0


def workbench(args: argparse.Namespace) -> int:
    """``gptbench``: open the workbench on the runs folder, here or (``--web``) in a browser."""
    if args.web:
        return _serve(args)
    if given := [f"--{name}" for name in ("host", "port", "token") if getattr(args, name) is not None]:
        raise UserError(f"{given[0]} says where --web serves: add --web, or leave it out", 2)
    if "TEXTUAL_DRIVER" not in os.environ and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UserError("the workbench needs a terminal; `gptbench --help` lists the verbs that do without", 2)
    from workbench.app import GptbenchApp

    show(GptbenchApp(runs_root(args.runs), data_paths=args.data), args)


def show(app: GptbenchApp, args: argparse.Namespace) -> NoReturn:
    """Run the workbench on this terminal, and end with it."""
    app.run(mouse=not args.no_mouse)
    # All is saved, and workers end with this process. Python's own end would list on the terminal what of DuckDB's its
    # threads still hold.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(app.return_code or 0)


def _serve(args: argparse.Namespace) -> int:
    try:
        from workbench.web import serve
    except ImportError as error:
        raise UserError(
            f"--web needs the extra web ({error}): pip install -c constraints.txt '.[web]' in gptbench's checkout"
        ) from None
    arguments = ["--runs", str(runs_root(args.runs)), *(word for path in args.data for word in ("--data", path))]
    serve(
        arguments + ["--no-mouse"] * args.no_mouse,
        args.host or "127.0.0.1",
        8000 if args.port is None else args.port,
        args.token or os.environ.get("GPTBENCH_TOKEN") or None,
    )
    return 0


def train(args: argparse.Namespace) -> int:
    """``gptbench train``: start a detached run."""
    if args.options:
        print(options_text())
        return 0
    config = planned(args)
    if args.print_command:
        return _print_command(args, config)
    if args.nodes != 1:
        raise UserError("gptbench starts a run on this machine alone; --print-command prints the line for --nodes", 2)
    refuse_if_too_large(config)
    run_dir = create(config, args)
    launch.start(run_dir)
    _say(args, run_dir)
    return watch(run_dir) if args.wait else 0


def planned(args: argparse.Namespace) -> Config:
    """The configuration that the arguments of ``train`` and ``queue add`` mean."""
    overrides: dict[str, Any] = {"data.paths": args.paths} if args.paths else {}
    if args.nproc is not None:
        overrides["train.processes"] = args.nproc
    return resolve(args.config, args.set, overrides)


def _print_command(args: argparse.Namespace, config: Config) -> int:
    launch.refuse_uneven(config, args.nodes)
    run_dir = create(config, args)
    lines = launch.command_lines(run_dir, config.train.processes, args.nodes)
    print(json.dumps({"run": str(run_dir), "command": lines}) if args.json else "\n".join(lines))
    return 0


def create(config: Config, args: argparse.Namespace) -> Path:
    """The run directory; where a recipe is resolved for it, that is shown."""
    if not config.data.recipe:
        return launch.create(config, runs_root(args.runs), args.name)
    from workbench.commands.telling import progress

    with progress("reading footers") as tell:
        return launch.create(config, runs_root(args.runs), args.name, tell)


def resume(args: argparse.Namespace) -> int:
    """``gptbench resume``: go on from the newest checkpoint."""
    run_dir = find_run(runs_root(args.runs), args.target)
    launch.resume(run_dir)
    _say(args, run_dir)
    return watch(run_dir) if args.wait else 0


def stop(args: argparse.Namespace) -> int:
    """``gptbench stop``: wait until the run has written its checkpoint and ended."""
    run_dir = find_run(runs_root(args.runs), args.target)
    if not launch.stop(run_dir, wait=STOP_SECONDS):
        raise UserError(
            f"{run_dir.name} was asked to stop and still runs after {STOP_SECONDS:.0f} s; see its engine.log"
        )
    follower = Follower(run_dir)
    follower.poll()
    answer = {"run": str(run_dir), "state": follower.state(), "step": follower.history.step}
    print(json.dumps(answer) if args.json else f"{plain(run_dir.name)} {answer['state']} at step {answer['step']}")
    return 0


def runs(args: argparse.Namespace) -> int:
    """``gptbench runs``: the runs of the folder, newest first."""
    root = runs_root(args.runs)
    found = list_runs(root, patience=10.0)
    if args.json:
        print(json.dumps([run.to_dict() for run in found], indent=1))
        return 0
    if not found:
        print(f"no runs in {plain(root)}; start one with: gptbench train SHARDS, or: gptbench demo")
        return 0
    rows = [("run", "state", "step", "val loss", "best", "verdict")]
    for run in found:
        of = f"/{run.max_steps}" if run.max_steps else ""
        newest, best = ("" if value is None else f"{value:.4f}" for value in (run.val_loss, run.best_val))
        rows.append((plain(run.name), run.state, f"{run.step}{of}", newest, best, plain(run.verdict or "")))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def watch(run_dir: Path, to: TextIO = sys.stderr, interval: float = 0.5) -> int:
    """Print a run's evaluations until its process ends; 0 unless it failed.

    Interrupting leaves the run going. SIGTERM stops it: a batch system sends that to a job before its time is up, and
    kills what still runs once this process has ended.
    """
    follower = Follower(run_dir)
    shown = 0
    try:
        with _terminated_together(run_dir):
            while True:
                ended = follower.state() != "running"
                follower.poll()
                shown = _print_evals(follower, shown, to)
                if ended:
                    break
                time.sleep(interval)
    except KeyboardInterrupt:
        name = plain(run_dir.name)
        print(f"left running: {name}; gptbench stop {name} ends it", file=sys.stderr)
        return 0
    state, ending = follower.state(), follower.history.stop or {}
    if state in ("failed", "dead"):
        where = f"{run_dir.name} {state} at step {follower.history.step}: "
        if text := ending.get("text"):
            raise UserError(where + text)
        tail = next((line for line in reversed(follower.log_tail(20)) if line.strip()), "empty")
        raise UserError(
            f"{where}its engine died without a word (killed, or out of memory?); gptbench resume {run_dir.name} "
            f"goes on from its newest checkpoint; the last line of its engine.log: {tail}"
        )
    print(f"{state} at step {follower.history.step}", file=to)
    return 0


@contextmanager
def _terminated_together(run_dir: Path) -> Iterator[None]:
    asked = False

    def stop(number: int, frame: object) -> None:
        nonlocal asked
        if not asked:  # torchrun, asked again while it waits for the engines, would wait no longer
            asked = True
            with suppress(UserError, OSError):  # it has ended by itself
                launch.stop(run_dir)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _print_evals(follower: Follower, shown: int, to: TextIO) -> int:
    history = follower.history
    val, seen, steps = history.val, history.seen, history.steps
    for i in range(shown, len(val)):
        step = int(val["step"][i])
        line = f"step {step:>6}"
        line += f"/{history.max_steps}" if history.max_steps else ""
        line += f"  val {val['loss'][i]:.4f}"
        line += f" ± {val['se'][i]:.4f}" if math.isfinite(val["se"][i]) else ""
        line += f"  {val['bpb'][i]:.4f} bits/byte" if math.isfinite(val["bpb"][i]) else ""
        line += f"  seen {seen['loss'][i]:.4f}" if i < len(seen) and seen["step"][i] == step else ""
        if len(steps):
            line += f"  epoch {steps.last('epoch'):.2f}  {steps.last('tokens_per_s'):,.0f} tokens/s"
        print(line, file=to, flush=True)
    return len(val)


def options_text() -> str:
    """Every configuration key with its default and help."""
    defaults = resolve().to_dict()
    lines = []
    for section in SECTIONS:
        for name, field in fields_of(section).items():
            choices = f" ({' | '.join(field.metadata['choices'])})" if field.metadata["choices"] else ""
            value = json.dumps(defaults[section][name])
            lines.append(f"{f'{section}.{name} = {value}':<36} {field.metadata['help']}{choices}")
    return "\n".join(lines)


def _say(args: argparse.Namespace, run_dir: Path) -> None:
    print(json.dumps({"run": str(run_dir)}) if args.json else plain(run_dir), flush=True)
