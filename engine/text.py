"""Text on a terminal: what the engine shows may come from documents, names and files. Torch-free."""

from __future__ import annotations

from typing import Any, TextIO


def safe(text: str) -> str:
    """Text in which nothing steers a terminal: control, formatting and bidirectional characters become �."""
    return "".join(c if c.isprintable() or c in "\n\t" else "�" for c in text)


class Safe:
    """A text stream that shows only what is ``safe``; all else is the stream's own."""

    def __init__(self, to: TextIO) -> None:
        self._to = to

    def write(self, text: str) -> int:
        """Write it, made safe."""
        return self._to.write(safe(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._to, name)
