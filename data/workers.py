"""Jobs in worker processes: fresh interpreters fed with JSON lines.

Not ``multiprocessing``: its spawn re-imports the caller's main module (which may load torch) and needs real file
descriptors behind sys.stdout/stderr, which a Textual app replaces. A worker here has pipes of its own, writes nothing
to the terminal, dies with its parent (its pipe closes) and can be killed at any moment.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from data.files import ShardError

_BOOT = "import sys; sys.path.append(sys.argv[1]); from data.workers import _serve; _serve(sys.argv[2])"
_ROOT = str(Path(__file__).resolve().parent.parent)

_PATIENCE_SECONDS = 2.0

Job = dict[str, Any]
Progress = Callable[[int, list[Any]], None]


class Cancelled(Exception):
    """The caller asked to stop. Nothing half-done is left behind."""


def cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run(
    function: str,
    jobs: Sequence[Job],
    *,
    workers: int,
    alone: Collection[int] = (),
    on_progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Iterator[tuple[int, Any]]:
    """Run ``function(**job, on_progress=…)`` for each job; yield (job's index, result) as they finish.

    Args:
        function: "module:name"; jobs and results are JSON values.
        alone: indices of jobs that need much memory: one worker does them all, one after the other, before others.
        on_progress: called here, in the caller's thread, with the job's index and what the job reported.
        cancelled: asked several times a second; when it says yes, the workers are ended and Cancelled is raised.

    A ShardError in a job, and a worker that dies, come back as a ShardError in place of the result. Leaving the
    iterator early ends the workers.
    """
    messages: queue.SimpleQueue[tuple[str, int, Any]] = queue.SimpleQueue()
    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    large: queue.SimpleQueue[int] = queue.SimpleQueue()
    for index in range(len(jobs)):
        (large if index in alone else todo).put(index)
    size = max(1, min(workers, len(jobs)))
    team = [_Worker(function, jobs, (todo,) if n else (large, todo), messages) for n in range(size)]
    try:
        open_jobs = len(jobs)
        while open_jobs:
            if cancelled is not None and cancelled():
                raise Cancelled
            try:
                kind, index, value = messages.get(timeout=0.1)
            except queue.Empty:
                continue
            if kind == "progress":
                if on_progress is not None:
                    on_progress(index, value)
            else:
                open_jobs -= 1
                yield index, value if kind == "result" else ShardError(value)
    finally:
        for worker in team:
            worker.terminate()
        for worker in team:
            worker.join()


class _Worker:
    """One process at a time, and the thread that feeds it; a process that died is replaced for the next job."""

    def __init__(
        self,
        function: str,
        jobs: Sequence[Job],
        todo: Sequence[queue.SimpleQueue[int]],
        out: queue.SimpleQueue[Any],
    ) -> None:
        self._function, self._jobs, self._todo, self._out = function, jobs, todo, out
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed in _finish)
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._feed, daemon=True, name="data worker")
        self._thread.start()

    def terminate(self) -> None:
        """Ask the process to clean up and end."""
        self._stopped.set()
        with self._lock:
            if self._process is not None:
                self._process.terminate()

    def join(self) -> None:
        """Wait until it ended; kill it if it takes long."""
        self._thread.join(_PATIENCE_SECONDS)
        with self._lock:
            if self._process is not None and self._thread.is_alive():
                self._process.kill()
        self._thread.join()

    def _feed(self) -> None:
        try:
            while not self._stopped.is_set():
                index = self._next()
                if index is None:
                    return
                try:
                    self._one(index)
                except Exception as error:  # a thread must not die with its job unanswered
                    self._out.put(("error", index, f"worker process: {error}"))
        finally:
            self._finish()
            self._errors.close()

    def _next(self) -> int | None:
        for jobs in self._todo:
            with contextlib.suppress(queue.Empty):
                return jobs.get_nowait()
        return None

    def _one(self, index: int) -> None:
        process = self._started()
        if process is None:
            return
        assert process.stdin is not None and process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(self._jobs[index]).encode() + b"\n")
            process.stdin.flush()
        for line in process.stdout:
            kind, value = json.loads(line)
            self._out.put((kind, index, value))
            if kind != "progress":
                return
        self._finish()
        self._out.put(("error", index, f"{self._jobs[index].get('path', 'job')}: {self._last_words(process)}"))

    def _started(self) -> subprocess.Popen[bytes] | None:
        with self._lock:
            if self._stopped.is_set():
                return None
            if self._process is None:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-c", _BOOT, _ROOT, self._function],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=self._errors,
                    start_new_session=True,  # Ctrl-C is for the parent, which kills its workers itself
                )
            return self._process

    def _finish(self) -> None:
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
            process.wait()

    def _last_words(self, process: subprocess.Popen[bytes]) -> str:
        code = process.returncode
        if code is not None and code < 0:
            why = f"killed by {signal.Signals(-code).name}"
            return f"its worker process was {why}; " + ("is there enough memory?" if code == -9 else "run it again")
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        return f"its worker process failed: {lines[-1] if lines else f'exit code {code}'}"


def _serve(function: str) -> None:
    """A worker's life: one job a line on stdin, answers as JSON lines on what was stdout."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # leaves through every finally
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a stray print must not end up between the answers
    module, _, name = function.partition(":")
    call = getattr(importlib.import_module(module), name)

    def say(kind: str, value: Any) -> None:
        answers.write(json.dumps([kind, value]).encode() + b"\n")
        answers.flush()

    for line in sys.stdin.buffer:
        try:
            say("result", call(**json.loads(line), on_progress=lambda *values: say("progress", values)))
        except ShardError as error:
            say("error", str(error))
