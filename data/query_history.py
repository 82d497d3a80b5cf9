"""Statements asked before, kept between sessions: one JSON text a line, appended."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path

KEPT = 500
_LONGEST = 20_000


def default_path() -> Path:
    """``sql-history.jsonl`` in gptbench's folder of the user's state."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return base / "gptbench" / "sql-history.jsonl"


class QueryHistory:
    """The last statements, oldest first, each once. A history that cannot be read or written is only forgotten."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or default_path()

    def entries(self) -> list[str]:
        """At most ``KEPT`` statements; torn or foreign lines are skipped."""
        try:
            lines = self.path.read_text("utf-8", "replace").splitlines()
        except OSError:
            return []
        found: dict[str, None] = {}
        for line in lines:
            with contextlib.suppress(ValueError):
                statement = json.loads(line)
                if isinstance(statement, str):
                    found.pop(statement, None)
                    found[statement] = None
        return list(found)[-KEPT:]

    def add(self, statement: str) -> None:
        """Append a statement; now and then the file is cut to what is kept."""
        statement = statement.strip()[:_LONGEST]
        if not statement:
            return
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(descriptor, "ab") as file:
                file.write(json.dumps(statement).encode() + b"\n")
                long = file.tell() > 2 * KEPT * 1000
            if long:
                kept = "".join(json.dumps(each) + "\n" for each in self.entries())
                temporary = self.path.with_name(f".{self.path.name}-{os.getpid()}")
                temporary.write_text(kept)
                temporary.replace(self.path)
