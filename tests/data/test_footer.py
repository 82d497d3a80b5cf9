"""A footer's row groups and column chunks: as pyarrow tells them, and of a damaged file in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.columns import layout
from data.files import read_footer
from data.footer import Footer, FooterError

# Found by fuzzing: pyarrow ends the process where a column chunk of it is looked at.
ABORTS = Path(__file__).with_name("aborts_pyarrow.parquet")


@pytest.mark.parametrize("codec", ["none", "snappy", "gzip", "zstd", "lz4", "brotli"])
def test_as_pyarrow_tells_them(tmp_path: Path, codec: str) -> None:
    rows = 1000
    table = pa.table({
        "text": [f"document {i}" * (i % 9) for i in range(rows)], "n": list(range(rows)),
        "x": [i / 7 for i in range(rows)], "ok": [i % 2 == 0 for i in range(rows)],
        "nested": [{"a": [i], "b": {"c": None}} for i in range(rows)], "raw": [b"\0\xff"] * rows,
    })  # fmt: skip
    path = tmp_path / "a.parquet"
    pq.write_table(
        table.replace_schema_metadata({"k": "v" * 300}), path, compression=codec, row_group_size=300,
        write_page_index=True, sorting_columns=[pq.SortingColumn(1)],
    )  # fmt: skip
    footer, metadata = read_footer(path)[1], pq.read_metadata(path)
    found = list(footer.row_groups())
    assert len(found) == metadata.num_row_groups == 4
    for g, group in enumerate(found):
        theirs = metadata.row_group(g)
        assert (group.rows, group.bytes, len(group.chunks)) == (
            theirs.num_rows, theirs.total_byte_size, theirs.num_columns,
        )  # fmt: skip
        for c, chunk in enumerate(group.chunks):
            of = theirs.column(c)
            assert chunk.path == of.path_in_schema and chunk.type == of.physical_type
            assert chunk.codec.removesuffix("_RAW") == of.compression and set(chunk.encodings) == set(of.encodings)
            assert (chunk.compressed, chunk.uncompressed) == (of.total_compressed_size, of.total_uncompressed_size)


def test_bytes_that_are_none() -> None:
    for raw in (b"", b"\x19", b"\x49\xfc\xff\xff\xff\x7f", b"\x1c" * 4000, b"\x49\x19" + b"\x19" * 9000, b"\xff" * 60):
        with pytest.raises(FooterError):
            list(Footer(None, raw).row_groups())  # type: ignore[arg-type]
            raise FooterError("no row groups in it")


def test_a_file_that_ends_pyarrow_does_not_end_us() -> None:
    assert len(layout(str(ABORTS)).row_groups) == 3
    done = subprocess.run(
        [sys.executable, "-m", "workbench.cli", "data", "stats", str(ABORTS)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1) and "Traceback" not in done.stderr and "terminate" not in done.stderr
