"""Documents of one shard as a table of any length: it holds a few pages and asks for those it is about to show."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding
from textual.events import Click
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from workbench.text import plain

PAGE = 100  # rows asked for at a time
_PAGES = 16  # kept
_LEAD = 20  # widest the columns before the text may be


@dataclass(frozen=True)
class Row:
    """A line of the table: figures before the text, and the beginning of the text (None: null). ``number``: the row's
    own, where that is not its place in the table."""

    lead: str
    text: str | None
    number: int | None = None


class DocumentTable(ScrollView, can_focus=True):
    """``open`` names a shard and its rows; answer ``PageWanted`` with ``add_page``. ``Moved`` tells the row chosen."""

    DEFAULT_CSS = """
    DocumentTable { overflow-x: hidden; overflow-y: auto; scrollbar-gutter: stable; }
    DocumentTable > .document-table--cursor { background: $block-cursor-blurred-background; }
    DocumentTable:focus > .document-table--cursor {
        background: $block-cursor-background; color: $block-cursor-foreground;
    }
    DocumentTable > .document-table--lead { color: $text-accent; }
    """
    COMPONENT_CLASSES = {"document-table--cursor", "document-table--lead"}
    BINDINGS = [
        Binding("down,j", "move(1)", show=False),
        Binding("up,k", "move(-1)", show=False),
        Binding("pagedown,ctrl+d", "page(1)", show=False),
        Binding("pageup,ctrl+u", "page(-1)", show=False),
        Binding("home,g", "jump(0)", show=False),
        Binding("end,G", "jump(-1)", show=False),
    ]
    cursor: reactive[int] = reactive(0)

    @dataclass
    class PageWanted(Message):
        """Rows ``first`` to ``first + PAGE`` of ``shard`` are about to be shown."""

        shard: str
        first: int

    @dataclass
    class Moved(Message):
        """The cursor stands on another row."""

        shard: str
        row: int

        def can_replace(self, message: Message) -> bool:
            return isinstance(message, DocumentTable.Moved)

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.shard, self.rows, self.widest = "", 0, 0
        self._pages: OrderedDict[int, list[Row]] = OrderedDict()
        self._wanted: set[int] = set()

    def open(self, shard: str, rows: int, widest: int | None = None) -> None:
        """Show another shard, from its first row. ``widest``: above all row numbers, where that is not ``rows``."""
        self.shard, self.rows, self.widest = shard, rows, rows if widest is None else widest
        self._pages.clear()
        self._wanted.clear()
        self.virtual_size = Size(0, rows)
        self.scroll_to(y=0, animate=False)
        self.set_reactive(DocumentTable.cursor, 0)
        self.refresh()
        if rows:
            self._want(0)
            self.post_message(self.Moved(shard, 0))

    def grow(self, rows: int) -> None:
        """There are so many rows, as is known by now; places keep what they hold."""
        if rows != self.rows:
            self.rows = rows
            self.virtual_size = Size(0, rows)
            for page in [page for page, held in self._pages.items() if len(held) < min(PAGE, rows - page * PAGE)]:
                del self._pages[page]
            self.refresh()

    def add_page(self, shard: str, first: int, rows: list[Row]) -> None:
        """Take the rows asked for; those of a shard left meanwhile are dropped."""
        if shard != self.shard:
            return
        self._wanted.discard(first // PAGE)
        self._pages[first // PAGE] = rows
        while len(self._pages) > _PAGES:
            self._pages.popitem(last=False)
        self.refresh()

    def render_line(self, y: int) -> Strip:
        width = self.scrollable_content_region.width
        row = int(self.scroll_offset.y) + y
        style = self.rich_style
        if row >= self.rows:
            return Strip.blank(width, style)
        if row == self.cursor:
            style += self.get_component_rich_style("document-table--cursor")
        found = self._row(row)
        shown = row if found is None or found.number is None else found.number
        number = Segment(f" {shown:>{len(str(max(0, self.widest - 1)))}} ", style + Style(dim=True))
        if found is None:
            return Strip([number, Segment("…", style)]).adjust_cell_length(width, style)
        lead_style = (
            style if row == self.cursor else style + self.get_component_rich_style("document-table--lead", partial=True)
        )
        text = (
            Segment("null", style + Style(italic=True, dim=True)) if found.text is None else Segment(found.text, style)
        )
        return Strip([number, Segment(f"{found.lead[:_LEAD]} ", lead_style), text]).adjust_cell_length(width, style)

    def watch_cursor(self, old: int, new: int) -> None:
        """Repaint the two rows, keep the cursor in sight, tell."""
        for row in (old, new):
            self.refresh(Region(0, row - int(self.scroll_offset.y), self.size.width, 1))
        self.scroll_to_region(Region(0, new, 1, 1), animate=False, force=True)
        self.post_message(self.Moved(self.shard, new))

    def validate_cursor(self, row: int) -> int:
        """Within the table."""
        return max(0, min(row, self.rows - 1))

    def action_move(self, by: int) -> None:
        """Down or up."""
        self.cursor += by

    def action_page(self, by: int) -> None:
        """A page down or up."""
        self.cursor += by * max(1, self.size.height - 1)

    def action_jump(self, row: int) -> None:
        """To the first row, or the last (-1)."""
        self.cursor = row if row >= 0 else self.rows - 1

    def on_click(self, event: Click) -> None:
        """Choose the row clicked."""
        row = event.y + int(self.scroll_offset.y)
        if row < self.rows:
            self.cursor = row

    def _row(self, row: int) -> Row | None:
        page = row // PAGE
        rows = self._pages.get(page)
        if rows is None:
            self._want(page)
            return None
        self._pages.move_to_end(page)
        inside = row % PAGE
        return rows[inside] if inside < len(rows) else Row("", "")

    def _want(self, page: int) -> None:
        if page not in self._wanted:
            self._wanted.add(page)
            self.post_message(self.PageWanted(self.shard, page * PAGE))


def row_of(values: Mapping[str, Any], text_column: str | None, token_column: str | None) -> Row:
    """A catalogue's row as the table shows it: its token count where the shard has one, and its text on one line."""
    tokens = values.get(token_column) if token_column else None
    text = values.get(text_column) if text_column else None
    if text_column is None:
        text = "  ".join(f"{name}={value}" for name, value in values.items())
    return Row("" if tokens is None else f"{tokens:>7,}", None if text is None else plain(" ".join(str(text).split())))
