"""A line to type a path into, completed from the folder as one types (right arrow takes the suggestion)."""

from __future__ import annotations

import os
from pathlib import Path

from textual.suggester import Suggester

from workbench.text import plain
from workbench.widgets.line import Line

_LOOKED_AT = 2000  # entries of a folder


class PathSuggester(Suggester):
    """Completes folders and parquet files."""

    def __init__(self) -> None:
        super().__init__(use_cache=False, case_sensitive=True)

    async def get_suggestion(self, value: str) -> str | None:
        """The first entry, by name, that the typed text begins."""
        folder, _, begun = value.rpartition("/")
        where = Path(folder + "/" if value.startswith("/") and not folder else folder or ".").expanduser()
        names = []
        try:
            with os.scandir(where) as entries:
                for _, entry in zip(range(_LOOKED_AT), entries, strict=False):
                    # A name that could steer the terminal is not offered.
                    if entry.name.startswith(begun) and entry.name == plain(entry.name):
                        if entry.is_dir() and (begun or not entry.name.startswith(".")):
                            names.append(entry.name + "/")
                        elif entry.name.endswith(".parquet"):
                            names.append(entry.name)
        except (OSError, ValueError):
            return None
        return value[: len(value) - len(begun)] + min(names) if begun and names else None


class PathInput(Line):
    """An input for a parquet file, a folder or a glob."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(
            placeholder="a parquet file, a folder or a glob; enter opens it, esc leaves",
            suggester=PathSuggester(),
            id=id,
            compact=True,
        )
