"""Cache entries in the making: named so that nobody takes them for whole, swept once abandoned; a full disk told."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from data.files import ShardError

ABANDONED_SECONDS = 3600


def place(cache: Path, prefix: str) -> Path:
    """A new path in ``cache`` that names this host and process, for a file or folder that is renamed once whole."""
    return cache / f"{prefix}{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


def private(folder: Path) -> None:
    """Make a folder, and those above it that are missing, for their owner alone, whatever the umask says: what is kept
    there holds the texts. One that is there stays as it is. Raises OSError."""
    for missing in reversed([path for path in (folder, *folder.parents) if not path.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)


def sweep(cache: Path, prefix: str) -> None:
    """Remove what killed processes of this host left behind, an hour ago or more (a container hides others' pids)."""
    for path in cache.glob(f"{prefix}{socket.gethostname()}-*"):
        pid = path.name.rsplit("-", 2)[-2]
        with contextlib.suppress(OSError):
            entries = [path, *path.iterdir()] if path.is_dir() else [path]
            newest = max(entry.stat().st_mtime for entry in entries)
            if pid.isdigit() and not _lives(int(pid)) and time.time() - newest > ABANDONED_SECONDS:
                remove(path)


def remove(path: Path) -> None:
    """Remove a file or a folder with all in it, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def writing(folder: Path, what: str, where_else: str) -> Iterator[None]:
    """The system's refusals as one-line ShardErrors: ``what`` is written, and how another folder is chosen."""
    try:
        yield
    except OSError as error:
        raise ShardError(
            f"{folder}: cannot write {what}: {error.strerror or error}; free space, or {where_else}"
        ) from None


def _lives(pid: int) -> bool:
    if os.name == "nt":
        return True  # os.kill would end the process there
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
