"""A run that goes on from another run's checkpoint, with weights, optimiser and position, and changed options.

The new run directory gets the checkpoint itself (hard links where the file system has them, so that the other run may
prune its own), addressed to the new configuration in ``state.json``. The engine then resumes it as it resumes any run.
Torch-free.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from data.bounded import read_json
from engine.config import Config
from engine.errors import RunError

# What the weights and the optimiser's state are bound to.
BOUND = ("optim.kind",)
FREE_OF_MODEL = ("preset", "dropout")


def checkpoint_of(run_dir: Path, step: int) -> Path:
    """The folder of a run's checkpoint.

    Raises:
        RunError: there is none of that step; those there are get named.
    """
    folder = run_dir / "checkpoints"
    path = folder / f"step-{step:08d}"
    if not (path / "state.json").is_file():
        steps = sorted(int(p.name.partition("-")[2]) for p in folder.glob("step-*[0-9]")) if folder.is_dir() else []
        there = f"there are: {', '.join(map(str, steps))}" if steps else "there is none yet"
        raise RunError(f"{run_dir.name}: no checkpoint of step {step}; {there}")
    return path


def check(before: Config, after: Config, step: int) -> None:
    """Refuse changes that the checkpoint's tensors do not allow.

    Raises:
        RunError: another model or optimiser, or no step left to train.
    """
    was, now = before.to_dict(), after.to_dict()
    changed = [f"model.{k}" for k in now["model"] if k not in FREE_OF_MODEL and now["model"][k] != was["model"][k]]
    changed += [key for key in BOUND if _get(was, key) != _get(now, key)]
    if changed:
        raise RunError(
            f"a branch keeps its model and its optimiser's kind, but {changed[0]} would change; "
            "gptbench train --set train.init_from=CHECKPOINT starts a new run from weights alone"
        )
    if after.train.epochs is None and after.train.max_steps <= step:
        raise RunError(
            f"train.max_steps {after.train.max_steps} leaves nothing to train behind step {step}; "
            f"set train.max_steps above {step}"
        )


def adopt(checkpoint: Path, run_dir: Path, config: Config, *, same_data: bool) -> None:
    """Put the checkpoint into the new run, addressed to its configuration. Whole or not at all.

    Without ``same_data`` the position stays what it was, in the new stream; with it the order of shards goes along.

    Raises:
        RunError: the checkpoint cannot be read, or the folder not be written.
    """
    final = run_dir / "checkpoints" / checkpoint.name
    part = final.with_name(f".{final.name}")
    try:
        state: dict[str, Any] = read_json(checkpoint / "state.json")
        state |= {"config": config.to_dict(), "origin": [state["step"], state["position"]]}
        if not same_data:
            state |= {"data": None, "heldout": None}
        part.mkdir(parents=True)
        if same_data and (described := checkpoint.parents[1] / "data.json").is_file():
            shutil.copyfile(described, run_dir / "data.json")
        for name in state["files"]:
            _link(checkpoint / name, part / name)
        (part / "state.json").write_text(json.dumps(state))
        part.rename(final)
    except (OSError, ValueError, KeyError, TypeError) as error:
        shutil.rmtree(part, ignore_errors=True)
        reason = error.strerror if isinstance(error, OSError) else f"damaged checkpoint ({error})"
        raise RunError(f"{checkpoint}: cannot be branched off: {reason}") from None


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)


def _get(sections: dict[str, dict[str, Any]], key: str) -> Any:
    section, _, name = key.partition(".")
    return sections[section][name]
