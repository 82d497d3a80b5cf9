"""Which parquet files are meant, and which bytes they were: paths in, identities out. Torch- and DuckDB-free."""

# Paths stay the text that the user gave, since Path would normalise it.
# ruff: noqa: PTH100, PTH111, PTH112, PTH116, PTH118, PTH123, PTH207

from __future__ import annotations

import glob
import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from data import remote
from data.errors import ShardError
from data.footer import Footer, FooterError
from data.remote import PARQUET

if TYPE_CHECKING:
    import pyarrow

_MAGIC = b"PAR1"
_GIANT, _LONG = 1 << 26, 1 << 16  # bytes of a document, and of a mean one beside which a giant is expected


@dataclass(frozen=True)
class FileIdentity:
    """What a parquet file was when it was read. Two reads with equal identities saw the same bytes.

    ``mtime_ns`` and ``size`` (bytes) come from the file system; ``footer`` is a hash of the parquet footer, which
    holds the place, size and statistics of every column chunk; ``rows`` is the row count it states.
    """

    path: str
    size: int
    mtime_ns: int
    footer: str
    rows: int

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)

    def same_bytes(self, other: FileIdentity) -> bool:
        """Whether both hold the same, wherever they lie and whenever they were written."""
        return (self.size, self.footer, self.rows) == (other.size, other.footer, other.rows)


def expand(paths: Sequence[str | Path]) -> list[str]:
    """Files, folders (searched through for ``*.parquet``) and globs → sorted absolute paths, each file once.
    Remote ones (``s3://``, ``hf://``) stay as they are.

    A path that exists is taken as it stands, even if it holds glob characters. Hidden files and folders are left
    out of a folder's search: downloads in progress lie there. Raises ShardError for a path that does not exist and
    for a folder or glob without a parquet file.
    """
    files, problems = expand_each(paths)
    if problems:
        raise next(iter(problems.values()))
    return files


def expand_each(paths: Sequence[str | Path]) -> tuple[list[str], dict[str, ShardError]]:
    """As ``expand``, but a path that fails does not hide the others: (files, error by path given)."""
    found: dict[str, str] = {}
    problems: dict[str, ShardError] = {}
    for given in [os.fspath(path) for path in paths]:
        try:
            for path in _expand_one(given):
                found.setdefault(path if remote.scheme(path) else os.path.realpath(path), path)
        except ShardError as error:
            problems[given] = error
    return sorted(found.values()), problems


def absolute(path: str | Path) -> str:
    """A local path made absolute; a remote one as it is."""
    text = os.fspath(path)
    return text if remote.scheme(text) else os.path.abspath(text)


def open_shard(path: str) -> BinaryIO:
    """A local or remote file for reading. Raises OSError; ShardError for a remote one."""
    return remote.open_file(path) if remote.scheme(path) else open(path, "rb")


def _expand_one(given: str) -> list[str]:
    if remote.scheme(given):
        return remote.expand(given)
    path = os.path.abspath(os.path.expanduser(given))
    if os.path.isdir(path):
        files = list(_walk(path))
        if not files:
            raise ShardError(f"{given}: no *.parquet file in this folder; name a folder or file that holds shards")
        return files
    if os.path.lexists(path):
        return [path]
    if glob.has_magic(given):
        files = []
        for match in glob.glob(path, recursive=True):
            files += _walk(match) if os.path.isdir(match) else [match]
        if not files:
            raise ShardError(f"{given}: no file matches this pattern; check it, and quote it from the shell")
        return files
    raise ShardError(f"{given}: no such file or folder; check the path")


def _walk(folder: str) -> Iterator[str]:
    for where, folders, files in os.walk(folder):
        folders[:] = [f for f in folders if not f.startswith(".")]
        for name in files:
            if name.lower().endswith(PARQUET) and not name.startswith("."):
                yield os.path.join(where, name)


def identify(path: str | Path) -> FileIdentity:
    """Read a file's identity from its footer. Raises ShardError if it is no whole, readable parquet file."""
    return read_footer(path)[0]


def read_footer(path: str | Path) -> tuple[FileIdentity, Footer]:
    """A file's identity and its footer. Raises ShardError as ``identify`` does."""
    import pyarrow.parquet  # here, so that importing this module stays light

    path = absolute(path)
    if remote.scheme(path):
        return _read_remote_footer(path)
    try:
        # Not blocking on a pipe or device that merely carries the name.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ShardError(f"{path}: not a regular file; name a parquet file")
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            footer = footer_bytes(file, path, status.st_size)
            try:
                metadata = pyarrow.parquet.ParquetFile(file).metadata
            except Exception as error:
                raise unreadable(path, error) from None
    except OSError as error:
        raise unreadable(path, error) from None
    digest = hashlib.blake2b(footer, digest_size=16).hexdigest()
    return FileIdentity(path, status.st_size, status.st_mtime_ns, digest, metadata.num_rows), Footer(metadata, footer)


