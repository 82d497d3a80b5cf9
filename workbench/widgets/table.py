"""A table that fits its width, parses no cell as markup, keeps its cursor while rows change, knows vim's keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.text import Text
from textual.binding import Binding
from textual.events import Resize
from textual.widgets import DataTable

from workbench.text import plain

_PADDING = 2  # cells beside each column
_SCROLLBAR = 1
_NARROWEST = 8


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        key, label: its name and its heading.
        width: cells; 0 shares what the other columns leave.
        right: holds numbers.
        hide_below: left out where the table is narrower than this.
    """

    key: str
    label: str
    width: int = 0
    right: bool = False
    hide_below: int = 0


class Table(DataTable[Text], inherit_bindings=False):
    """Rows by key. Text is made safe here, so callers may pass what files say. Enter is left to the screen."""

    BINDINGS = [
        Binding("down,j", "cursor_down", "Down", show=False),
        Binding("up,k", "cursor_up", "Up", show=False),
        Binding("pagedown,ctrl+d", "page_down", "Page down", show=False),
        Binding("pageup,ctrl+u", "page_up", "Page up", show=False),
        Binding("home,g", "scroll_top", "Top", show=False),
        Binding("end,G", "scroll_bottom", "Bottom", show=False),
    ]

    def __init__(self, columns: Sequence[Column], *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes, cursor_type="row", cursor_foreground_priority="renderable")
        self.all_columns = tuple(columns)
        self._laid_out: tuple[tuple[str, int], ...] = ()
        self._content: dict[str, Sequence[str | Text]] = {}

    def on_resize(self, event: Resize) -> None:
        """Share the width among the columns anew."""
        width = event.size.width
        visible = [column for column in self.all_columns if width >= column.hide_below]
        left = width - _SCROLLBAR - sum(column.width + _PADDING for column in visible)
        flexible = max(1, sum(not column.width for column in visible))
        wanted = tuple((c.key, c.width or max(_NARROWEST, left // flexible)) for c in visible)
        if wanted == self._laid_out:
            return
        self._laid_out = wanted
        current, scroll = self.current_key, self.scroll_y
        self.clear(columns=True)
        for column, (_, cells) in zip(visible, wanted, strict=True):
            self.add_column(
                Text(plain(column.label), justify="right" if column.right else "left"), key=column.key, width=cells
            )
        self._fill(current, scroll)

    def show(self, rows: Mapping[str, Sequence[str | Text]]) -> None:
        """Make the table hold exactly these rows, in this order; cells that did not change are left alone.

        Each row has a cell for every column, also for those that are hidden now.
        """
        old, self._content = self._content, dict(rows)
        if not self._laid_out:
            return
        if list(old) != list(self._content):
            current, scroll = self.current_key, self.scroll_y
            self.clear()
            self._fill(current, scroll)
            return
        for key, row in self._content.items():
            for column, was, value in zip(self.all_columns, old[key], row, strict=True):
                if (was != value or _style(was) != _style(value)) and column.key in dict(self._laid_out):
                    self.update_cell(key, column.key, _cell(column, value))

    @property
    def current_key(self) -> str | None:
        """Key of the row under the cursor, None if there is no row."""
        if not 0 <= self.cursor_row < self.row_count:
            return None
        return str(self.coordinate_to_cell_key(self.cursor_coordinate).row_key.value)

    def go_to(self, key: str) -> None:
        """Move the cursor to a row, if it is there."""
        if key in self._content and self._laid_out:
            self.move_cursor(row=self.get_row_index(key))

    def _fill(self, current: str | None, scroll: float) -> None:
        visible = dict(self._laid_out)
        for key, row in self._content.items():
            cells = [_cell(c, value) for c, value in zip(self.all_columns, row, strict=True) if c.key in visible]
            self.add_row(*cells, key=key)
        if current in self._content:
            self.move_cursor(row=self.get_row_index(current), scroll=False)
            self.scroll_to(y=scroll, animate=False)


def _style(value: str | Text) -> str:
    return str(value.style) if isinstance(value, Text) else ""


def _cell(column: Column, value: str | Text) -> Text:
    text = Text(plain(value.plain), style=value.style) if isinstance(value, Text) else Text(plain(value))
    text.no_wrap, text.overflow = True, "ellipsis"
    text.justify = "right" if column.right else "left"
    return text
