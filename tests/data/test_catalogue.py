from __future__ import annotations

import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.catalogue import Catalogue
from data.files import ShardError


def test_every_file_is_probed_on_its_own(tmp_path: Path, write_shard) -> None:
    good = write_shard("good.parquet", [f"text {i}" for i in range(120)], counted=True)
    write_shard("cut.parquet", ["text"] * 100)
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "cut.parquet").read_bytes()[:-10])
    (tmp_path / "empty.parquet").write_bytes(b"")
    (tmp_path / "notes.parquet").write_text("no parquet file at all")
    pq.write_table(pa.table({"body": ["x"], "n": [1]}), tmp_path / "other.parquet")
    pq.write_table(pa.table({"text": [1.5]}), tmp_path / "number.parquet")
    pq.write_table(pa.table({"text": ["x"], "FILE_ROW_NUMBER": [7]}), tmp_path / "hidden.parquet")
    write_shard("a\\b[c].parquet", ["text"])
    with Catalogue([tmp_path, tmp_path / "gone"]) as catalogue:
        errors = {Path(p.file).name: p.error for p in catalogue.errors}
        assert [Path(f.path).name for f in catalogue.files] == ["good.parquet", "number.parquet", "other.parquet"]
    assert sorted(errors) == sorted(
        [
            "cut.parquet",
            "empty.parquet",
            "notes.parquet",
            "other.parquet",
            "number.parquet",
            "hidden.parquet",
            "a\\b[c].parquet",
            "gone",
        ]
    )
    assert "it has body, n" in errors["other.parquet"] and "holds double" in errors["number.parquet"]
    assert "rename it" in errors["a\\b[c].parquet"]
    assert "truncated" in errors["cut.parquet"] and "0 bytes" in errors["empty.parquet"]
    assert all("\n" not in error and not error.startswith("/") for error in errors.values())
    file = next(f for f in catalogue.files if f.path == str(good))
    assert (file.rows, file.row_groups, file.bytes) == (120, 3, good.stat().st_size)
    assert [(c.name, c.type) for c in file.columns] == [
        ("text", "VARCHAR"), ("id", "VARCHAR"), ("token_count", "BIGINT"),
    ]  # fmt: skip
    assert (file.text_column, file.token_column, file.compression) == ("text", "token_count", "ZSTD")


def test_pages_are_rows_by_number(write_shard) -> None:
    path = write_shard(
        "x [1]'*?.parquet",
        [None if i == 77 else f"text {i} " * 200 for i in range(130)],
        blob=pa.array([bytes([i]) for i in range(130)]),
        nested=[{"a": [i]} for i in range(130)],
        **{'quo"ted': list(range(130))},
    )
    with Catalogue([path]) as catalogue:
        [file] = catalogue.files
        page = catalogue.page(file, 75, 4, max_chars=20)
        assert [row["file_row_number"] for row in page] == [75, 76, 77, 78]
        assert page[0]["text"] == ("text 75 " * 200)[:20] and page[2]["text"] is None
        assert page[0]["blob"] == "4B" and "75" in page[0]["nested"] and page[0]['quo"ted'] == 75
        assert catalogue.page(file, 129, 10, columns=["id"]) == [{"file_row_number": 129, "id": "129"}]
        assert catalogue.page(file, 130, 10) == []
        assert catalogue.page(file, 3, 1, max_chars=None)[0]["text"] == "text 3 " * 200
        assert catalogue.document(file, 129) == "text 129 " * 200
        assert catalogue.document(file, 77) is None
        with pytest.raises(ShardError, match="no row 130"):
            catalogue.document(file, 130)
        with pytest.raises(ShardError, match="no column 'body'"):
            catalogue.document(file, 0, "body")


def test_threads_page_at_once(write_shard) -> None:
    path = write_shard("x.parquet", [f"text {i}" for i in range(500)])
    with Catalogue([path]) as catalogue:
        [file] = catalogue.files
        failures: list[object] = []

        def work(offset: int) -> None:
            for row in range(offset, 500, 25):
                try:
                    assert catalogue.document(file, row) == f"text {row}"
                    assert len(catalogue.page(file, row, 5)) == min(5, 500 - row)
                except Exception as error:
                    failures.append(error)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []


def test_a_file_gone_since_it_was_probed_is_named(write_shard) -> None:
    path = write_shard("x.parquet", ["one"])
    with Catalogue([path]) as catalogue:
        path.unlink()
        with pytest.raises(ShardError, match=r"x\.parquet: cannot be read"):
            catalogue.page(catalogue.files[0], 0, 1)
