"""Small shards for the tests of the data room."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.encoding import load

WriteShard = Callable[..., Path]


@pytest.fixture
def write_shard(tmp_path: Path) -> WriteShard:
    """Write a parquet file below tmp_path; token_count is counted unless it is given or None."""

    def write(name: str, texts: Sequence[str | None], *, counted: bool = False, **columns: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        table = {"text": pa.array(texts, pa.string()), "id": [str(i) for i in range(len(texts))], **columns}
        if counted:
            encode = load().encode_ordinary
            table["token_count"] = pa.array([None if t is None else len(encode(t)) for t in texts], pa.int64())
        pq.write_table(pa.table(table), path, row_group_size=50, compression="zstd")
        return path

    return write
