"""The console's own process: a DuckDB that sees the selected shards and nothing else.

Three walls. The database has no external access but to the shards and its spill folder, and its configuration is
locked. Only statements that read are let through: a path that may be read may also be written (``COPY … (USE_TMP_FILE
false)`` would replace a shard), so what a statement is, is judged before it runs. And being a
process, it can be killed.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Sequence
from typing import IO, Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from data.catalogue import ROW, escaped, memory_limit, quoted
from data.database import silence
from data.workers import cores

_BATCH_ROWS = 2048
_READING = {"SELECT", "MULTI", "EXPLAIN"}  # MULTI: what PIVOT is made of
_BEGINNINGS = {
    *("select", "from", "with", "values", "table", "pivot", "unpivot", "describe", "desc", "show", "summarize"),
    *("explain", "("),
}
_EXPLAIN = re.compile(r"\s*explain\s*(\((?:[^()]|\([^()]*\))*\)|analyze\b)?", re.IGNORECASE)


class Refused(Exception):
    """A statement that is not run, and why."""


def serve() -> None:
    """Answer one request a line on stdin; results go to what was stdout."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    setup = json.loads(sys.stdin.buffer.readline())
    try:
        connection = connect(setup["files"], setup["temporary"])
    except duckdb.Error as error:
        _tell(out, "error", _one_line(error))
        return
    for line in sys.stdin.buffer:
        request = json.loads(line)
        try:
            relation = connection.sql(allowed(connection, request["sql"]))
            if relation is None:
                raise Refused("this statement answers with no rows; the console reads only")
            if request["limit"] is not None:
                relation = relation.limit(request["limit"])
            columns = list(zip(relation.columns, map(str, relation.types), strict=True))
            reader = relation.to_arrow_reader(_BATCH_ROWS)
        except (duckdb.Error, Refused, pa.ArrowException, RuntimeError) as error:
            _tell(out, "error", _one_line(error))
            continue
        _tell(out, "columns", columns)
        _send(out, reader, request["cell"])


def connect(files: Sequence[dict[str, Any]], temporary: str) -> duckdb.DuckDBPyConnection:
    """A locked database whose view ``docs`` is all rows of ``files`` ({path, columns: [[name, type], …]})."""
    connection = duckdb.connect(
        ":memory:",
        config={
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "memory_limit": f"{memory_limit()}B",
            "temp_directory": temporary,
            "threads": str(cores()),
            "arrow_large_buffer_size": "true",  # one batch of long documents may be over 2 GB
        },
    )
    silence(connection)
    paths = [file["path"] for file in files]
    if any("://" in path for path in paths):
        from data.remote import register

        register(connection, paths)
    named = [*paths, *(escaped(path) for path in paths if escaped(path) != path)]
    connection.execute(f"SET allowed_paths = [{', '.join(map(_literal, named))}]")
    connection.execute("SET enable_external_access = false")
    connection.execute(f"CREATE VIEW docs AS {_union(files)}")
    connection.execute("SET lock_configuration = true")
    return connection


def allowed(connection: duckdb.DuckDBPyConnection, sql: str) -> str:
    """The one statement in ``sql``, if it only reads. Raises Refused, duckdb.Error."""
    statements = connection.extract_statements(sql)
    if not statements:
        raise Refused("no statement: write, for example, SELECT count(*) FROM docs")
    if len(statements) > 1:
        raise Refused("one statement at a time, please")
    text = statements[0].query.strip().rstrip(";")
    _check(connection, text)
    return text


def _check(connection: duckdb.DuckDBPyConnection, text: str) -> None:
    [statement] = connection.extract_statements(text)
    kind = str(statement.type).rpartition(".")[2]
    bare = re.sub(r"\A(?:\s+|--[^\n]*(?:\n|\Z)|/\*.*?\*/)+", "", text, flags=re.DOTALL)
    word = (re.match(r"\(|\w+", bare) or [""])[0].lower()
    if kind not in _READING or word not in _BEGINNINGS:
        raise Refused(f"the console reads only: SELECT from docs, not {(word or kind).upper()[:40]}")
    if kind == "EXPLAIN":
        match = _EXPLAIN.match(bare)
        if match is None:
            raise Refused("the console reads only: EXPLAIN with a SELECT")
        _check(connection, bare[match.end() :])


def _union(files: Sequence[dict[str, Any]]) -> str:
    """All rows of all files, by column name; a column whose type differs between files as text.

    ``shard`` (its path) and ``shard_row`` are added where no file has such columns.
    """
    kinds: dict[str, set[str]] = {}
    for file in files:
        for name, kind in file["columns"]:
            kinds.setdefault(name, set()).add(kind)
    differing = {name for name, found in kinds.items() if len(found) > 1}
    extra = [
        f"{value} AS {name}"
        for name, value in (("shard", "filename"), ("shard_row", ROW))
        if not {name, value} & {known.lower() for known in kinds}
    ]
    groups: dict[str, list[str]] = {}
    for file in files:
        selected = [
            f"{quoted(name)}::VARCHAR AS {quoted(name)}" if name in differing else quoted(name)
            for name, _ in file["columns"]
        ]
        groups.setdefault(", ".join(selected + extra), []).append(file["path"])
    parts = [
        f"SELECT {selected} FROM read_parquet([{', '.join(_literal(escaped(path)) for path in paths)}])"
        for selected, paths in groups.items()
    ]
    return " UNION ALL BY NAME ".join(parts)


def _send(out: IO[bytes], reader: pa.RecordBatchReader, cell: int | None) -> None:
    """The result as an Arrow stream in frames. With ``cell``, every value as text of at most so many characters."""
    schema = reader.schema
    if cell is not None:
        schema = pa.schema([pa.field(name, pa.large_string()) for name in schema.names])
    try:
        with pa.ipc.new_stream(pa.PythonFile(_Framed(out), "w"), schema) as writer:
            for batch in reader:
                if cell is not None:
                    batch = pa.record_batch([_as_text(column, cell) for column in batch.columns], schema=schema)
                writer.write_batch(batch)
                out.flush()
    except BrokenPipeError:
        raise SystemExit(0) from None
    except Exception as error:  # what fails while rows already flow, such as a damaged page
        out.write((-1).to_bytes(8, "little", signed=True) + json.dumps(_one_line(error)).encode() + b"\n")
    else:
        out.write((0).to_bytes(8, "little"))
    out.flush()


def _as_text(column: pa.Array, cell: int) -> pa.Array:
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pc.utf8_slice_codeunits(column.cast(pa.large_string()), 0, cell)
    values = [None if v is None else (v.hex() if isinstance(v, bytes) else str(v))[:cell] for v in column.to_pylist()]
    return pa.array(values, pa.large_string())


class _Framed:
    """A file that puts the length before each piece written."""

    closed = False

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out

    def write(self, piece: Any) -> int:
        raw = bytes(piece)
        if raw:
            self._out.write(len(raw).to_bytes(8, "little") + raw)
        return len(raw)

    def flush(self) -> None:
        self._out.flush()

    def close(self) -> None:
        """The pipe stays open for the next answer."""


def _tell(out: IO[bytes], kind: str, value: Any) -> None:
    out.write(json.dumps([kind, value]).encode() + b"\n")
    out.flush()


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _one_line(error: BaseException) -> str:
    """DuckDB's message without its picture of the statement."""
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    message = lines[0] if lines else type(error).__name__
    hints = [line for line in lines[1:3] if line.startswith(("Did you mean", "Candidate bindings"))]
    return " ".join([message, *hints])[:400]
