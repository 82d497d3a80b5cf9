"""A SQL console over selected shards, as one table ``docs``: confined, read-only, and cancelled at once.

The database lives in a process of its own (``console_worker``), which is killed to cancel: DuckDB's ``interrupt`` can
take half a minute inside one large list. Results come as an Arrow stream; an export is written here, by the parent,
since the worker may write nothing.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from data.catalogue import Column, ShardFile
from data.files import ShardError
from data.workers import Cancelled

CAP = 1000  # rows of a result that are shown
_CELL = 400  # characters of a cell that are shown
_ROOT = str(Path(__file__).resolve().parent.parent)
_BOOT = "import sys; sys.path.append(sys.argv[1]); from data.console_worker import serve; serve()"


class ConsoleError(ShardError):
    """A statement that cannot be run: one line."""


@dataclass(frozen=True)
class Result:
    """What a statement answered. Cells are text as DuckDB's values print, at most 400 characters; None is null.

    ``capped``: there are more rows than the ``cap`` shown; ``seconds``: from asking to the last row shown.
    """

    columns: tuple[Column, ...]
    rows: list[tuple[str | None, ...]]
    capped: bool
    seconds: float


class Console:
    """Statements over ``files``. ``run`` and ``export`` block and belong to one thread at a time; ``cancel`` and
    ``close`` may come from any. A cancelled console starts a new worker with the next statement."""

    def __init__(self, files: Sequence[ShardFile]) -> None:
        if not files:
            raise ConsoleError("no shard to query: name parquet files or folders that can be read")
        self._files: list[dict[str, Any]] = [
            {"path": file.path, "columns": [[column.name, column.type] for column in file.columns]} for file in files
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = Path(tempfile.gettempdir()) / f"gptbench-sql-{os.getpid()}-{secrets.token_hex(4)}"
        self._lock = threading.Lock()
        self._cancelled = self._closed = False

    def run(self, sql: str, *, cap: int = CAP) -> Result:
        """Answer one statement, at most ``cap`` rows of it. Raises ConsoleError, Cancelled."""
        import pyarrow as pa

        begin = time.perf_counter()
        rows: list[tuple[str | None, ...]] = []
        request = {"sql": sql, "limit": cap + 1, "cell": _CELL}
        with self._asked(request) as (columns, stream), pa.ipc.open_stream(stream) as reader:
            for batch in reader:
                rows += zip(*(column.to_pylist() for column in batch.columns), strict=True)
        return Result(columns, rows[:cap], len(rows) > cap, time.perf_counter() - begin)

    def export(self, sql: str, path: str | Path, on_progress: Callable[[int], None] | None = None) -> int:
        """Write the whole result to a ``.parquet`` or ``.csv`` file, complete or not at all; returns its rows.

        Raises ConsoleError (also where the file is one of the shards), Cancelled.
        """
        import pyarrow as pa
        import pyarrow.csv
        import pyarrow.parquet

        target = Path(path).expanduser().absolute()
        kind = target.suffix.lower()
        if kind not in (".parquet", ".csv"):
            raise ConsoleError(f"{path}: name a .parquet or .csv file")
        if target.resolve() in {Path(file["path"]).resolve() for file in self._files if "://" not in file["path"]}:
            raise ConsoleError(f"{path}: is one of the shards queried; name another file")
        temporary = target.with_name(f".{target.name}-{secrets.token_hex(4)}")
        count = 0
        try:
            request = {"sql": sql, "limit": None, "cell": None}
            with self._asked(request) as (_, stream), pa.ipc.open_stream(stream) as reader:
                make = pa.parquet.ParquetWriter if kind == ".parquet" else pa.csv.CSVWriter
                with temporary.open("wb") as file, make(file, reader.schema) as writer:
                    for batch in reader:
                        writer.write_batch(batch)
                        count += batch.num_rows
                        if on_progress is not None:
                            on_progress(count)
            temporary.replace(target)
        except OSError as error:
            raise ConsoleError(f"{path}: cannot be written: {error.strerror or error}") from None
        except pa.ArrowException as error:
            raise ConsoleError(f"{path}: cannot hold this result: {_line(error)}; try .parquet") from None
        finally:
            temporary.unlink(missing_ok=True)
        return count

    def cancel(self) -> None:
        """End what runs, at once. It raises Cancelled in its own thread."""
        with self._lock:
            self._cancelled = True
            self._kill()

    def close(self) -> None:
        """End the worker for good."""
        with self._lock:
            self._closed = self._cancelled = True
            self._kill()

    def __enter__(self) -> Console:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def _asked(self, request: dict[str, Any]) -> Iterator[tuple[tuple[Column, ...], IO[bytes]]]:
        process = self._started()
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            columns, error = self._answer(process.stdout)
            if error is None:
                frames = _Frames(process.stdout)
                yield columns, cast("IO[bytes]", io.BufferedReader(frames))
                frames.drain()
        except _Ended:
            error = self._why_it_ended(process)
        except (BrokenPipeError, json.JSONDecodeError):
            error = self._why_it_ended(process)
        except BaseException as stopped:
            if not isinstance(stopped, ConsoleError):
                with self._lock:
                    self._kill()  # left half-read: the next statement gets a new worker
            if self._cancelled:
                raise Cancelled from None
            raise
        if error is not None:
            if self._cancelled:
                raise Cancelled
            raise ConsoleError(error)

    def _answer(self, out: IO[bytes]) -> tuple[tuple[Column, ...], str | None]:
        line = out.readline()
        if not line:
            raise _Ended
        kind, value = json.loads(line)
        if kind == "error":
            return (), value
        return tuple(Column(name, kind) for name, kind in value), None

    def _why_it_ended(self, process: subprocess.Popen[bytes]) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(2)
        code = process.poll()
        with self._lock:
            self._kill()
        if code == -9:
            return "the query's process was killed; is there enough memory?"
        return f"the query's process ended ({code}); ask again"

    def _started(self) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._closed:
                raise Cancelled
            self._cancelled = False
            if self._process is None or self._process.poll() is not None:
                self._kill()
                self._folder.mkdir(mode=0o700, exist_ok=True)
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-c", _BOOT, _ROOT],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C is for the parent
                )
                assert self._process.stdin is not None
                setup = {"files": self._files, "temporary": str(self._folder)}
                self._process.stdin.write(json.dumps(setup).encode() + b"\n")
                self._process.stdin.flush()
            return self._process

    def _kill(self) -> None:
        """Under the lock: end the process and what it spilled."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            # stdout is left to the thread that may be reading it, and to the garbage collector.
            with contextlib.suppress(OSError):
                if process.stdin is not None:
                    process.stdin.close()
        shutil.rmtree(self._folder, ignore_errors=True)


class _Ended(Exception):
    """The worker is gone."""


class _Frames(io.RawIOBase):
    """The worker's Arrow stream: pieces of 8 bytes of length and so many bytes; 0 ends it, −1 leads to an error."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source, self._rest, self._ended = source, memoryview(b""), False

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        while not self._rest and not self._ended:
            self._next()
        count = min(len(into), len(self._rest))
        into[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def drain(self) -> None:
        """Read to the end."""
        while not self._ended:
            self._next()

    def _next(self) -> None:
        head = self._source.read(8)
        if len(head) < 8:
            raise _Ended
        length = int.from_bytes(head, "little", signed=True)
        if length <= 0:
            self._ended = True
            if length < 0:
                raise ConsoleError(json.loads(self._source.readline()))
            return
        self._rest = memoryview(self._source.read(length))
        if len(self._rest) < length:
            raise _Ended


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
