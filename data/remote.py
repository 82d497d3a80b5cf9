"""Shards that lie elsewhere: ``s3://bucket/…`` and ``hf://datasets/owner/name/…``, through fsspec.

Nothing is copied: footers, pages and texts are read where they lie. What a remote file was is told by its size and by
what its store calls it (ETag, or the hub's blob); a modification time is not used. Torch- and DuckDB-free.
"""

from __future__ import annotations

import functools
import glob
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from data.errors import ShardError

if TYPE_CHECKING:
    import duckdb

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
EXTRAS = {"s3": "remote", "hf": "hub"}  # what is installed for a scheme
PARQUET = (".parquet", ".parq")


def scheme(path: str) -> str | None:
    """ "s3" for ``s3://…``; None for a local path."""
    match = _SCHEME.match(path)
    return match[1].lower() if match else None


def filesystem(path: str) -> Any:
    """The fsspec file system of a remote path. Raises ShardError for a scheme that is not known or not installed."""
    return _filesystem(scheme(path) or "", path)


def expand(path: str) -> list[str]:
    """A remote file, folder (searched through for ``*.parquet``) or glob → sorted paths. Raises ShardError."""
    files = filesystem(path)
    with _asking(path):
        if glob.has_magic(path) and not files.exists(path):
            found = [each for each in files.glob(path) if str(each).lower().endswith(PARQUET)]
            what = "no file matches this pattern"
        elif files.isfile(path):
            return [path]
        else:
            found = [each for each in files.find(path) if str(each).lower().endswith(PARQUET)]
            what = "no *.parquet file here"
    if not found:
        raise ShardError(f"{path}: {what}; check the path")
    return sorted(str(files.unstrip_protocol(each)) for each in found)


def state(path: str) -> tuple[int, str]:
    """Size in bytes, and the store's own name for the content, as they are now. Raises ShardError."""
    files = filesystem(path)
    with _asking(path):
        files.invalidate_cache()
        about = files.info(path)
    if about.get("type") != "file":
        raise ShardError(f"{path}: not a file; name a parquet file")
    lfs = about.get("lfs") or {}
    names = [about.get("ETag"), lfs.get("sha256") if isinstance(lfs, dict) else getattr(lfs, "sha256", None)]
    names += [about.get("blob_id"), about.get("LastModified"), about.get("last_modified"), about.get("mtime")]
    return int(about["size"]), next((str(name) for name in names if name), "")


def open_file(path: str) -> BinaryIO:
    """A remote file for reading, seekable. Raises ShardError."""
    with _asking(path):
        return cast("BinaryIO", filesystem(path).open(path, "rb", block_size=4 << 20))


def register(connection: duckdb.DuckDBPyConnection, paths: Iterable[str]) -> None:
    """Let a DuckDB connection read the remote ones of ``paths``. Raises ShardError."""
    for kind in sorted({found for path in paths if (found := scheme(path))}):
        if not connection.filesystem_is_registered(kind):
            connection.register_filesystem(_filesystem(kind, f"{kind}://"))


@functools.cache
def _filesystem(kind: str, path: str) -> Any:
    if kind not in EXTRAS:
        known = ", ".join(f"{name}://" for name in EXTRAS)
        raise ShardError(f"{path}: {kind}:// is not read; use {known}, or download the shards")
    try:
        if kind == "hf":
            return _hub_files()
        import fsspec

        return fsspec.filesystem(kind)
    except ImportError:
        how = f"pip install -c constraints.txt '.[{EXTRAS[kind]}]' in gptbench's checkout"
        raise ShardError(f"{path}: {kind}:// needs the extra {EXTRAS[kind]}: {how}") from None


def _hub_files() -> Any:
    import datetime

    from huggingface_hub import HfFileSystem

    class Files(HfFileSystem):
        """The hub's file system, with the time that DuckDB asks for: the hub tells none, so it is made of the content's
        name, and changes with it."""

        def modified(self, path: str, **_: Any) -> datetime.datetime:
            about = self.info(path)
            name = re.sub(r"[^0-9a-f]", "", str(about.get("blob_id") or ""))[:8] or "0"
            return datetime.datetime.fromtimestamp(int(name, 16) % (1 << 30), datetime.UTC)

    return Files()


class _asking:
    """What a store answers wrong, as one line."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is None or isinstance(error, ShardError) or not isinstance(error, Exception):
            return
        if isinstance(error, FileNotFoundError):
            raise ShardError(f"{self.path}: no such file or folder there; check the path") from None
        if isinstance(error, PermissionError) or "credential" in str(error).lower():
            raise ShardError(
                f"{self.path}: access denied; check the credentials of this {scheme(self.path)} store"
            ) from None
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ShardError(f"{self.path}: cannot be reached: {reason}") from None
