"""Verbs about a run's model: sample, hf, branch."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from engine.errors import RunError
from workbench.commands.run import watch
from workbench.errors import UserError
from workbench.runs import launch
from workbench.runs.store import find_run, runs_root
from workbench.text import plain


def sample(args: argparse.Namespace) -> int:
    """``gptbench sample``: text of a run's model, as it is made."""
    more = [f"--{name.replace('_', '-')}={getattr(args, name)}" for name in
            ("prompt", "step", "tokens", "temperature", "top_k", "top_p", "seed", "device")]  # fmt: skip
    return _engine("sample", _trained(args), *more, *(["--json"] if args.json else []))


def hf(args: argparse.Namespace) -> int:
    """``gptbench hf``: a folder that transformers loads."""
    more = [f"--output={Path(args.output).absolute()}", f"--step={args.step}"]
    return _engine("hf", _trained(args), *more, *(["--json"] if args.json else []))


def branch(args: argparse.Namespace) -> int:
    """``gptbench branch``: a new run that goes on from a checkpoint of another, with changed options."""
    run_dir = _trained(args)
    try:
        made = launch.branch(run_dir, args.from_step, args.set, runs_root(args.runs), args.name)
    except RunError as error:
        raise UserError(str(error)) from None
    if not args.no_start:
        launch.start(made)
    answer = {"run": str(made), "branched_from": str(run_dir), "step": args.from_step}
    print(json.dumps(answer) if args.json else plain(made), flush=True)
    return watch(made) if args.wait and not args.no_start else 0


def _trained(args: argparse.Namespace) -> Path:
    run_dir = find_run(runs_root(args.runs), args.target)
    if not (run_dir / "config.toml").is_file():
        raise UserError(f"{run_dir.name} is an imported log: it has no model here")
    return run_dir


def _engine(verb: str, run_dir: Path, *more: str) -> int:
    """Run one of the engine's verbs in a process of its own, on this terminal; it makes its text safe itself."""
    command = [sys.executable, "-P", "-m", "engine", verb, str(run_dir), *more]
    done = subprocess.run(command, env=launch.environment(), stderr=subprocess.PIPE, text=True, check=False)
    said = plain(done.stderr.strip(), lines=True)
    if done.returncode == 0:
        print(said, file=sys.stderr, end="\n" if said else "")
        return 0
    if done.returncode == 130:
        raise KeyboardInterrupt
    raise UserError(said.splitlines()[-1] if said else f"the engine ended with exit code {done.returncode}")
