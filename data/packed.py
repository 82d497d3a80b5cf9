"""Packs of shards, each packed once: found in a cache by the bytes they were made of, or made there.

A pack is complete or absent: it is written beside and renamed. Needs numpy, pyarrow and tiktoken only.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from data import workers as processes
from data.files import FileIdentity, ShardError, absolute, expand, identify, may_hold_giants, read_footer
from data.pack import FORMAT, SUFFIX, Pack, find_packs, is_pack
from data.workers import Cancelled

__all__ = [
    "Cancelled", "Pack", "default_cache", "find_packs", "inputs", "is_pack", "pack_folder", "pack_shard", "pack_shards",
]  # fmt: skip


def default_cache() -> Path:
    """``$GPTBENCH_CACHE``, else gptbench's folder among the user's caches."""
    if given := os.environ.get("GPTBENCH_CACHE"):
        return Path(given).expanduser().absolute()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "gptbench" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "gptbench"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gptbench"


def inputs(paths: Sequence[str | Path]) -> list[str]:
    """What a run is given (files, folders, globs, pack folders or folders of packs) → parquet files and pack folders,
    each once, sorted. Raises ShardError as ``files.expand`` does."""
    found: set[str] = set()
    for path in paths:
        packs = find_packs(path)
        found.update(map(str, packs) if packs else expand([path]))
    return sorted(found)


def pack_shard(
    path: str | Path,
    *,
    encoding: str = "gpt2",
    column: str = "text",
    cache: str | Path,
    on_progress: Callable[[int, int], None] | None = None,
) -> Pack:
    """Tokens of one shard: from ``cache`` if they were packed from these very bytes, else packed now.

    Args:
        on_progress: called with rows done and the shard's rows; what it raises ends the packing, and nothing is left.

    Raises ShardError for a file that cannot be read to its end, a missing column, a column that is no text, a file
    that changes meanwhile, or a cache that cannot be written. A damaged pack is packed again.
    """
    from data import packing  # pyarrow and tiktoken are needed for packing only, not for reading packs

    identity = identify(path)
    folder = pack_folder(identity, encoding, column, cache)
    pack = _matching(folder, identity)
    if pack is None:
        packing.pack(identity, folder, encoding=encoding, column=column, on_progress=on_progress)
        pack = Pack.open(folder)
    return pack


def pack_shards(
    paths: Sequence[str | Path],
    *,
    encoding: str = "gpt2",
    column: str = "text",
    cache: str | Path,
    workers: int | None = None,
    apart: bool = False,
    on_progress: Callable[[str, int, int], None] | None = None,
    on_error: Callable[[str, ShardError], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Iterator[Pack]:
    """Packs of many shards, in the order of ``paths``; what is not packed yet is packed in worker processes.

    Args:
        paths: parquet files; a pack folder stands for itself.
        workers: processes; by default one per core. With 1, or one shard to pack, this process does the work.
        apart: leave it to worker processes in any case, and by default one core to this process, which has other work.
        on_progress: called in this thread with path, rows done and the shard's rows.
        on_error: told of a shard that cannot be packed, which is then left out; without it the ShardError is raised.
        cancelled: asked several times a second; yes ends the packing with Cancelled.

    An encoding that cannot be loaded raises EncodingError (a ShardError) in any case.
    """
    shards = [os.fspath(path) for path in paths]
    outcome: dict[int, ShardError] = {}
    missing: list[int] = []
    alone: set[int] = set()
    for index, shard in enumerate(shards):
        try:
            if is_pack(shard):
                continue
            identity, footer = read_footer(shard)
            if not pack_folder(identity, encoding, column, cache).exists():
                if may_hold_giants(footer, column):
                    alone.add(len(missing))
                missing.append(index)
        except ShardError as error:
            outcome[index] = error
    if missing:
        from data.encoding import load

        load(encoding)  # an encoding that is not there is told once, not once a shard
    pending = set(missing)
    count = min(workers or max(1, processes.cores() - apart), len(missing))
    spread = count > 1 or (apart and count > 0)

    def report(job: int, values: list[int]) -> None:
        if on_progress is not None:
            on_progress(shards[missing[job]], values[0], values[1])

    def here(index: int) -> Pack | ShardError:
        def step(done: int, total: int) -> None:
            if cancelled is not None and cancelled():
                raise Cancelled
            if on_progress is not None:
                on_progress(shards[index], done, total)

        try:
            if is_pack(shards[index]):
                return Pack.open(shards[index])
            return pack_shard(shards[index], encoding=encoding, column=column, cache=cache, on_progress=step)
        except ShardError as error:
            return error

    jobs = [{"path": absolute(shards[i]), "encoding": encoding, "column": column, "cache": str(cache)} for i in missing]
    finished = (
        processes.run("data.packed:_job", jobs, workers=count, alone=alone, on_progress=report, cancelled=cancelled)
        if spread
        else iter(())
    )
    try:
        for index, shard in enumerate(shards):
            while spread and index in pending:
                job, value = next(finished)
                pending.discard(missing[job])
                if isinstance(value, ShardError):
                    outcome[missing[job]] = value
            got = outcome.get(index) or here(index)
            if isinstance(got, Pack):
                yield got
            elif on_error is None:
                raise got
            else:
                on_error(shard, got)
    finally:
        if hasattr(finished, "close"):
            finished.close()


def pack_folder(identity: FileIdentity, encoding: str, column: str, cache: str | Path) -> Path:
    """Where the pack of these bytes lies in ``cache``: a readable name, and a hash of all that decides its content."""
    key = json.dumps([FORMAT, identity.to_dict(), encoding, column], sort_keys=True)
    digest = hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
    stem = Path(identity.path).stem.encode("utf-8", "replace")[:80].decode("utf-8", "ignore")
    return Path(cache).expanduser().absolute() / f"{stem}.{encoding}-{digest}{SUFFIX}"


def _job(path: str, encoding: str, column: str, cache: str, on_progress: Callable[[int, int], None]) -> str:
    """``pack_shard`` for a worker process."""
    return str(pack_shard(path, encoding=encoding, column=column, cache=cache, on_progress=on_progress).folder)


def _matching(folder: Path, identity: FileIdentity) -> Pack | None:
    if not folder.exists():
        return None
    try:
        pack = Pack.open(folder)
    except ShardError:
        return None
    return pack if pack.identity == identity else None
