"""Runs that wait for a free GPU, and the process that starts them: one for each runs folder, of its own session.

What waits stands in ``<runs>/.queue/queue.json``; the process that works on it in ``<runs>/.queue/process.json``, and
what it did in ``queue.log``. It holds the lock ``process.lock`` as long as it lives, so that there is never a second
one. Every change of ``queue.json`` is made under the lock ``edit.lock`` and replaces the file. What runs, and on
which GPU, is read from the run directories and the processes themselves: a queue that was killed goes on where it was.

    python -P -m workbench.runs.queue RUNS
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from data.bounded import read_json
from engine import process
from engine.config import Config, ConfigError, load
from workbench.atomic import write_atomically
from workbench.errors import UserError
from workbench.runs import launch, slots
from workbench.runs.store import list_runs, state_of

FOLDER, FILE_NAME, LOG_NAME = ".queue", "queue.json", "queue.log"
POLL = 1.0  # seconds between two looks at what runs
POLL_OTHERS = 5.0  # the same where only other people's processes hold the GPUs, which nvidia-smi must be asked for
_START_SECONDS = 30.0
_KEPT = 20  # refused runs that are remembered


@dataclass
class Queue:
    """What waits, by the names of the run directories, first comes first; and what could not be started, and why."""

    waiting: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)


def read(root: Path) -> Queue:
    """The queue of a runs folder; empty where there is none.

    Raises:
        UserError: the file is there and cannot be read: it is not taken for empty, and so never overwritten.
    """
    path = root / FOLDER / FILE_NAME
    try:
        value = read_json(path)
        waiting, refused = value["waiting"], value.get("refused", {})
        names = [name for name in waiting if isinstance(name, str) and name == Path(name).name]
        return Queue(names, {str(name): str(why) for name, why in refused.items()})
    except FileNotFoundError:
        return Queue()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); mend it or delete it") from None


def refuse_too_many(config: Config) -> None:
    """Raise UserError where a run wants more processes than this machine has GPUs: it would wait for ever."""
    of = slots.slots()
    if of != [slots.CPU] and config.train.processes > len(of):
        raise UserError(f"train.processes {config.train.processes} is more than {slots.counted(of)}: lower it", 2)


def add(root: Path, run_dir: Path) -> int:
    """Put a run that was made and not started at the end of the queue; its place, from 1. The process is not started.

    Raises:
        UserError: the run has been started before, waits already, or lies in another folder.
    """
    if run_dir.parent != root:
        raise UserError(f"{run_dir}: is no run of {root}")
    if (state := state_of(run_dir)) != "queued":
        raise UserError(f"{run_dir.name} is {state}: only a run that was never started can be queued")
    with _editing(root) as queue:
        if run_dir.name in queue.waiting:
            raise UserError(f"{run_dir.name} waits in the queue already")
        queue.refused.pop(run_dir.name, None)
        queue.waiting.append(run_dir.name)
        return len(queue.waiting)


def remove(root: Path, text: str) -> str:
    """Take a run out of the queue, by its name or a unique beginning of it; its name. Its directory stays.

    Raises:
        UserError: no such run waits, or several.
    """
    with _editing(root) as queue:
        names = [*queue.waiting, *queue.refused]
        found = [name for name in names if name == text] or [name for name in names if name.startswith(text)]
        if len(found) != 1:
            raise UserError(
                f"{text!r} is the beginning of {len(found)} queued runs: {', '.join(found[:4])}: write one in full"
                if found
                else f"no run {text!r} waits in the queue; `gptbench queue` lists those that do, and a run that has "
                "started ends with `gptbench stop`"
            )
        queue.waiting = [name for name in queue.waiting if name != found[0]]
        queue.refused.pop(found[0], None)
        return found[0]


def rename(root: Path, old: str, new: str) -> None:
    """Let a run that waits keep its place under its new name."""
    if (root / FOLDER / FILE_NAME).is_file():
        with _editing(root) as queue:
            queue.waiting = [new if name == old else name for name in queue.waiting]


def running(root: Path) -> dict[str, set[str]]:
    """The runs of the folder that run on this machine, each with the slots it holds."""
    found, of = slots.gpus() or [], slots.slots()
    return {name: slots.held_by(root / name, _processes(root / name), found, of) for name in _living(root)}


def pid(root: Path) -> int | None:
    """The pid of the living queue process of this machine, None if there is none."""
    return int((process.read(root / FOLDER) or {})["pid"]) if process.alive(root / FOLDER) else None


def start(root: Path) -> int | None:
    """Start the queue process, detached, unless one lives; its pid, None if there was nothing left to wait for.

    Raises:
        UserError: it could not be started; the last line it said is in the message.
    """
    folder = _folder(root)
    if not _locked(folder):
        with (folder / LOG_NAME).open("ab") as log:
            child = subprocess.Popen(
                [sys.executable, "-P", "-m", "workbench.runs.queue", str(root)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=root,
                env=launch.environment(),
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_SECONDS
        while (process.read(folder) or {}).get("pid") != child.pid and time.monotonic() < deadline:
            if (code := child.poll()) is not None:
                if code:
                    last = (folder / LOG_NAME).read_text(encoding="utf-8", errors="replace").splitlines()[-1:]
                    raise UserError(f"the queue ended at once: {last[0] if last else f'exit code {code}'}")
                break
            time.sleep(0.02)
    return pid(root)


def stop(root: Path, wait: float = 60.0) -> bool:
    """End the queue process; what runs goes on, what waits stays. True once it has ended within ``wait`` seconds.

    Raises:
        UserError: none runs, or it runs on another host.
    """
    folder = root / FOLDER
    living = process.alive(folder)
    if living is None and _locked(folder):
        raise UserError(f"the queue runs on host {(process.read(folder) or {}).get('host')!r}: stop it there")
    if not living:
        raise UserError("no queue process runs for this folder")
    with contextlib.suppress(ProcessLookupError):
        os.kill(int((process.read(folder) or {})["pid"]), signal.SIGTERM)
    return launch.wait_for_end(folder, wait)


def work(root: Path) -> None:
    """The queue process: start what waits, in order, as slots come free, until nothing waits or SIGTERM comes."""
    folder = _folder(root)
    ending: list[int] = []
    with (folder / "process.lock").open("ab") as lock:
        if not _taken(lock):
            return  # another one lives, and sees what was added
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda signum, _: ending.append(signum))
        process.write(folder)
        of = slots.slots()
        _log(f"the queue of {root} works on {', '.join(of)}")
        while not ending:
            try:
                pause = step(root, of)
            except OSError as error:  # a full disk, a share that is away: it may pass
                _log(f"{error}: tried again in {POLL_OTHERS:.0f} s")
                pause = POLL_OTHERS
            if pause is None:
                with _editing(root) as queue:
                    if not queue.waiting:  # nobody can add before the lock is free: who adds then, starts another
                        fcntl.flock(lock, fcntl.LOCK_UN)
                        _log("nothing waits any more")
                        return
                continue
            until = time.monotonic() + pause
            while not ending and time.monotonic() < until:
                time.sleep(0.1)
        _log("asked to stop; what waits stays")


def step(root: Path, of: list[str]) -> float | None:
    """Start the first run that waits if its slots are free; the seconds to wait before the next, None if none waits."""
    launch.reap()
    waiting = read(root).waiting
    if not waiting:
        return None
    run_dir = root / waiting[0]
    try:
        state = state_of(run_dir) if (run_dir / "config.toml").is_file() else "deleted"
    except OSError:
        state = "unreadable"
    if state != "queued":  # started by hand, or taken away
        _settle(root, run_dir.name, None)
        _log(f"{run_dir.name} is {state} by now: passed over")
        return 0.0
    needed = min(_processes(run_dir), len(of)) if of != [slots.CPU] else 1
    found: list[slots.Gpu] | None = [] if of == [slots.CPU] else slots.gpus()
    if found is None:
        return POLL_OTHERS  # nvidia-smi did not answer: nothing is known to be free
    held = [slots.held_by(root / name, _processes(root / name), found, of) for name in _living(root)]
    free = [slot for slot in of if not any(slot in taken for taken in held)]
    if len(free) < needed:
        return POLL
    if found:
        others = slots.in_use(found)
        free = [slot for slot in free if slot not in others]
        if len(free) < needed:
            return POLL_OTHERS
    taken = free[:needed]
    try:
        started = launch.start(run_dir, slots.environment(taken))
    except UserError as error:
        _settle(root, run_dir.name, str(error))
        _log(f"{run_dir.name} could not be started: {error}")
        return 0.0
    _settle(root, run_dir.name, None)
    _log(f"{run_dir.name} started on {', '.join(taken)} (pid {started})")
    return 0.0


def _settle(root: Path, name: str, why_not: str | None) -> None:
    """Take a run off the queue: it was started, or it was refused for a reason that is kept."""
    with _editing(root) as queue:
        queue.waiting = [waiting for waiting in queue.waiting if waiting != name]
        if why_not is not None:
            queue.refused = dict([*queue.refused.items(), (name, why_not)][-_KEPT:])


def _living(root: Path) -> list[str]:
    """Names of the runs whose process lives on this host, however it was started."""
    return [run.name for run in list_runs(root) if run.state == "running" and process.alive(root / run.name)]


def _processes(run_dir: Path) -> int:
    try:
        return load(run_dir / "config.toml").train.processes
    except (ConfigError, OSError):
        return 1


@contextlib.contextmanager
def _editing(root: Path) -> Iterator[Queue]:
    """The queue, to be changed: alone, and written at once or, after an error, not at all."""
    folder = _folder(root)
    with (folder / "edit.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        queue = read(root)
        before = _encoded(queue)
        yield queue
        if _encoded(queue) != before:
            write_atomically(folder / FILE_NAME, _encoded(queue))


def _encoded(queue: Queue) -> str:
    value: dict[str, Any] = {"waiting": queue.waiting, "refused": queue.refused}
    return json.dumps(value, indent=1) + "\n"


def _taken(lock: BinaryIO) -> bool:
    """Take the queue process's lock. Tried for a second: who asks whether it is held, holds it for a moment."""
    for _ in range(20):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(0.05)
    return False


def _locked(folder: Path) -> bool:
    """Whether a queue process holds its lock (as far as the folder's file system tells of other hosts, there too)."""
    with (folder / "process.lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def _folder(root: Path) -> Path:
    folder = root / FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made: {error.strerror}") from None
    return folder


def _log(text: str) -> None:
    with contextlib.suppress(OSError):
        print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}", flush=True)


if __name__ == "__main__":
    try:
        work(Path(sys.argv[1]))
    except UserError as error:
        _log(str(error))
        sys.exit(1)
