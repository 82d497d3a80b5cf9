from __future__ import annotations

import platform
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from data.encoding import load
from data.files import ShardError, expand
from data.sample import SCHEMA, build, library_pieces


def test_the_same_python_gives_the_same_shards(tmp_path: Path) -> None:
    first = build(tmp_path / "a", max_tokens=60_000)
    second = build(tmp_path / "b", max_tokens=60_000)
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
    assert [str(p) for p in first] == expand([tmp_path / "a"]) and len(first) == 4


def test_documents_are_real_and_nothing_is_invented(tmp_path: Path) -> None:
    paths = build(tmp_path, max_tokens=60_000)
    tables = [pq.read_table(path) for path in paths]
    rows = [row for table in tables for row in table.to_pylist()]
    assert all(table.schema.equals(SCHEMA) for table in tables)
    assert 50_000 < sum(row["token_count"] for row in rows) <= 60_000
    assert len(rows) > 60 and len({row["file_path"] for row in rows}) > 40
    assert all(row["token_count"] == len(load().encode_ordinary(row["text"])) for row in rows)
    assert {row["dump"] for row in rows} == {f"python-{platform.python_version()}"}
    for column in ("score", "int_score", "language_score", "url"):
        assert all(row[column] is None for row in rows)
    library = Path(__import__("sysconfig").get_path("stdlib"))
    for row in rows[:20]:
        source = (library / row["file_path"]).read_text(errors="replace")
        assert row["text"].splitlines()[-1].strip() in source
        assert not row["file_path"].startswith(("test/", "site-packages"))


def test_shards_are_built_once_and_mended(tmp_path: Path) -> None:
    paths = build(tmp_path, max_tokens=20_000)
    stamps = [p.stat().st_mtime_ns for p in paths]
    assert [p.stat().st_mtime_ns for p in build(tmp_path, max_tokens=20_000)] == stamps
    whole = paths[1].read_bytes()
    paths[1].write_bytes(b"")
    assert build(tmp_path, max_tokens=20_000)[1].read_bytes() == whole
    assert len(build(tmp_path, max_tokens=20_000, shards=2)) == 2
    assert len(expand([tmp_path])) == 2  # the four are gone
    assert not list(tmp_path.glob(".building*"))


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ShardError, match="cannot write the sample"):
        build(tmp_path / "file", max_tokens=5_000)


def test_pieces_leave_out_tables_tests_and_broken_files(tmp_path: Path) -> None:
    body = '"""Doc."""\n' + "@wraps\ndef f(x):\n" + "    # é\n" * 60 + "    return x\n"
    for name in ("mod.py", "test/test_mod.py", "site-packages/x.py", "sitecustomize.py", "data.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(body)
    (tmp_path / "broken.py").write_text("def f(:\n" * 80)
    (tmp_path / "latin.py").write_bytes(b"# no coding line\nx = '\xe9'\n" * 80)
    (tmp_path / "cp1.py").write_text("''' codec generated from 'MAPPINGS/X' '''\n" + body)
    assert [(p.file_path, p.name) for p in library_pieces(tmp_path)] == [("mod.py", "f")]
    assert library_pieces(tmp_path)[0].text.startswith("@wraps\ndef f(x):\n")