def may_hold_giants(footer: Footer, column: str) -> bool:
    """Whether a footer allows for documents so large (64 MiB) that not two of them should be read at once.

    A footer does not state the longest value: told by row groups of that much text in long documents.
    """
    try:
        return any(
            chunk.path == column and chunk.uncompressed >= max(_GIANT, group.rows * _LONG)
            for group in footer.row_groups()
            if group.bytes >= _GIANT
            for chunk in group.chunks
        )
    except FooterError:
        return False  # its job says what is wrong


def giants(path: str, column: str) -> bool:
    """As ``may_hold_giants``, of a file; no for one that cannot be read, since its job says why."""
    try:
        return may_hold_giants(read_footer(path)[1], column)
    except ShardError:
        return False


def _read_remote_footer(path: str) -> tuple[FileIdentity, Footer]:
    """As ``read_footer``; the footer's hash takes in the store's name for the content, and there is no mtime."""
    import pyarrow.parquet

    size, content = remote.state(path)
    try:
        with remote.open_file(path) as file:
            footer = footer_bytes(file, path, size)
            metadata = pyarrow.parquet.ParquetFile(file).metadata
    except ShardError:
        raise
    except Exception as error:
        raise unreadable(path, error) from None
    digest = hashlib.blake2b(footer + content.encode(), digest_size=16).hexdigest()
    return FileIdentity(path, size, 0, digest, metadata.num_rows), Footer(metadata, footer)


def check_text_column(path: str, schema: pyarrow.Schema, column: str) -> None:
    """Raise ShardError unless ``column`` is there, once, and holds text."""
    import pyarrow.types as types

    if schema.names.count(column) != 1:
        raise ShardError(f"{path}: no column {column!r}; it has {', '.join(schema.names)}")
    kind = schema.field(column).type
    if types.is_dictionary(kind):
        kind = kind.value_type
    if not (types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)):
        raise ShardError(f"{path}: column {column!r} holds {kind}, not text; name the text column")


def unchanged(identity: FileIdentity) -> None:
    """Raise ShardError if the file is no longer the one that ``identity`` describes."""
    if identify(identity.path) != identity:
        raise ShardError(f"{identity.path}: the file changed while it was being read; run it again")


def untouched(identity: FileIdentity) -> None:
    """As ``unchanged``, but by size and time alone (microseconds), and without a question to a remote store."""
    if remote.scheme(identity.path):
        return
    try:
        status = os.stat(identity.path)
    except OSError as error:
        raise unreadable(identity.path, error) from None
    if (status.st_size, status.st_mtime_ns) != (identity.size, identity.mtime_ns):
        raise ShardError(f"{identity.path}: the file changed since it was opened; open it again")


def unreadable(path: str, error: BaseException) -> ShardError:
    """The one line for a file that the system or the parquet reader refuses."""
    if isinstance(error, FileNotFoundError):
        return ShardError(f"{path}: no such file; check the path")
    if isinstance(error, OSError) and error.errno:
        return ShardError(f"{path}: cannot be read: {error.strerror or error}; check its permissions and the disk")
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return ShardError(f"{path}: cannot be read as parquet: {reason}; copy or download it again")


def footer_bytes(file: BinaryIO, path: str, size: int) -> bytes:
    """The footer of an open file of so many bytes, which then stands at its beginning. Raises OSError, ShardError."""
    file.seek(0)
    if size == 0:
        raise ShardError(f"{path}: empty file (0 bytes); copy or download it again")
    head = file.read(4)
    file.seek(max(0, size - 8))
    tail = file.read(8)
    if tail[-4:] == b"PARE":
        raise ShardError(f"{path}: an encrypted parquet file; decrypt it first")
    length = int.from_bytes(tail[:4], "little")
    if head != _MAGIC:
        raise ShardError(f"{path}: not a parquet file (it does not begin with PAR1); name parquet files")
    if tail[-4:] != _MAGIC or length + 12 > size:
        raise ShardError(f"{path}: truncated parquet file (no footer at its end); copy or download it again")
    file.seek(size - 8 - length)
    footer = file.read(length)
    file.seek(0)
    return footer
