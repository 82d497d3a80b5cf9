"""Files that are read whole, of bounded size: what run directories hold, and what people write by hand.

Anything may lie in their place: a file of a terabyte, a device that never ends, a pipe that nobody writes into,
brackets nested a million deep. Each is an OSError or a ValueError here, as a missing or a torn file is, and takes no
more memory than ``MOST`` allows.
"""

from __future__ import annotations

import errno
import io
import json
import os
import tomllib
from pathlib import Path
from typing import Any, BinaryIO

MOST = 32 << 20  # bytes; a data.json of 50,000 shards is half of it


def opened(path: str | Path) -> BinaryIO:
    """A file to be read; a pipe that nobody writes into is at its end at once. Raises OSError."""
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115
    os.set_blocking(file.fileno(), True)  # what is written into a pipe is waited for
    return file


def read_bytes(path: str | Path) -> bytes:
    """What a file holds. Raises OSError, also for more than ``MOST`` bytes."""
    with opened(path) as file:
        content = file.read(MOST + 1)
    if len(content) > MOST:
        raise OSError(errno.EFBIG, f"{os.strerror(errno.EFBIG)} (more than {MOST >> 20} MiB)", str(path))
    return content


def read_text(path: str | Path) -> str:
    """The text of a file, UTF-8. Raises OSError as ``read_bytes`` does, and UnicodeDecodeError."""
    return read_bytes(path).decode("utf-8")


def read_json(path: str | Path) -> Any:
    """What a JSON file says. Raises OSError as ``read_text`` does, and ValueError where it is no JSON."""
    try:
        return json.loads(read_text(path))
    except RecursionError:
        raise ValueError("nested beyond sense") from None


def read_toml(path: str | Path) -> dict[str, Any]:
    """What a TOML file says. Raises OSError as ``read_text`` does, and ValueError where it is no TOML."""
    return parse_toml(read_text(path))


def read_array(path: str | Path) -> Any:
    """What an ``.npy`` file holds, no objects. Raises OSError as ``read_bytes`` does, and ValueError: also for a shape
    that the file is too short for, which NumPy would take memory for."""
    import numpy as np  # not for those who only list runs

    try:
        return np.lib.format.read_array(io.BytesIO(read_bytes(path)), allow_pickle=False)
    except (OverflowError, MemoryError, EOFError) as error:
        raise ValueError(f"no array ({error})") from None


def parse_toml(text: str) -> dict[str, Any]:
    """What a TOML text says. Raises ValueError where it is none: also for a number of thousands of digits."""
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("nested beyond sense") from None
