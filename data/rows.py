"""Some rows' texts of a shard: streamed from its beginning, or picked from the row groups that hold them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from data.files import FileIdentity, ShardError, identify, open_shard, unreadable
from data.packing import documents

I64 = npt.NDArray[np.int64]


def chosen(
    path: str,
    identity: dict[str, Any],
    column: str,
    wanted: I64,
    on_progress: Callable[[int, int], None],
) -> Iterator[tuple[I64, pa.LargeStringArray]]:
    """Rows (ascending) of a shard and their texts, in batches of bounded size; for a worker process.

    Raises ShardError, also where the file is not the one that ``identity`` (as JSON values) means.
    """
    pa.set_cpu_count(1)  # the workers share the cores
    known = FileIdentity(**identity)
    if identify(path) != known:
        raise ShardError(f"{path}: the file changed while it was being read; run it again")
    for first, texts in documents(path, column):
        here = wanted[np.searchsorted(wanted, first) : np.searchsorted(wanted, first + len(texts))]
        if len(here):
            yield here, texts if len(here) == len(texts) else texts.take(pa.array(here - first))
        on_progress(first + len(texts), known.rows)  # once the caller is done with them


def rows_of(path: str, column: str, rows: I64) -> pa.LargeStringArray:
    """Some rows' texts, ascending; only the row groups that hold them are read. Raises ShardError."""
    parts = []
    try:
        with open_shard(path) as file:
            shard = pq.ParquetFile(file, page_checksum_verification=True)
            sizes = [shard.metadata.row_group(g).num_rows for g in range(shard.metadata.num_row_groups)]
            ends = np.cumsum(sizes)
            for group in np.unique(np.searchsorted(ends, rows, side="right")).tolist():
                begin = int(ends[group]) - sizes[group]
                here = rows[(rows >= begin) & (rows < ends[group])] - begin
                table = shard.read_row_group(group, columns=[column], use_threads=False)
                parts.append(table.column(0).combine_chunks().cast(pa.large_string()).take(pa.array(here)))
        return pa.chunked_array(parts, pa.large_string()).combine_chunks()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise unreadable(path, error) from None
