"""A line to type into. What is pasted, or filled in from a file, is data: it is shown escaped, and kept as it is."""

from __future__ import annotations

from typing import Any

from rich.highlighter import Highlighter
from rich.text import Text
from textual.widgets import Input

from workbench.text import plain


class _Escaped(Highlighter):
    """Characters that could steer the terminal as symbols, one for one."""

    def highlight(self, text: Text) -> None:
        text.plain = plain(text.plain)


class Line(Input):
    """Textual's input, which writes its value to the terminal as it is, but for that."""

    def __init__(self, value: str | None = None, **options: Any) -> None:
        super().__init__(value, highlighter=_Escaped(), **options)
