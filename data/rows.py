"""Some rows' texts of a shard, streamed from its beginning."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from data.files import FileIdentity, ShardError, identify
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
