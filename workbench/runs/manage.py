"""Delete, rename, annotate a run: never one that is running."""

from __future__ import annotations

import shutil
from pathlib import Path

from engine import process
from workbench.atomic import write_atomically
from workbench.errors import UserError
from workbench.runs import queue
from workbench.runs.store import NOTE_NAME, is_run, state_of

MAX_NOTE = 500


def delete(run_dir: Path) -> None:
    """Remove a run directory with all it holds.

    Raises:
        UserError: it runs, is no run directory, or cannot be removed.
    """
    _refuse(run_dir, "deleted")
    try:
        shutil.rmtree(run_dir)
    except OSError as error:
        raise UserError(f"{run_dir.name}: cannot delete {error.filename}: {error.strerror}") from None


def rename(run_dir: Path, name: str) -> Path:
    """Give a run directory another name beside its old one; its new path. What its configuration says of its own
    directory is changed with it.

    Raises:
        UserError: it runs, the name is none for a folder, or is taken.
    """
    _refuse(run_dir, "renamed")
    name = name.strip()
    if not name or name in (".", "..") or "/" in name or "\0" in name or len(name.encode()) > 200:
        raise UserError(f"{name!r} cannot be a run's name: one word without a slash")
    target = run_dir.with_name(name)
    if target.exists():
        raise UserError(f"there is a run {name} already")
    try:
        run_dir.rename(target)
        config = target / "config.toml"
        if config.is_file() and str(run_dir) in (text := config.read_text(encoding="utf-8")):
            write_atomically(config, text.replace(f"{run_dir}/", f"{target}/"))
        queue.rename(run_dir.parent, run_dir.name, name)
    except OSError as error:
        raise UserError(f"{run_dir.name}: cannot be renamed: {error.strerror}") from None
    return target


def annotate(run_dir: Path, note: str) -> None:
    """Keep one line of a person's own about a run; an empty one takes it away. Raises UserError."""
    path = run_dir / NOTE_NAME
    try:
        if note.strip():
            write_atomically(path, " ".join(note.split())[:MAX_NOTE] + "\n")
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None


def _refuse(run_dir: Path, what: str) -> None:
    if run_dir.is_symlink() or not is_run(run_dir):
        raise UserError(f"{run_dir}: is no run directory, so it is not {what}")
    if state_of(run_dir) == "running":
        raise UserError(f"{run_dir.name} is running: stop it before it is {what}")
    if process.alive(run_dir / "probes"):
        raise UserError(f"{run_dir.name}: a probe of it is running: stop that before the run is {what}")
