"""The runs folder: which runs there are, and what state each is in, read from the run directories alone."""

from __future__ import annotations

import math
import os
import re
import stat
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from data.bounded import read_json
from engine import events, process
from engine.config import suggest
from workbench.errors import UserError
from workbench.runs.best import best_val
from workbench.runs.history import History, stalled_for

NOTE_NAME = "note.txt"
_HEAD = 1 << 13
_TAIL = 1 << 14
_BACK = 1 << 20  # looked through for the newest evaluation, where the tail holds none
_STEP = b'{"event": "step", '
_PATIENCE = 0.3  # seconds
_STALLED = 300.0  # seconds without a step, at least: from the ends of the events one does not see how long pauses are
_SILENCE = 600.0  # seconds without a write after which a run on another host is taken for dead (as LEET does)


@dataclass(frozen=True)
class RunSummary:
    """One line of the runs table. ``val_loss`` is the newest held-out loss, ``best_val`` the lowest, nats per token;
    ``lost``: the newest step's loss is not finite; ``stalled``: it runs, and has not got on for long."""

    run: str
    name: str
    state: str
    step: int
    max_steps: int | None
    val_loss: float | None
    verdict: str | None
    created: float
    tokens_per_s: float | None
    note: str = ""
    best_val: float | None = None
    lost: bool = False
    stalled: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As ``gptbench runs --json`` lists it."""
        return asdict(self)


def runs_root(given: str | Path | None = None) -> Path:
    """The runs folder: the given one, else $GPTBENCH_RUNS, else ./runs. It need not exist yet.

    Raises:
        UserError: there is something of that name that is no folder.
    """
    root = Path(given or os.environ.get("GPTBENCH_RUNS") or "runs").expanduser().resolve()
    if root.exists() and not root.is_dir():
        raise UserError(f"{root}: is not a folder, runs cannot lie in it; choose another with --runs", 2)
    return root


def is_run(folder: Path) -> bool:
    """Whether a folder is a run directory."""
    return stamp_of(str(folder)) is not None


def list_runs(root: Path, patience: float = _PATIENCE) -> list[RunSummary]:
    """Every run of a folder, newest first. A missing folder holds none; a run that cannot be read is left out.

    A run is read again only if one of its files has changed since, or if it may have ended without writing. So many
    seconds (``patience``) best losses are searched for; the others stay None until the next listing.
    """
    deadline = time.monotonic() + patience
    try:
        names = [entry.path for entry in os.scandir(root) if entry.is_dir()]
    except OSError:
        return []
    runs, known = [], _known.setdefault(root, {})
    found: dict[str, tuple[Stamp, RunSummary]] = {}
    for name in names:
        folder = Path(name)
        try:
            if (stamp := stamp_of(name)) is None:
                continue
            before = known.get(name)
            if before is None or before[0] != stamp or before[1].state == "running":
                before = (stamp, _summarise(folder, deadline))
            elif before[1].best_val is None and before[1].val_loss is not None and time.monotonic() < deadline:
                before = (stamp, replace(before[1], best_val=_best(folder, deadline)))
            found[name] = before
            runs.append(before[1])
        except OSError:
            continue
    _known[root] = found
    return sorted(runs, key=lambda run: (run.created, run.run), reverse=True)


Stamp = tuple[tuple[int, int], ...]
_known: dict[Path, dict[str, tuple[Stamp, RunSummary]]] = {}
_WATCHED = ("config.toml", "facts.toml", events.FILE_NAME, process.FILE_NAME, "diagnosis.json", NOTE_NAME)


def stamp_of(folder: str) -> Stamp | None:
    """Size and time of the files that a summary is made of; None for what is no run."""
    sizes = []
    for file in _WATCHED:
        try:
            found = os.stat(f"{folder}/{file}")  # noqa: PTH116 (a thousand runs, often)
            if not stat.S_ISREG(found.st_mode):  # to open a pipe would take for ever
                return None
            sizes.append((found.st_size, found.st_mtime_ns))
        except OSError:
            sizes.append((-1, 0))
    return tuple(sizes) if max(sizes[0][0], sizes[1][0]) >= 0 else None


def find_run(root: Path, text: str) -> Path:
    """The run that ``text`` means: a directory, a directory's name in ``root``, or a unique beginning of one.

    Raises:
        UserError: no such run, or several.
    """
    path = Path(text).expanduser()
    if path.is_dir() and is_run(path):
        return path.resolve()
    if (root / text).is_dir() and is_run(root / text):
        return (root / text).resolve()
    names = [entry.name for entry in root.iterdir() if is_run(entry)] if root.is_dir() else []
    found = sorted(name for name in names if name.startswith(text))
    named = [name for name in found if re.fullmatch(r"-\d{8}-\d{6}(-\d+)?", name[len(text) :])]
    if len(found) == 1 or len(named) == 1:  # "one" is the run of that name rather than "one-from-500", its branch
        return root / (named or found)[0]
    if found:
        raise UserError(f"{text!r} is the beginning of {len(found)} runs: {', '.join(found[:4])} …: write one in full")
    if not names:
        raise UserError(f"no run {text!r} in {root}, nor any other; --runs DIR or $GPTBENCH_RUNS names another folder")
    near = suggest(text, names)
    raise UserError(
        f"no run {text!r} in {root}"
        + (f"; did you mean {near}?" if near else "; `gptbench runs` lists those there are")
    )


def state_of(run_dir: Path, history: History | None = None) -> str:
    """The state of a run: queued, running, stopped, finished, failed, dead (it ended and did not say so) or imported.

    ``history`` saves reading its events again."""
    if (run_dir / "facts.toml").is_file() and not (run_dir / "config.toml").is_file():
        return "imported"
    living = process.alive(run_dir)
    if living:
        return "running"
    history = ends(run_dir) if history is None else history
    if history.stop is not None:
        reason = history.stop.get("reason")
        return reason if reason in ("finished", "stopped", "failed") else "stopped"
    if process.read(run_dir) is None and not history.start:
        return "queued"
    # Of another host, whose clock may be ahead; far in the future is no sign of life.
    if living is None and abs(time.time() - _modified(run_dir)) < _SILENCE:
        return "running"
    return "dead"


def summarise(run_dir: Path) -> RunSummary:
    """What the runs table says of one run, read from the two ends of its events and its evaluations."""
    return _summarise(run_dir, math.inf)


def _best(run_dir: Path, deadline: float) -> float | None:
    """The best held-out loss, None where it was not found before ``deadline`` (of ``time.monotonic``)."""
    best, whole = best_val(run_dir / events.FILE_NAME, deadline)
    return best if whole else None


def _summarise(run_dir: Path, deadline: float) -> RunSummary:
    history = ends(run_dir)
    loss = history.val.last("loss")
    speed = history.steps.last("tokens_per_s")
    state = state_of(run_dir, history)
    return RunSummary(
        run=str(run_dir),
        name=run_dir.name,
        state=state,
        step=history.step,
        max_steps=history.max_steps,
        val_loss=None if math.isnan(loss) else loss,
        verdict=read_verdict(run_dir),
        created=created(run_dir),
        tokens_per_s=None if math.isnan(speed) else speed,
        note=read_note(run_dir),
        best_val=_best(run_dir, deadline),
        lost=bool(len(history.steps)) and math.isnan(history.steps.last("loss")),
        stalled=state == "running" and stalled_for(history, time.time(), _STALLED) > 0,
    )


def read_note(run_dir: Path) -> str:
    """What a person noted of a run, "" if nothing."""
    try:
        with (run_dir / NOTE_NAME).open("rb") as file:
            return file.read(_HEAD).decode("utf-8", "replace").strip()[:500]
    except OSError:
        return ""


def read_verdict(run_dir: Path) -> str | None:
    """The verdict of ``diagnosis.json``, or None where there is none."""
    try:
        verdict = read_json(run_dir / "diagnosis.json").get("verdict")
    except (OSError, ValueError, AttributeError):
        return None
    return verdict if isinstance(verdict, str) else None


def ends(run_dir: Path) -> History:
    """A history of the first and the last events only: enough for the start, the state, the newest step and evaluation;
    an empty one where there are no events."""
    path, history = run_dir / events.FILE_NAME, History()
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(_HEAD)
            if size - _TAIL <= _HEAD:
                tail = file.read(_TAIL)
                lines = (head + tail).split(b"\n")[:-1]  # a last line without its end is still being written
            else:  # what lies between the two ends is skipped, and the torn lines beside the gap
                file.seek(size - _TAIL)
                tail = file.read(_TAIL).partition(b"\n")[2]
                lines = [*head.split(b"\n")[:-1], *tail.split(b"\n")[:-1]]
                if b'"heldout"' not in tail:
                    back = min(_BACK, size - _TAIL - _HEAD)
                    file.seek(size - _TAIL - back)
                    lines.insert(head.count(b"\n"), _newest_eval(file.read(back)))
    except FileNotFoundError:
        return history
    # Of the steps the newest tells all, unless a resume has taken some of them back.
    if not any(b'"resume"' in block for block in (head, tail)):
        steps = [line for line in reversed(lines) if line.startswith(_STEP)]
        newest = next((line for line in steps if line.endswith(b"}")), b"")
        lines = [line for line in lines if not line.startswith(_STEP)]
        if event := events.decode(newest):
            history.apply(event)
    for line in lines:
        if event := events.decode(line):
            history.apply(event)
    return history


def _newest_eval(block: bytes) -> bytes:
    """The last line of a block that tells of a held-out evaluation, b"" if there is none."""
    at = block.rfind(b'"heldout"')
    begin = block.rfind(b"\n", 0, max(0, at)) + 1
    line = block[begin:].partition(b"\n")[0]
    return line if at >= 0 and b'"eval"' in line else b""


def created(run_dir: Path) -> float:
    """When a run was made, Unix seconds; 0 where its directory does not tell."""
    for name in ("config.toml", "facts.toml"):
        try:
            return (run_dir / name).stat().st_mtime
        except OSError:
            continue
    return 0.0


def _modified(run_dir: Path) -> float:
    try:
        return (run_dir / events.FILE_NAME).stat().st_mtime
    except OSError:
        return 0.0
