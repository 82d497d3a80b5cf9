"""What shards say of themselves before they are packed: identity, rows, and a column that states tokens.

Footers are read several at a time, since each of a remote store takes a round trip or two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from data.files import FileIdentity, ShardError, identify, open_shard
from data.packed import Pack, is_pack, pack_folder
from data.remote import scheme

AT_ONCE = 16
TOKEN_COLUMN = "token_count"  # FineWeb's name for the tokens of a document, without a separator


@dataclass(frozen=True)
class Shard:
    """A shard as it lies there. ``pack``: its pack's folder; None while it is not packed."""

    path: str
    identity: FileIdentity
    pack: Path | None

    @property
    def remote(self) -> bool:
        """Whether it lies in a remote store, where what fails once may go well the next time."""
        return scheme(self.path) is not None


def survey(
    paths: Sequence[str], *, encoding: str, column: str, cache: Path, on_error: Callable[[str, ShardError], None]
) -> list[Shard]:
    """The shards of ``paths`` whose footer can be read, in their order; ``on_error`` is told of the others."""

    def look(path: str) -> Shard | ShardError:
        try:
            if is_pack(path):
                return Shard(path, Pack.open(path, verify=False).identity, Path(path))
            identity = identify(path)
            folder = pack_folder(identity, encoding, column, cache)
            return Shard(path, identity, folder if folder.exists() else None)
        except ShardError as error:
            return error

    found = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for path, shard in zip(paths, pool.map(look, paths), strict=True):
            if isinstance(shard, Shard):
                found.append(shard)
            else:
                on_error(path, shard)
    return found


def stated_tokens(paths: Sequence[str]) -> list[int] | None:
    """Tokens of each shard by its column ``token_count``; None where one has no such column, a null, or no numbers.

    Whether the column is right is for the caller to find out.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    def total(path: str) -> int | None:
        try:
            with open_shard(path) as file:
                column = pq.ParquetFile(file).read([TOKEN_COLUMN], use_threads=False).column(TOKEN_COLUMN)
            if column.null_count or not pa.types.is_integer(column.type):
                return None
            return int(pc.sum(column).as_py() or 0)
        except (pa.ArrowException, OSError, KeyError, ValueError):
            return None

    if any(is_pack(path) for path in paths):
        return None
    with ThreadPoolExecutor(AT_ONCE) as pool:
        totals = list(pool.map(total, paths))
    return None if None in totals else [value for value in totals if value is not None]
