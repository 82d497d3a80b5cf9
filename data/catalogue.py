"""What lies in the shards: a DuckDB catalogue over parquet files, each probed on its own.

One bad file never fails the rest: it is named in ``errors``. Pages are fetched by ``file_row_number``, which DuckDB
prunes by row group, never by offset.
"""

from __future__ import annotations

import itertools
import os
import secrets
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from data.database import silence
from data.files import FileIdentity, ShardError, check_text_column, expand_each, read_footer, unreadable
from data.footer import FooterError
from data.remote import register
from data.workers import Cancelled, cores

ROW = "file_row_number"
_GIB = 1 << 30


@dataclass(frozen=True)
class Column:
    """A column's name and its DuckDB type."""

    name: str
    type: str


@dataclass(frozen=True)
class FileProblem:
    """A file, or a path given, that could not be answered for, and why: one line."""

    file: str
    error: str

    @classmethod
    def of(cls, file: str, error: Exception) -> FileProblem:
        """From an error whose line may begin with the file's name."""
        return cls(file, str(error).removeprefix(f"{file}: "))


@dataclass(frozen=True)
class ShardFile:
    """One readable parquet file. ``text_column`` is None where it has no such column of text (then it is in the
    catalogue's errors too, and can still be browsed); ``token_column`` where it has no integer ``token_count``."""

    identity: FileIdentity
    row_groups: int
    columns: tuple[Column, ...]
    compression: str  # codec names, joined by "+"
    text_column: str | None
    token_column: str | None

    @property
    def path(self) -> str:
        """Absolute path."""
        return self.identity.path

    @property
    def rows(self) -> int:
        """Rows, as the footer states."""
        return self.identity.rows

    @property
    def bytes(self) -> int:
        """Size of the file on disk."""
        return self.identity.size


@dataclass
class Catalogue:
    """Parquet files, folders and globs, looked into.

    Never raises for a bad file or path: see ``errors``. Every thread takes a cursor of its own from ``cursor()``
    (DuckDB connections are not for sharing); ``page`` and ``document`` do so by themselves.
    """

    paths: Sequence[str | Path]
    column: str = "text"
    on_progress: Callable[[int, int], None] | None = None  # files probed, files found
    files: list[ShardFile] = field(default_factory=list, init=False)
    errors: list[FileProblem] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._local = threading.local()
        self._connection = duckdb.connect(":memory:", config=_settings())
        silence(self._connection)
        found, problems = expand_each(self.paths)
        self.errors += [FileProblem.of(path, error) for path, error in problems.items()]
        register(self._connection, found)
        for done, path in enumerate(found, 1):
            try:
                self.files.append(self._probe(path))
            except ShardError as error:
                self.errors.append(FileProblem.of(path, error))
            if self.on_progress is not None:
                self.on_progress(done, len(found))

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A new cursor on the catalogue's database, for one thread. Its temporary tables are its own."""
        with self._lock:
            cursor = self._connection.cursor()
        silence(cursor)
        return cursor

    def close(self) -> None:
        """Release the database and what it spilled to disk."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Catalogue:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def page(
        self,
        file: ShardFile,
        first_row: int,
        limit: int,
        columns: Sequence[str] | None = None,
        max_chars: int | None = 400,
        cursor: duckdb.DuckDBPyConnection | None = None,
    ) -> list[dict[str, Any]]:
        """Rows ``first_row`` … of a file, at most ``limit``: column → value, and ``file_row_number`` → row, from 0.

        Text is cut to ``max_chars`` (None: whole); binary values are shown as hexadecimal, nested ones as text.
        ``cursor``: the one to use, by default the calling thread's.
        Raises ShardError where the file cannot be read there.
        """
        return self._select(file, f"{ROW} >= {first_row} AND {ROW} < {first_row + limit}", columns, max_chars, cursor)

    def rows(
        self,
        file: ShardFile,
        rows: Sequence[int],
        columns: Sequence[str] | None = None,
        max_chars: int | None = 400,
        cursor: duckdb.DuckDBPyConnection | None = None,
    ) -> list[dict[str, Any]]:
        """As ``page``, but just these rows of a file, wherever they lie; in the order of the file."""
        wanted = ", ".join(str(int(row)) for row in rows)
        return self._select(file, f"{ROW} IN ({wanted})" if rows else "false", columns, max_chars, cursor)

    def _select(
        self,
        file: ShardFile,
        where: str,
        columns: Sequence[str] | None,
        max_chars: int | None,
        cursor: duckdb.DuckDBPyConnection | None,
    ) -> list[dict[str, Any]]:
        chosen = [c for c in file.columns if columns is None or c.name in columns]
        selected = ", ".join([ROW, *(_shown(column, max_chars) for column in chosen)])
        names = [ROW, *(column.name for column in chosen)]
        query = f"SELECT {selected} FROM {SCAN} WHERE {where} ORDER BY {ROW}"
        with reading(file.path):
            found = (cursor or self._own_cursor()).execute(query, [escaped(file.path)]).fetchall()
        return [dict(zip(names, values, strict=True)) for values in found]

    def document(self, file: ShardFile, row: int, column: str | None = None) -> str | None:
        """A document's whole text; None where it is null. Raises ShardError for a row or column that is not there."""
        name = column or file.text_column
        if name is None or name not in {c.name for c in file.columns}:
            have = ", ".join(c.name for c in file.columns)
            raise ShardError(f"{file.path}: no column {name or self.column!r}; it has {have}")
        with reading(file.path):
            query = f"SELECT {quoted(name)}::VARCHAR FROM {SCAN} WHERE {ROW} = ?"
            found = self._own_cursor().execute(query, [escaped(file.path), row]).fetchone()
        if found is None:
            raise ShardError(f"{file.path}: no row {row:,}; it has {file.rows:,}, counted from 0")
        text: str | None = found[0]
        return text

    def _own_cursor(self) -> duckdb.DuckDBPyConnection:
        if not hasattr(self._local, "cursor"):
            self._local.cursor = self.cursor()
        cursor: duckdb.DuckDBPyConnection = self._local.cursor
        return cursor

    def _probe(self, path: str) -> ShardFile:
        identity, footer = read_footer(path)
        with reading(path):
            described = self._own_cursor().execute(f"DESCRIBE SELECT * FROM {SCAN}", [escaped(path)]).fetchall()
        columns = tuple(Column(name, kind) for name, kind, *_ in described)
        if any(column.name.lower() == ROW for column in columns):
            raise ShardError(f"{path}: a column named {ROW} hides the row numbers; rename it")
        text: str | None = self.column
        try:
            check_text_column(path, footer.metadata.schema.to_arrow_schema(), self.column)
        except ShardError as error:
            self.errors.append(FileProblem.of(path, error))
            text = None
        try:
            codecs = {chunk.codec for group in itertools.islice(footer.row_groups(), 1) for chunk in group.chunks}
        except FooterError as error:
            raise unreadable(path, error) from None
        counted = any(c.name == "token_count" and c.type.endswith(("INT", "INTEGER")) for c in columns)
        return ShardFile(
            identity=identity,
            row_groups=footer.metadata.num_row_groups,
            columns=columns,
            compression="+".join(sorted(codecs)),
            text_column=text,
            token_column="token_count" if counted else None,
        )


