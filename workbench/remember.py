"""What the workbench remembers from one time to the next: theme, how charts are looked at, panes, the last selection.

One JSON file in the user's state folder (platformdirs; ``$GPTBENCH_STATE`` names another). It is written whole or not
at all. A file that is missing, broken or of another shape is no error: nothing is remembered then.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.atomic import write_atomically

FILE_NAME = "workbench.json"
COPIED_NAME = "copied.txt"
_LARGEST = 1 << 20  # bytes of a file that is looked at


def folder() -> Path:
    """The state folder; it need not exist yet."""
    if given := os.environ.get("GPTBENCH_STATE"):
        return Path(given).expanduser()
    import platformdirs

    return Path(platformdirs.user_state_path("gptbench", appauthor=False))


def load() -> dict[str, Any]:
    """What is remembered, by name; {} where nothing is."""
    try:
        with (folder() / FILE_NAME).open("rb") as file:
            value = json.loads(file.read(_LARGEST))
    except (OSError, ValueError, RecursionError, RuntimeError):  # RuntimeError: there is no home directory
        return {}
    return value if isinstance(value, dict) else {}


def save(changes: Mapping[str, Any]) -> None:
    """Take these values into what is remembered; what another workbench has saved meanwhile stays. Raises OSError."""
    _write(FILE_NAME, json.dumps({**load(), **changes}, indent=1, default=str) + "\n")


def keep_copied(text: str) -> Path:
    """Write what was copied into a file, for terminals without a clipboard; returns its path. Raises OSError."""
    return _write(COPIED_NAME, text + "\n")


def _write(name: str, text: str) -> Path:
    path = folder() / name
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomically(path, text)
    return path
