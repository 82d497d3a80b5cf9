"""Create, start, stop and resume runs. The engine is a process of its own session: it outlives whoever started it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import engine
from data import encoding
from data.packed import default_cache, inputs
from engine import branch as branching
from engine import process
from engine.config import Config, ConfigError, load, parse_set, resolve
from engine.errors import RunError
from engine.keep import FILE_NAME as KEEP_NAME
from workbench.errors import UserError
from workbench.runs import recipes
from workbench.runs.store import state_of, summarise
from workbench.text import quoted

LOCK_SECONDS = 3.0
LOG_NAME = "engine.log"
_children: list[subprocess.Popen[bytes]] = []  # kept, so that an ended engine is waited for and never a zombie


def create(
    config: Config,
    root: Path,
    name: str | None = None,
    on_progress: Callable[[str, float], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Path:
    """Make the run directory ``<root>/<name>-<YYYYmmdd-HHMMSS>`` with its resolved ``config.toml``.

    Paths are made absolute and folders and globs are replaced by the files they hold now, so that running the
    configuration again is the same run. A recipe is resolved here (which may take minutes: ``on_progress`` is told the
    stage and the fraction done, ``cancelled`` is asked whether to stop) and copied into the run, with the rows that it
    chose.

    Raises:
        UserError: no shards given, or the folder cannot be written.
        data.files.ShardError: a path that does not exist, or holds no parquet file, an encoding that is not known, or a
            recipe that cannot be applied.
        data.workers.Cancelled: stopped while a recipe was resolved; there is no run directory.
    """
    if not config.data.paths:
        raise UserError("no shards to train on: name parquet files or folders (gptbench train PATH…, or data.paths)", 2)
    if not config.train.branched_from:  # a branch has the encoding of its run, which may be a plug-in of the engine's
        encoding.check(config.data.encoding)
    config = config.replace(
        data={
            "paths": tuple(inputs(config.data.paths)),
            "val_paths": tuple(inputs(config.data.val_paths)) if config.data.val_paths else (),
            "cache": str(Path(config.data.cache or default_cache()).expanduser().resolve()),
        },
        train={"init_from": str(Path(config.train.init_from).resolve()) if config.train.init_from else None},
    )
    resolved = recipes.resolve(config, on_progress, cancelled)
    label = re.sub(r"[^A-Za-z0-9._-]+", "-", name or config.model.preset).strip("-.")[:80] or "run"
    try:
        root.mkdir(parents=True, exist_ok=True)
        run_dir = new_folder(root, label)
        if resolved is not None:
            config = config.replace(data={"recipe": str(resolved.write(run_dir).absolute())})
        (run_dir / "config.toml").write_text(config.to_toml(), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{root}: cannot make a run directory: {error.strerror}; choose another with --runs") from None
    return run_dir


def branch(run_dir: Path, step: int, sets: Sequence[str], root: Path, name: str | None = None) -> Path:
    """Make a run that goes on from a checkpoint of ``run_dir``, its configuration changed by ``sets``; not started.

    Raises:
        engine.errors.RunError: no such checkpoint, or changes that its weights and optimiser do not allow.
        engine.config.ConfigError, UserError: as ``resolve`` and ``create``.
    """
    before, found = load(run_dir / "config.toml"), branching.checkpoint_of(run_dir, step)
    overrides: dict[str, Any] = {"train.branched_from": str(found)}
    keys = {parse_set(text)[0] for text in sets}
    if "train.max_steps" in keys and "train.epochs" not in keys:
        overrides["train.epochs"] = None
    config = resolve(run_dir / "config.toml", sets, overrides)
    branching.check(before, config, step)
    same = config.data == before.data
    recipe = config.data.recipe if same else ""
    label = name or re.sub(r"-\d{8}-\d{6}(-\d+)?$", "", run_dir.name) + f"-from-{step}"
    made = create(config.replace(data={"recipe": ""}) if recipe else config, root, label)
    config = load(made / "config.toml")
    try:
        if recipe:  # the rows that it chose then, not what it would choose now
            for file in (KEEP_NAME, recipes.RECIPE_NAME):
                shutil.copyfile(run_dir / file, made / file)
            config = config.replace(data={"recipe": str(made / recipes.RECIPE_NAME)})
            (made / "config.toml").write_text(config.to_toml(), encoding="utf-8")
        branching.adopt(found, made, config, same_data=same)
    except (RunError, OSError) as error:
        shutil.rmtree(made, ignore_errors=True)
        raise error if isinstance(error, RunError) else UserError(f"{made}: {error.strerror}") from None
    return made


def command(run_dir: Path, processes: int = 1, nodes: int = 1) -> list[str]:
    """The command line that trains a run: the engine itself, or ``torchrun`` around it for several processes.

    With several ``nodes`` it is the same on each; $MASTER_ADDR stands for the first one's address.
    """
    one = [sys.executable, "-P", "-m", "engine", "train", str(run_dir)]
    if processes * nodes == 1:
        return one
    meet = ["--standalone"]
    if nodes > 1:
        meet = [f"--nnodes={nodes}", "--rdzv-backend=c10d", f"--rdzv-id={run_dir.name}",
                "--rdzv-endpoint=$MASTER_ADDR:29500"]  # fmt: skip
    torchrun = [sys.executable, "-P", "-m", "torch.distributed.run", *meet, f"--nproc-per-node={processes}"]
    return [*torchrun, "--no-python", *one]


def refuse_uneven(config: Config, nodes: int) -> None:
    """Raise UserError where the micro-batches of a step cannot be shared out over ``nodes`` machines."""
    processes, share = config.train.processes, config.train.processes * nodes
    if nodes < 1 or config.train.grad_accum % share:
        up = -(-config.train.grad_accum // max(1, share)) * max(1, share)
        raise UserError(
            f"train.grad_accum {config.train.grad_accum} micro-batches cannot be shared out evenly over {nodes} "
            f"nodes of {processes} processes; set train.grad_accum={up}",
            2,
        )


def command_lines(run_dir: Path, processes: int, nodes: int) -> list[str]:
    """How to start a run by hand: one shell line for this machine, or for each of several nodes and for Slurm."""
    line = " ".join(
        part if part.startswith("--rdzv-endpoint") else quoted(part) for part in command(run_dir, processes, nodes)
    )
    if nodes == 1:
        return [line]
    first = 'MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)'
    slurm = (
        f"sbatch --nodes={nodes} --ntasks-per-node=1 --gpus-per-node={processes} "
        f"--output={quoted(run_dir / LOG_NAME)} --wrap " + quoted(f"export {first}; srun {line}")
    )
    return ["# on each node, MASTER_ADDR being the first one's address:", line, "# or under Slurm:", slurm]


def environment() -> dict[str, str]:
    """The environment of an engine: it finds its packages wherever it is started, and its log is not held back."""
    package = str(Path(engine.__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def start(run_dir: Path, variables: Mapping[str, str] | None = None) -> int:
    """Start the engine on a run directory, detached, in as many processes as ``train.processes``; returns its pid.

    ``variables`` are added to its environment, for example the GPUs that it may use.

    Raises:
        UserError: the run is already running, or its directory cannot be written.
    """
    _refuse_if_running(run_dir)
    try:
        processes = load(run_dir / "config.toml").train.processes
    except ConfigError:
        processes = 1  # the engine says what is wrong with it, in the run's events
    try:
        # Two who start it at once: one does, and has said so in process.json before the other looks. A killed engine's
        # threads may hold its lock for a moment longer than it is seen to live.
        with process.lock(run_dir, LOCK_SECONDS) as ours, (run_dir / LOG_NAME).open("ab") as log:
            if not ours:
                raise UserError(f"{run_dir.name} is already running, or being started by another process")
            _refuse_if_running(run_dir)
            child = subprocess.Popen(
                command(run_dir, processes),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=run_dir,
                env=environment() | dict(variables or {}),
                start_new_session=True,
            )
            process.write(run_dir, child.pid)
    except OSError as error:
        raise UserError(f"{run_dir}: cannot start the engine: {error.strerror}") from None
    adopt(child)
    return child.pid


def adopt(child: subprocess.Popen[bytes]) -> None:
    """Wait for a started engine some day."""
    reap()
    _children.append(child)


def reap() -> None:
    """Wait for the engines of this process that have ended, so that none is a zombie that looks alive."""
    _children[:] = [child for child in _children if child.poll() is None]


def stop(run_dir: Path, wait: float = 0.0) -> bool:
    """Ask the engine to end its step, write a checkpoint and stop; True once it has ended within ``wait`` seconds.

    Raises:
        UserError: the run is not running, or runs on another host.
    """
    living, running = process.alive(run_dir), process.read(run_dir) or {}
    if living is None:
        raise UserError(f"{run_dir.name} runs on host {running.get('host')!r}: stop it there (gptbench stop)")
    if not living:
        raise UserError(f"{run_dir.name} is not running (it is {state_of(run_dir)})")
    with contextlib.suppress(ProcessLookupError):
        os.kill(int(running["pid"]), signal.SIGTERM)
    return wait_for_end(run_dir, wait)


def resume(run_dir: Path) -> int:
    """Start the engine again from the run's newest complete checkpoint; returns its pid.

    Raises:
        UserError: the run is running or already finished, or is an imported log.
        engine.config.ConfigError: its configuration cannot be read.
    """
    _refuse_if_running(run_dir)
    state = state_of(run_dir)
    if state == "imported":
        raise UserError(f"{run_dir.name} is an imported log: there is nothing to resume")
    config = load(run_dir / "config.toml")
    if state == "finished" and _planned(run_dir, config) <= summarise(run_dir).step:
        what = "max_steps" if config.train.epochs is None else "epochs"
        raise UserError(f"{run_dir.name} has finished its planned steps: raise train.{what} in its config.toml first")
    return start(run_dir)


def _planned(run_dir: Path, config: Config) -> int:
    """Optimiser steps of a configuration, by what the run's ``data.json`` says of an epoch."""
    from engine import described
    from engine.plan import steps_of_epochs

    try:
        facts = described.read(run_dir / described.FILE_NAME) or {}
    except RunError as error:
        raise UserError(str(error)) from None
    return steps_of_epochs(config, facts.get("planned_tokens") or facts.get("tokens") or 0)


def wait_for_end(run_dir: Path, seconds: float) -> bool:
    """Wait until the run's process has ended; False if it has not within ``seconds``."""
    deadline = time.monotonic() + seconds
    while process.alive(run_dir):
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.05)
    return True


def _refuse_if_running(run_dir: Path) -> None:
    living = process.alive(run_dir)
    if living is None and state_of(run_dir) == "running":
        raise UserError(f"{run_dir.name} runs on host {(process.read(run_dir) or {}).get('host')!r}")
    if living:
        raise UserError(f"{run_dir.name} is already running (pid {(process.read(run_dir) or {}).get('pid')})")


def new_folder(root: Path, label: str) -> Path:
    """Make ``<root>/<label>-<YYYYmmdd-HHMMSS>``; a second run within the second gets a suffix."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for suffix in ("", *(f"-{n}" for n in range(2, 1000))):
        folder = root / f"{label}-{stamp}{suffix}"
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            continue
        return folder
    raise UserError(f"{root}: a thousand runs named {label} within one second")
