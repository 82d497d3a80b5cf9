"""A pane of text that scrolls, by arrows and vim's keys, and is wrapped anew when its width changes."""

from __future__ import annotations

from collections.abc import Iterable

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from workbench.widgets.scrolling import SCROLL_KEYS
from workbench.widgets.sheet import Sheet


class TextPane(VerticalScroll, can_focus=True):
    """Subclasses say in ``lines`` what it shows, and call ``lay_out`` when that changes."""

    DEFAULT_CSS = """
    TextPane { scrollbar-gutter: stable; }
    TextPane > Static { width: 1fr; height: auto; padding: 0 1; }
    """
    BINDINGS = SCROLL_KEYS

    _height = -1  # lines shown; -1: not laid out yet

    def compose(self) -> ComposeResult:
        """One sheet of text."""
        yield Sheet("")

    def lines(self, width: int) -> Iterable[Content]:
        """The text, wrapped to ``width`` cells."""
        raise NotImplementedError

    def on_resize(self) -> None:
        """Wrap anew."""
        self._height = -1
        self.lay_out()

    def lay_out(self) -> None:
        """Show the text as it is now. Of as many lines as before it is painted alone: to lay out the whole screen anew
        costs as much as all else of a live update."""
        width = max(20, self.scrollable_content_region.width - 2)
        shown = list(self.lines(width))
        before, self._height = self._height, len(shown)
        self.query_one(Static).update(Content("\n").join(shown), layout=len(shown) != before)
