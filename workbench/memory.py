"""Memory that is no longer needed goes back to the system, or serves again: the workbench stays open for days.

glibc alone: elsewhere nothing is done. By itself glibc gives each thread pieces of its own, and takes the largest array
that was ever freed (32 MiB at most) for the size up to which it keeps what is freed: following a run of a million steps
then takes 70 MiB more, and ever more of it lies in pieces.
"""

from __future__ import annotations

import contextlib
import ctypes

_ARENAS = 2  # the event loop's, and all other threads'
_LARGE = 3 << 20  # bytes from which on an array is returned as it is freed: tables, blocks of events, no picture's
_KEPT = 64 << 20  # bytes that may lie free at an arena's end: pictures in new pages take three times the time
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # of mallopt(3)


def keep_little() -> None:
    """Set how much freed memory is kept; before threads begin."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        for option, value in ((_ARENA_MAX, _ARENAS), (_MMAP_THRESHOLD, _LARGE), (_TRIM_THRESHOLD, _KEPT)):
            libc.mallopt(option, value)


def give_back() -> None:
    """Return what lies free, in some milliseconds: after a long reading."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
