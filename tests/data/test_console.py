"""The SQL console: what it answers, what it refuses, and that it ends at once."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from data.catalogue import Catalogue
from data.console import Console, ConsoleError
from data.console_worker import connect
from data.query_history import KEPT, QueryHistory
from data.workers import Cancelled
from tests.data.test_query import flip


@pytest.fixture
def shards(tmp_path: Path, write_shard) -> Path:
    write_shard("s/a.parquet", [f"Text {i}" for i in range(120)] + ["evil \x1b[31m [red]", None], n=list(range(122)))
    write_shard("s/b'[1].parquet", ["other"], n=[0.5], extra=[{"k": [1, 2]}])
    write_shard("outside.parquet", ["secret"])
    (tmp_path / "outside.csv").write_text("a\nsecret\n")
    return tmp_path / "s"


@pytest.fixture
def console(shards: Path) -> Iterator[Console]:
    with Catalogue([shards]) as catalogue, Console(catalogue.files) as made:
        yield made


def test_docs_are_the_selected_shards(console: Console) -> None:
    counted = console.run("SELECT count(*), count(text), max(n) FROM docs;")
    assert counted.rows == [("123", "122", "99")] and not counted.capped  # n differs in type: compared as text
    first = console.run("FROM docs SELECT text, shard, shard_row WHERE text LIKE 'evil%' OR extra IS NOT NULL")
    assert [(row[0], Path(row[1] or "").name, row[2]) for row in first.rows] == [
        ("evil \x1b[31m [red]", "a.parquet", "120"),
        ("other", "b'[1].parquet", "0"),
    ]
    assert console.run("SELECT NULL, x'00ff'::BLOB, [1, 2], DATE '2020-02-03'").rows == [
        (None, "00ff", "[1, 2]", "2020-02-03")
    ]


def test_the_cap_is_told(console: Console) -> None:
    assert console.run("FROM docs", cap=123).capped is False
    found = console.run("FROM docs", cap=122)
    assert found.capped and len(found.rows) == 122
    assert len(console.run("SELECT repeat('x', 100000)").rows[0][0] or "") == 400


def test_every_way_of_reading_is_let_through(console: Console) -> None:
    for sql in (
        "/* why */ -- not\nSELECT 1", "(SELECT 1)", "VALUES (1)", "TABLE docs", "WITH x AS (SELECT 1) FROM x",
        "DESCRIBE docs", "SUMMARIZE docs", "SHOW TABLES", "EXPLAIN SELECT 1", "EXPLAIN ANALYZE FROM docs",
        "EXPLAIN (FORMAT json) SELECT 1", "PIVOT docs ON n USING count(*) GROUP BY text",
        "SELECT * FROM query('SELECT 42')",
    ):  # fmt: skip
        assert console.run(sql).rows, sql


REFUSED = [
    "COPY docs TO '{out}/x.parquet'", "COPY (SELECT 1) TO '{shard}' (USE_TMP_FILE false)",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{shard}' (USE_TMP_FILE false)",
    "-- SELECT\nCOPY (PIVOT docs ON n USING count(*)) TO '{shard}' (USE_TMP_FILE false)",
    "EXPLAIN (ANALYZE, FORMAT json) COPY (SELECT 1) TO '{shard}' (USE_TMP_FILE false)",
    "SELECT 1; COPY (SELECT 1) TO '{out}/x.csv'", "EXPORT DATABASE '{out}/x'", "IMPORT DATABASE '{out}/x'",
    "ATTACH '{out}/x.db'", "ATTACH '{shard}' AS y", "ATTACH ':memory:' AS y", "INSTALL httpfs", "LOAD httpfs",
    "LOAD '{out}/x.duckdb_extension'", "FROM '{out}/outside.parquet'", "FROM read_parquet('{out}/*.parquet')",
    "FROM read_csv('{out}/outside.csv')", "FROM read_text('{out}/outside.csv')", "FROM read_blob('/etc/hostname')",
    "FROM glob('{out}/*')", "FROM parquet_metadata('{out}/outside.parquet')", "FROM sniff_csv('{out}/outside.csv')",
    "FROM '{url}/x.parquet'", "FROM read_csv('{url}/x.csv')", "FROM 's3://bucket/x.parquet'",
    "SELECT * FROM query('FROM ''{out}/outside.parquet''')",
    "SET enable_external_access = true", "PRAGMA enable_external_access = true", "SET threads = 1",
    "RESET allowed_paths", "SET lock_configuration = false", "SET VARIABLE x = 1", "PRAGMA memory_limit = '1GB'",
    "CALL enable_logging()", "FROM enable_logging()", "CREATE TABLE t AS SELECT 1",
    "CREATE OR REPLACE VIEW docs AS SELECT 1",
    "EXPLAIN ANALYZE CREATE TABLE t AS SELECT 1", "DROP VIEW docs", "DELETE FROM docs", "INSERT INTO docs SELECT 1",
    "WITH x AS (INSERT INTO docs VALUES (1) RETURNING *) FROM x", "PREPARE v AS SELECT 1", "CREATE SECRET (TYPE s3)",
    "USE memory", "VACUUM", "CHECKPOINT", "BEGIN", "", "SELEC", "SELECT nothing FROM docs",
]  # fmt: skip


def test_nothing_else_is(console: Console, shards: Path) -> None:
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)

        do_HEAD = do_GET

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    before = {path: path.read_bytes() for path in shards.parent.rglob("*") if path.is_file()}
    url = f"http://127.0.0.1:{server.server_port}"
    try:
        for sql in REFUSED:
            sql = sql.format(out=shards.parent, shard=shards / "a.parquet", url=url)
            with pytest.raises(ConsoleError) as error:
                console.run(sql)
                pytest.fail(f"was run: {sql}")
            assert "\n" not in str(error.value) and "ended" not in str(error.value), sql
    finally:
        server.shutdown()
    assert asked == []
    assert {path: path.read_bytes() for path in shards.parent.rglob("*") if path.is_file()} == before
    assert console.run("SELECT count(*) FROM docs").rows == [("123",)]


def test_the_database_alone_is_locked_too(shards: Path, tmp_path: Path) -> None:
    """The second wall, were the first to fall."""
    with Catalogue([shards]) as catalogue:
        files = [{"path": f.path, "columns": [[c.name, c.type] for c in f.columns]} for f in catalogue.files]
    connection = connect(files, str(tmp_path / "spill"))
    for sql in REFUSED:
        if (
            sql.startswith(("SET", "RESET", "PRAGMA", "INSTALL", "LOAD http", "FROM", "EXPORT", "CALL"))
            and "VARIABLE" not in sql
        ):
            with pytest.raises(duckdb.Error):
                connection.execute(
                    sql.format(out=tmp_path, shard=shards / "a.parquet", url="http://127.0.0.1:9")
                ).fetchall()


def test_cancelling_is_at_once_and_the_next_statement_runs(console: Console) -> None:
    console.run("SELECT 1")
    folder = console._folder
    for sql in (
        "SELECT list(a.i ORDER BY hash(a.i)) FROM range(1000000000) a(i)",
        "SELECT count(*) FROM range(1000000000000) WHERE random() < 0",
    ):
        timer = threading.Timer(0.7, console.cancel)
        begin = time.perf_counter()
        timer.start()
        with pytest.raises(Cancelled):
            console.run(sql)
        assert 0.7 <= time.perf_counter() - begin < 2.0
        timer.join()
    assert console.run("SELECT count(*) FROM docs").rows == [("123",)]
    console.close()
    assert not folder.exists()
    with pytest.raises(Cancelled):
        console.run("SELECT 1")


def test_export_holds_the_whole_result(console: Console, shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.parquet"
    sql = "SELECT text, n::DOUBLE AS n, repeat('y', 5000) AS long FROM docs"
    assert console.export(sql, out) == 123
    table = pq.read_table(out)
    assert table["n"].type == pa.float64() and table["text"].to_pylist()[120] == "evil \x1b[31m [red]"
    assert len(table["long"][0].as_py()) == 5000
    assert console.export("SELECT text, 1 AS one FROM docs LIMIT 3", tmp_path / "x.csv") == 3
    assert pyarrow.csv.read_csv(tmp_path / "x.csv")["text"].to_pylist() == ["Text 0", "Text 1", "Text 2"]
    for target, reason in (
        (shards / "a.parquet", "one of the shards"), (tmp_path / "x.json", "parquet or .csv"),
        (tmp_path / "none" / "x.csv", "cannot be written"),
    ):  # fmt: skip
        with pytest.raises(ConsoleError, match=reason):
            console.export("FROM docs", target)
    with pytest.raises(ConsoleError, match="cannot hold"):
        console.export("SELECT [1, 2] AS l", tmp_path / "list.csv")
    with pytest.raises(ConsoleError):
        console.export("SELECT error('late') FROM docs WHERE n = '99'", tmp_path / "late.parquet")
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == [
        "outside.csv", "outside.parquet", "x.csv", "x.parquet",
    ]  # fmt: skip


def test_a_damaged_page_fails_the_statement_in_one_line(tmp_path: Path) -> None:
    table = pa.table({"text": [f"needle {i} {'x' * 50}" for i in range(9000)], "n": list(range(9000))})
    pq.write_table(table, tmp_path / "a.parquet", compression="none", use_dictionary=False, row_group_size=3000)
    flip(tmp_path / "a.parquet", b"needle 7000")
    with Catalogue([tmp_path]) as catalogue, Console(catalogue.files) as console:
        with pytest.raises(ConsoleError) as error:
            console.run("SELECT sum(strlen(text)) FROM docs")
        assert "\n" not in str(error.value)
        assert console.run("SELECT sum(n) FROM docs").rows == [(str(sum(range(9000))),)]


def test_history_outlives_a_session(tmp_path: Path) -> None:
    path = tmp_path / "state" / "history.jsonl"
    history = QueryHistory(path)
    assert history.entries() == []
    for statement in ("SELECT 1", "SELECT\n'2'", "SELECT 1", "  "):
        history.add(statement)
    with path.open("ab") as file:
        file.write(b'{"torn\n[1]\n')
    assert QueryHistory(path).entries() == ["SELECT\n'2'", "SELECT 1"]
    assert path.stat().st_mode & 0o077 == 0
    for i in range(KEPT + 5):
        history.add(f"SELECT {i}")
    assert len(history.entries()) == KEPT
