"""Memory that is no longer needed goes back to the system: the workbench stays open for days."""

from __future__ import annotations

import contextlib
import ctypes

LARGE = 1 << 18  # bytes
_MMAP_THRESHOLD = -3  # of glibc's mallopt(3)


def keep_little() -> None:
    """Have the C library return every large array as it is freed. Elsewhere than on glibc nothing.

    By itself it takes the largest array that was ever freed, 32 MiB at most, for the size up to which it keeps what is
    freed, in pieces: 30 MiB for each picture of a run of a million steps.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").mallopt(_MMAP_THRESHOLD, LARGE)


def give_back() -> None:
    """Have it return what smaller pieces left behind, in some milliseconds: after a long reading."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
