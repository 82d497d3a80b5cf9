"""Checkpoints: complete or absent, read without pickle.

``checkpoints/step-00001000/`` holds ``model.safetensors`` (weights), ``optimizer.safetensors`` (AdamW's moments) and
``state.json`` (step, position in the data, random number generators, configuration; size and CRC-32 of the others).
A checkpoint is written into a hidden folder, forced to disk and renamed: what has its name is whole.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from data.bounded import read_json
from engine.config import Config, ConfigError, resolve
from engine.errors import RunError

FORMAT = 1
FOLDER = "checkpoints"
MODEL, OPTIMIZER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"


class CheckpointError(RunError):
    """A checkpoint that cannot be written or read: one line."""


@dataclass(frozen=True)
class Saved:
    """A checkpoint that is on disk. ``path`` is relative to the run directory."""

    path: str
    bytes: int
    seconds: float


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint as read: its tensors on the CPU, and what ``state.json`` says."""

    path: Path
    step: int
    model: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    state: dict[str, Any]


def save(
    run_dir: Path, step: int, model: dict[str, Tensor], optimizer: dict[str, Tensor], state: dict[str, Any], keep: int,
    keep_best: bool = False,
) -> Saved:  # fmt: skip
    """Write a checkpoint and then remove all but the ``keep`` newest (0: keep all) and, if asked for, the best.

    Raises:
        CheckpointError: the disk is full or refuses; checkpoints that were there before are untouched.
    """
    begin = time.perf_counter()
    folder = run_dir / FOLDER
    final = folder / name_of(step)
    temporary = folder / f".{final.name}"
    try:
        folder.mkdir(exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        files = {}
        for name, tensors in ((MODEL, model), (OPTIMIZER, optimizer)):
            save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, temporary / name)
            files[name] = _force(temporary / name)
        (temporary / STATE).write_text(json.dumps({"format": FORMAT, "step": step, "files": files, **state}))
        _force(temporary / STATE)
        _force_folder(temporary)
        if final.exists():  # a damaged one that a resume went past
            shutil.rmtree(final)
        temporary.rename(final)
        _force_folder(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise CheckpointError(f"checkpoint of step {step} could not be written: {_reason(error)}") from None
    if keep:
        spared = best(run_dir) if keep_best else None
        for old in complete(run_dir)[keep:]:
            if old != spared:
                discard(old)
    size = sum(f["bytes"] for f in files.values())
    return Saved(f"{FOLDER}/{final.name}", size, time.perf_counter() - begin)


def complete(run_dir: Path) -> list[Path]:
    """Folders of checkpoints, the newest first."""
    try:
        found = [p for p in (run_dir / FOLDER).iterdir() if re.fullmatch(r"step-\d{8,}", p.name)]
    except OSError:
        return []
    return sorted(found, key=step_of, reverse=True)


def best(run_dir: Path) -> Path | None:
    """The checkpoint with the lowest held-out loss, as evaluated at its step or last before it; None without any."""
    losses: list[tuple[float, Path]] = []
    for path in complete(run_dir):
        try:
            losses.append((float(read_state(path)["heldout"]["loss"]), path))
        except (CheckpointError, KeyError, TypeError, ValueError):
            continue
    return min(losses, key=lambda found: found[0])[1] if losses else None


def step_of(path: Path) -> int:
    """Step of a checkpoint folder, by its name."""
    return int(path.name.partition("-")[2])


def load(path: Path) -> Checkpoint:
    """Read a checkpoint whole.

    Raises:
        CheckpointError: a file is missing, cut short or changed, or of another format.
    """
    state = read_state(path)
    try:
        for name, stated in state["files"].items():
            if (found := _measure(path / name)) != stated:
                what = "checksum differs" if found["bytes"] == stated["bytes"] else "cut short"
                raise CheckpointError(f"{path}: damaged checkpoint ({name}: {what})")
        model, optimizer = load_file(path / MODEL), load_file(path / OPTIMIZER)
        return Checkpoint(path, int(state["step"]), model, optimizer, state)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path}: damaged checkpoint ({_reason(error)})") from None


