"""The end of a log file, escaped and wrapped, following its growth unless the reader has scrolled up."""

from __future__ import annotations

from textual.binding import Binding
from textual.widgets import Log

from workbench.text import plain
from workbench.widgets.document_view import wrap


class LogView(Log):
    """``show`` takes the newest lines; what is the same as before is not written again."""

    BINDINGS = [
        Binding("j,down", "scroll_down", "Down", show=False),
        Binding("k,up", "scroll_up", "Up", show=False),
        Binding("g", "scroll_home", "Top", show=False),
        Binding("G", "scroll_end", "End", show=False),
    ]

    def __init__(self, *, empty: str = "", id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes, max_lines=5000)
        self.empty = empty
        self._shown: list[str] = []
        self._width_wrapped = 0

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
            self.clear()
        self._shown = safe
        self._write(fresh)

    def on_resize(self) -> None:
        """Wrap anew."""
        width = self.scrollable_content_region.width
        if self._shown and width != self._width_wrapped:
            self.clear()
            self._write(self._shown)

    def _write(self, lines: list[str]) -> None:
        self._width_wrapped = max(10, self.scrollable_content_region.width)
        self.write_lines([part for line in lines for part in wrap(line, self._width_wrapped)])


def _overlap(old: list[str], new: list[str]) -> int:
    """How many of the first ``new`` lines are the last of ``old``: logs grow at their end and lose their beginning."""
    for length in range(min(len(old), len(new)), 0, -1):
        if old[-length:] == new[:length]:
            return length
    return 0
