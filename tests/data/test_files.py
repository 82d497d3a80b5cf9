from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data import files
from data.files import ShardError, expand, expand_each, identify, unchanged


def test_expand_takes_files_folders_and_globs_once(tmp_path: Path, write_shard) -> None:
    first = write_shard("a/x.parquet", ["one"])
    second = write_shard("a/deep/er/y.PARQUET", ["two"])
    write_shard("a/.cache/half.parquet", ["in progress"])
    write_shard("a/.hidden.parquet", ["hidden"])
    (tmp_path / "a" / "link.parquet").symlink_to(first)
    expected = sorted([str(first), str(second)])
    # x and link are one file; whichever name comes first stands for it.
    assert len(expand([tmp_path / "a"])) == 2
    assert expand([first, second, first]) == expected
    assert expand([str(tmp_path / "a" / "**" / "*.PARQUET")]) == [str(second)]
    assert expand([str(tmp_path / "?" / "x.parquet"), str(first)]) == [str(first)]


def test_a_name_with_glob_characters_is_a_name(write_shard) -> None:
    path = write_shard("shard[1]*.parquet", ["one"])
    assert expand([path]) == [str(path)]


def test_a_relative_path_becomes_absolute(monkeypatch: pytest.MonkeyPatch, write_shard) -> None:
    path = write_shard("x.parquet", ["one"])
    monkeypatch.chdir(path.parent)
    assert expand(["x.parquet"]) == [str(path)]


@pytest.mark.parametrize("given", ["missing.parquet", "empty", "*.nothing"])
def test_what_is_not_there_is_said_in_one_line(tmp_path: Path, given: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ShardError, match=r"^[^\n]+$") as caught:
        expand([str(tmp_path / given)])
    assert given in str(caught.value)


def test_one_missing_path_does_not_hide_the_others(tmp_path: Path, write_shard) -> None:
    path = write_shard("x.parquet", ["one"])
    files, problems = expand_each([str(tmp_path / "gone"), str(path)])
    assert files == [str(path)] and list(problems) == [str(tmp_path / "gone")]


def damage(path: Path, how: str) -> None:
    raw = path.read_bytes()
    if how == "truncated":
        path.write_bytes(raw[: len(raw) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "text":
        path.write_text("this is no parquet file\n" * 20)
    elif how == "footer":
        begin = len(raw) - 8 - int.from_bytes(raw[-8:-4], "little")
        path.write_bytes(raw[:begin] + b"\xff" * 64 + raw[begin + 64 :])
    elif how == "magic only":
        path.write_bytes(b"PAR1")
    elif how == "folder":
        path.unlink()
        path.mkdir()
    elif how == "pipe":
        path.unlink()
        os.mkfifo(path)


@pytest.mark.parametrize("how", ["truncated", "empty", "text", "footer", "magic only", "folder", "pipe"])
def test_what_is_no_parquet_file_is_refused_in_one_line(write_shard, how: str) -> None:
    path = write_shard("x.parquet", ["some text"] * 100)
    damage(path, how)
    with pytest.raises(ShardError, match=r"^[^\n]+$") as caught:
        identify(path)
    assert str(path) in str(caught.value)


def test_identity_changes_with_the_content(write_shard) -> None:
    path = write_shard("x.parquet", ["one", "two"])
    before = identify(path)
    assert before.rows == 2 and before.size == path.stat().st_size
    unchanged(before)
    os.utime(write_shard("x.parquet", ["one", "owt"]), ns=(before.mtime_ns, before.mtime_ns))
    assert identify(path).footer != before.footer
    with pytest.raises(ShardError, match="changed while"):
        unchanged(before)


def test_a_footer_tells_where_giant_documents_may_lie(tmp_path: Path, write_shard, monkeypatch) -> None:
    monkeypatch.setattr(files, "_GIANT", 1 << 20)
    giant = write_shard("giant.parquet", ["small", "long " * (1 << 18), None])
    many = tmp_path / "many.parquet"  # as much text in one row group, of short documents
    pq.write_table(pa.table({"text": [f"some words {i} " * 90 for i in range(2500)]}), many)
    assert files.giants(str(giant), "text") and not files.giants(str(giant), "id")
    assert not files.giants(str(many), "text") and not files.giants(str(tmp_path / "none.parquet"), "text")
