"""A DuckDB database for one calculation: bounded memory, spilling to a folder of its own, silent."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb
import pyarrow as pa

from data.workers import cores


@contextmanager
def scratch(memory: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """An empty database that uses up to ``memory`` ("256MB"), gone at the end with what it spilled."""
    with tempfile.TemporaryDirectory(prefix="gptbench-duckdb-") as folder:
        database = duckdb.connect(
            ":memory:",
            config={
                "autoinstall_known_extensions": "false",
                "memory_limit": memory,
                "temp_directory": folder,
                "threads": str(cores()),
                "preserve_insertion_order": "false",
            },
        )
        try:
            silence(database)
            yield database
        finally:
            database.close()


def release(connection: duckdb.DuckDBPyConnection | None = None) -> None:
    """Give memory kept for later use back to the system: Arrow's, and what the threads of a connection's database hold.

    For a process that is about to start workers: a document of 200 MB leaves some 700 MB otherwise.
    """
    pa.default_memory_pool().release_unused()
    if connection is not None:
        connection.execute("SET threads = 1")  # ends the threads, and with them what their allocator kept
        connection.execute(f"SET threads = {cores()}")


def silence(connection: duckdb.DuckDBPyConnection) -> None:
    """Keep a connection from drawing a progress bar: it would go to standard output, after two seconds."""
    connection.execute("SET enable_progress_bar = false")
