"""A planned probe as files: its plan, and the arms' run directories, each with the checkpoint that it branches off."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

from engine import branch as branching
from engine.config import Config
from engine.errors import RunError
from engine.keep import FILE_NAME as KEEP_NAME
from workbench.atomic import write_atomically
from workbench.errors import UserError
from workbench.plateau.experiment import Arms, Measurement
from workbench.probes.design import Design
from workbench.probes.site import FOLDER, PLAN, RESULT

CONFIG = "config.toml"


def make(run_dir: Path, design: Design) -> Path:
    """Write the plan and the arms that are not there yet; returns the plan's folder, ``probes/<cause>``.

    Raises:
        UserError: the directory cannot be written, or a checkpoint not be branched off.
    """
    folder = run_dir / FOLDER / design.cause
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for arm in design.arms:
            found = design.kept.path if design.kept.step else None
            _arm(run_dir, run_dir / FOLDER / "arms" / arm.name, arm.config, found)
        text = json.dumps(_plan(design), indent=1)
        path = folder / PLAN
        if not path.is_file() or _same(path.read_text(encoding="utf-8")) != _same(text):
            for old in (RESULT, "measured.json"):
                (folder / old).unlink(missing_ok=True)
            write_atomically(path, text)
    except RunError as error:
        raise UserError(str(error)) from None
    except OSError as error:
        raise UserError(f"{error.filename or folder}: cannot be written: {error.strerror or error}") from None
    return folder


def _plan(design: Design) -> dict[str, object]:
    experiment = design.experiment
    return {
        "format": 1,
        "cause": design.cause,
        "what": experiment.what,
        "judge": experiment.judge if isinstance(experiment, Measurement) else "arms",
        "refutes": experiment.refutes if isinstance(experiment, Arms) else None,
        "healthy_cooldown": design.healthy_cooldown,
        "step": design.kept.step,
        "steps": design.steps,
        "tokens": design.tokens,
        "spent_tokens": design.spent,
        "cost_fraction": round(design.cost, 5),
        "arms": [
            {"name": a.name, "changed": a.changed, "pair": a.pair, "unique": a.unique, "last": a.config.train.max_steps}
            for a in design.arms
        ],
        "measure": design.measure,
        "created": time.time(),
    }


def _same(text: str) -> object:
    try:
        plan = json.loads(text)
        return {key: value for key, value in plan.items() if key != "created"}
    except (ValueError, AttributeError):
        return None


def _arm(run_dir: Path, folder: Path, config: Config, found: Path | None) -> None:
    """One arm, whole or not at all, off a checkpoint or (None) from the start. One that is there with another
    configuration is begun anew."""
    text = config.to_toml()
    path = folder / CONFIG
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return
    shutil.rmtree(folder, ignore_errors=True)
    part = folder.with_name(f".{folder.name}")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True, mode=0o700)
    if (run_dir / KEEP_NAME).is_file():
        shutil.copyfile(run_dir / KEEP_NAME, part / KEEP_NAME)
    if found is not None:
        branching.adopt(found, part, config, same_data=True)
    (part / CONFIG).write_text(text, encoding="utf-8")
    part.rename(folder)