SCAN = "read_parquet(?)"  # its parameter: escaped(path)


def escaped(path: str) -> str:
    """A path as ``read_parquet`` takes it literally: characters of a glob stand for themselves."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in path)


def quoted(name: str) -> str:
    """A column's name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


@contextmanager
def reading(path: str) -> Iterator[None]:
    """DuckDB's errors while it reads ``path`` as one-line ShardErrors; an interrupt as Cancelled."""
    try:
        yield
    except duckdb.InterruptException:
        raise Cancelled from None
    except duckdb.Error as error:
        reason = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
        reason = reason.replace(path, "the file").replace(escaped(path), "the file")
        if "\\" in path and escaped(path) != path:  # DuckDB finds nothing by such a pattern, however it is written
            raise ShardError(f"{path}: a path with a backslash and one of * ? [ cannot be opened: rename it") from None
        raise ShardError(f"{path}: cannot be read: {reason}; copy or download it again") from None


@contextmanager
def interruptible(cursor: duckdb.DuckDBPyConnection, cancelled: Callable[[], bool] | None) -> Iterator[None]:
    """While inside, interrupt the cursor's query once ``cancelled`` says yes (asked ten times a second)."""
    if cancelled is None:
        yield
        return
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            if cancelled():
                cursor.interrupt()

    watcher = threading.Thread(target=watch, daemon=True, name="query watcher")
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _shown(column: Column, max_chars: int | None) -> str:
    """The SQL of a column's value as a page shows it."""
    name, kind = quoted(column.name), column.type
    if kind == "BLOB":
        value = f"hex({name})"
    elif kind == "VARCHAR":
        value = name
    elif kind.endswith("]") or kind.startswith(("STRUCT", "MAP", "UNION", "JSON", "VARIANT")):
        value = f"{name}::VARCHAR"
    else:
        return name
    return value if max_chars is None else f"left({value}, {max_chars})"


def _settings() -> dict[str, Any]:
    # Extensions are never fetched: offline that stalls, and nothing here needs one. Memory is bounded; beyond that
    # DuckDB spills to a folder of this process alone (two processes in one folder would use the same names).
    folder = Path(tempfile.gettempdir()) / f"gptbench-duckdb-{os.getpid()}-{secrets.token_hex(4)}"
    return {
        "autoinstall_known_extensions": "false",
        "memory_limit": f"{memory_limit()}B",
        "temp_directory": str(folder),
        "threads": str(cores()),
    }


def memory_limit() -> int:
    """A quarter of this machine's memory, between 1 and 8 GiB."""
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        total = 8 * _GIB
    return max(_GIB, min(8 * _GIB, total // 4))