def load_model(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """State and weights of a checkpoint, without its optimiser. Raises CheckpointError as ``load``."""
    state = read_state(path)
    try:
        if _measure(path / MODEL) != state["files"][MODEL]:
            raise CheckpointError(f"{path}: damaged checkpoint ({MODEL} is not what was written)")
        return state, load_file(path / MODEL)
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: damaged checkpoint ({_reason(error)})") from None


def find(run_dir: Path, step: str = "newest") -> Path:
    """The checkpoint of a run that ``step`` names: its number, "newest" or "best".

    Raises:
        CheckpointError: there is none of it; those there are get named.
    """
    found = complete(run_dir)
    if not found:
        raise CheckpointError(f"{run_dir}: no checkpoint yet; it writes one every train.checkpoint_every steps")
    if step == "newest":
        return found[0]
    if step == "best":
        if (path := best(run_dir)) is None:
            raise CheckpointError(f"{run_dir}: no checkpoint knows its held-out loss; name a step")
        return path
    for path in found:
        if step.isdigit() and int(step) == step_of(path):
            return path
    there = ", ".join(str(step_of(path)) for path in reversed(found))
    raise CheckpointError(f"{run_dir}: no checkpoint of step {step}; there are: {there}")


def trained_with(state: dict[str, Any]) -> Config:
    """The configuration that a checkpoint's ``state.json`` was trained with. Raises CheckpointError."""
    try:
        flat = {f"{section}.{name}": v for section, values in state["config"].items() for name, v in values.items()}
        return resolve(overrides=flat)
    except (ConfigError, KeyError, AttributeError) as error:
        raise CheckpointError(f"checkpoint of step {state.get('step')}: its configuration: {_reason(error)}") from None


def load_weights(path: Path) -> dict[str, Tensor]:
    """Weights of a checkpoint folder, or of a ``.safetensors`` file. Raises CheckpointError."""
    file = path / MODEL if path.is_dir() else path
    try:
        return load_file(file)
    except FileNotFoundError:
        raise CheckpointError(f"{file}: no such file; name a checkpoint folder that holds {MODEL}") from None
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file}: cannot be read as weights ({_reason(error)})") from None


def read_state(path: Path) -> dict[str, Any]:
    """``state.json`` of a checkpoint folder. Raises CheckpointError."""
    try:
        state = read_json(path / STATE)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged checkpoint ({STATE}: {_reason(error)})") from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointError(f"{path}: a checkpoint of another format than {FORMAT}")
    return state


def newest(run_dir: Path) -> Iterator[Checkpoint | CheckpointError]:
    """Checkpoints from the newest on, each loaded as it is asked for, or why it cannot be."""
    for path in complete(run_dir):
        try:
            yield load(path)
        except CheckpointError as error:
            yield error


def last_good(run_dir: Path, step: int | None = None) -> str:
    """Which checkpoint a failed run is resumed from, in words: that of ``step``, else the newest that is whole."""
    if step is None:
        step = next((found.step for found in newest(run_dir) if isinstance(found, Checkpoint)), None)
    if step is None:
        return "no checkpoint was written yet"
    return f"the last good checkpoint is {FOLDER}/{name_of(step)}"


def discard(path: Path) -> None:
    """Remove a checkpoint; it loses its name first, so that no half of it is ever taken for a whole."""
    hidden = path.with_name(f".{path.name}")
    try:
        shutil.rmtree(hidden, ignore_errors=True)
        path.rename(hidden)
    except OSError:
        return
    shutil.rmtree(hidden, ignore_errors=True)


def clean(run_dir: Path) -> None:
    """Remove what a killed writer left half-written."""
    for path in (run_dir / FOLDER).glob(".step-*"):
        shutil.rmtree(path, ignore_errors=True)


def name_of(step: int) -> str:
    """Name of the folder of a step's checkpoint."""
    return f"step-{step:08d}"


def _force(path: Path) -> dict[str, int]:
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return _measure(path)


def _measure(path: Path) -> dict[str, int]:
    size = checksum = 0
    with path.open("rb") as file:
        while chunk := file.read(1 << 24):
            size += len(chunk)
            checksum = zlib.crc32(chunk, checksum)
    return {"bytes": size, "crc32": checksum}


def _force_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split())[:200] or type(error).__name__
