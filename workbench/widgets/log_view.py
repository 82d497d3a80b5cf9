"""The end of a log file, escaped and wrapped, following its growth unless the reader has scrolled up; searchable."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass

from rich.highlighter import Highlighter
from rich.style import Style
from rich.text import Text
from textual.message import Message
from textual.strip import Strip
from textual.widgets import Log

from workbench.text import plain
from workbench.widgets.document_view import wrap
from workbench.widgets.scrolling import SCROLL_KEYS

_ROWS = 5000


class _Marks(Highlighter):
    """Shows where a text occurs, capitals or not."""

    def __init__(self) -> None:
        self.wanted = ""

    def highlight(self, text: Text) -> None:
        if self.wanted:
            text.highlight_regex(f"(?i){re.escape(self.wanted)}", Style(reverse=True))


class LogView(Log):
    """``show`` takes the newest lines; what is the same as before is not written again."""

    BINDINGS = SCROLL_KEYS

    @dataclass
    class Found(Message):
        """The search stands on match ``at`` (from 1) of ``of``; of 0: there is none."""

        at: int
        of: int

    def __init__(self, *, empty: str = "", id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes, max_lines=_ROWS)
        self.empty = empty
        self._shown: list[str] = []
        self._width_wrapped = 0
        self._goes_on: deque[bool] = deque(maxlen=_ROWS)  # whether a row's line goes on in the next row
        self._marks = _Marks()
        self.highlighter = self._marks
        self._row: int | None = None  # of the match that the search stands on

    def on_mount(self) -> None:
        """Say what is missing."""
        if self.empty and not self._shown:
            self.write_line(self.empty)

    def show(self, lines: list[str]) -> None:
        """Show these lines, untrusted as they are."""
        safe = [plain(line) for line in lines]
        if safe == self._shown:
            return
        fresh = safe[_overlap(self._shown, safe) :] if self._shown else safe
        if not self._shown or len(fresh) == len(safe):
            self._empty()
        self._shown = safe
        self._write(fresh)

    def on_resize(self) -> None:
        """Wrap anew."""
        width = self.scrollable_content_region.width
        if self._shown and width != self._width_wrapped:
            rows = self._matches()
            at = rows.index(self._row) if self._row in rows else None
            self._empty()
            self._write(self._shown)
            if at is not None and at < len(rows := self._matches()):
                self._stand_on(rows[at])

    @property
    def wanted(self) -> str:
        """What is searched for, "" if nothing is."""
        return self._marks.wanted

    def search(self, text: str) -> bool:
        """Search for a text and go to its first match from the top of what is seen on; "" ends the search.

        Returns whether there is a match."""
        self._marks.wanted, self._row = text.strip(), None
        self.highlight = bool(self.wanted)
        return self.go(1)

    def go(self, direction: int) -> bool:
        """Go to the next match (1) or the previous one (-1), around the ends; False if there is none."""
        rows = self._matches()
        if not rows:
            self._row = None
            self.post_message(self.Found(0, 0))
            self.refresh()
            return False
        if self._row is None:
            at = next((i for i, row in enumerate(rows) if row >= self.scroll_offset.y), 0)
        elif direction > 0:
            at = next((i for i, row in enumerate(rows) if row > self._row), 0)
        else:
            at = next((i for i, row in reversed(list(enumerate(rows))) if row < self._row), len(rows) - 1)
        self._stand_on(rows[at])
        self.post_message(self.Found(at + 1, len(rows)))
        return True

    def _stand_on(self, row: int) -> None:
        self._row = row
        self.scroll_to(y=max(0, row - self.scrollable_content_region.height // 2), animate=False, immediate=True)
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """The row that the search stands on is bold and underlined."""
        strip = super().render_line(y)
        on_it = self._row is not None and self.scroll_offset.y + y == self._row
        return strip.apply_style(Style(bold=True, underline=True)) if on_it else strip

    def _matches(self) -> list[int]:
        """Of each line that holds what is searched, the row in which its first match begins."""
        wanted, found, line, begins = self.wanted.casefold(), list[int](), "", list[int]()
        for i, (row, goes_on) in enumerate(zip(self.lines, self._goes_on, strict=False) if wanted else ()):
            begins.append(len(line))
            line += row.casefold()
            if not goes_on:
                if (at := line.find(wanted)) >= 0:
                    first = i + 1 - len(begins)
                    found.append(first + sum(begin <= at for begin in begins) - 1)
                line, begins = "", []
        return found

    def _empty(self) -> None:
        self.clear()
        self._goes_on.clear()
        self._row = None

    def _write(self, lines: list[str]) -> None:
        self._width_wrapped = max(10, self.scrollable_content_region.width)
        rows: list[str] = []
        for line in lines:
            # As Log.write_lines takes them: an empty row is none.
            parts = [row for part in wrap(line, self._width_wrapped) for row in part.splitlines()]
            rows += parts
            self._goes_on.extend(i + 1 < len(parts) for i in range(len(parts)))
        dropped = max(0, len(self.lines) + len(rows) - _ROWS)
        if self._row is not None and dropped:
            self._row = self._row - dropped if self._row >= dropped else None
        self.write_lines(rows)


def _overlap(old: list[str], new: list[str]) -> int:
    """How many of the first ``new`` lines are the last of ``old``: logs grow at their end and lose their beginning."""
    for length in range(min(len(old), len(new)), 0, -1):
        if old[-length:] == new[:length]:
            return length
    return 0
