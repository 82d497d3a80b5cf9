"""Documents of one shard, or of several as one table: paged, filtered, sorted, searched; one of them whole."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Container, Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Input, Static

from workbench.screens.keys import DOCUMENTS, bindings
from workbench.screens.pane import Pane
from workbench.text import plain
from workbench.widgets.document_table import PAGE, DocumentTable, Row, row_of
from workbench.widgets.document_view import DocumentView, Piece, pieces_of
from workbench.widgets.line import Line
from workbench.widgets.sheet import Sheet

if TYPE_CHECKING:
    from data.query import Rows

_PROMPTS = {
    "search": "text to look for; n goes on to the next match",
    "filter": "score >= 3 and language = en and text ~ word; empty: every row",
    "sort": "column, or column desc; empty: as in the file",
    "jump": "row number, from 0",
}


@dataclass
class PageRead(Message):
    """Rows of a view, and how many it has as far as is known."""

    view: int
    first: int
    rows: list[Row]
    places: dict[int, tuple[str, int]]
    known: int


@dataclass
class DocumentRead(Message):
    """A document, as text and, where asked for, as tokens."""

    view: int
    place: int
    shard: str
    row: int
    text: str | None
    pieces: list[Piece] | None
    asked: int  # an answer to an earlier question comes too late


@dataclass
class Found(Message):
    """Where a search ended; None: no further match."""

    view: int
    place: int | None
    text: str


class DocumentsPane(Pane):
    """The table and, below or beside it, the document under its cursor."""

    TITLE = "Documents"
    BINDINGS = bindings(DOCUMENTS)

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self.as_tokens = self.as_row = False
        self.filter = self.sort = self.search = ""
        self._asking = ""
        self._view = self._documents_asked = 0
        self._rows: Rows | None = None
        self._lock = threading.Lock()  # of the rows, which one thread at a time may ask
        self._places: dict[int, tuple[str, int]] = {}

    def compose(self) -> ComposeResult:
        """Question line, table, document."""
        yield Line(id="ask", compact=True)
        yield Sheet("", id="narrowed")
        with Container(id="documents-split"):
            yield DocumentTable(id="documents")
            with Vertical(id="document-side"):
                yield Sheet("", id="document-title")
                yield DocumentView(id="document")

    def opened(self) -> None:
        """Every row, from the first."""
        self.filter = self.sort = self.search = ""
        self._show()
        self.query_one(DocumentTable).focus()

    def close(self) -> None:
        """End searches and sorts."""
        if self._rows is not None:
            self._rows.cancel()

    def leave(self) -> bool:
        """First the question, then filter and order, then the pane."""
        if self.query_one("#ask").has_class("-shown"):
            self._hide_ask()
            return False
        if self.filter or self.sort:
            self.filter = self.sort = ""
            self._show()
            return False
        self.close()
        return True

    # Keys

    def action_toggle_tokens(self) -> None:
        """Text or tokens."""
        self.as_tokens, self.as_row = not self.as_tokens, False
        self._wanted_document()

    def action_toggle_row(self) -> None:
        """Text or the whole row."""
        self.as_row, self.as_tokens = not self.as_row, False
        self._wanted_document()

    def action_ask(self, what: str) -> None:
        """Open the line for a search, a filter, an order or a row."""
        self._asking = what
        box = self.query_one("#ask", Input)
        box.value = {"search": self.search, "filter": self.filter, "sort": self.sort}.get(what, "")
        box.placeholder = f"{what}: {_PROMPTS[what]}"
        box.add_class("-shown")
        box.focus()
        box.action_select_all()

    def jump(self, row: int) -> None:
        """Go to a row of the one shard that is open."""
        self._jump(self._view, row)

    def action_next_match(self) -> None:
        """Go on with the search."""
        if self.search:
            self._find(self._view, self.query_one(DocumentTable).cursor, self.search)
        else:
            self.action_ask("search")

    @on(Input.Submitted, "#ask")
    def _answered(self, event: Input.Submitted) -> None:
        value = event.value.strip()
        self._hide_ask()
        if self._asking == "search":
            self.search = value
            if value:
                self.query_one("#narrowed", Static).update(Content(f"looking for {plain(value)} …"))
                self._find(self._view, self.query_one(DocumentTable).cursor, value)
        elif self._asking == "jump":
            number = value.replace(",", "").replace("_", "")
            if number.isdigit():
                self._jump(self._view, int(number))
            elif value:
                self.complain(f"{value}: no row number")
        elif (self._asking, value) not in (("filter", self.filter), ("sort", self.sort)):
            setattr(self, self._asking, value)
            self._show()

    def _hide_ask(self) -> None:
        self.query_one("#ask").remove_class("-shown")
        self.query_one(DocumentTable).focus()

    # The view

    def _show(self) -> None:
        """Begin a view anew: its rows are made in the worker that reads its first page."""
        from data.files import ShardError
        from data.filters import parse
        from data.query import Rows

        assert self.catalogue is not None
        column, _, way = self.sort.partition(" ")
        if way.strip().lower() not in ("", "asc", "desc"):  # a name with blanks in it
            column, way = self.sort, ""
        try:
            made = Rows(self.catalogue, self.files, parse(self.filter), column or None, way.strip().lower() == "desc")
        except ShardError as error:
            self.complain(str(error))
            if self._rows is None or not self._rows.filters:
                self.filter = ""
            if self._rows is None or self._rows.sort is None:
                self.sort = ""
            return
        if self._rows is not None:
            self._rows.cancel()
        self._view += 1
        self._rows, self._places = made, {}
        table = self.query_one(DocumentTable)
        narrowed = bool(made.filters or made.sort)
        widest = max((file.rows for file in self.files), default=0)
        table.open(str(self._view), 1 if narrowed else made.total or 0, widest)
        self._say_narrowed()

    def _say_narrowed(self) -> None:
        line = self.query_one("#narrowed", Static)
        parts = [f"filter: {self.filter}"] if self.filter else []
        parts += [f"sorted by {self.sort}"] if self.sort else []
        if parts and self._rows is not None:
            total = self._rows.total
            # First, since a long filter does not fit a narrow screen.
            parts.insert(0, f"{self._rows.known:,} rows" + ("" if total is not None else " so far"))
        elif len(self.files) > 1:
            parts.append(f"{len(self.files)} shards as one table")
        if self._rows is not None and self._rows.errors:
            first = self._rows.errors[0]
            more = f" and {len(self._rows.errors) - 1} more" if len(self._rows.errors) > 1 else ""
            parts.append(f"✗ left out: {PurePosixPath(first.file).name}{more}: {first.error}")
        line.update(Content(plain("  ·  ".join(parts))))
        line.set_class(bool(parts), "-shown")

    @on(DocumentTable.PageWanted)
    def _page_wanted(self, message: DocumentTable.PageWanted) -> None:
        self._read_page(int(message.shard), message.first)

    @on(PageRead)
    def _page_read(self, message: PageRead) -> None:
        if message.view != self._view:
            return
        table = self.query_one(DocumentTable)
        self._places |= message.places
        table.grow(message.known)
        table.add_page(str(message.view), message.first, message.rows)
        self._say_narrowed()
        if table.cursor in message.places:
            self._wanted_document()

    @on(DocumentTable.Moved)
    def _moved(self) -> None:
        self._wanted_document()

    @on(Found)
    def _found(self, message: Found) -> None:
        if message.view != self._view:
            return
        self._say_narrowed()
        if message.place is None:
            self.complain(message.text)
        else:
            self.query_one(DocumentTable).cursor = message.place

    @on(DocumentRead)
    def _document_read(self, message: DocumentRead) -> None:
        table = self.query_one(DocumentTable)
        if message.asked != self._documents_asked or (message.view, message.place) != (self._view, table.cursor):
            return
        view = self.query_one(DocumentView)
        title = f"row {message.row:,} of {PurePosixPath(message.shard).name}"
        if message.pieces is not None:
            title += f"  ·  {len(message.pieces):,} GPT-2 tokens"
        if message.text is not None:
            title += f"  ·  {len(message.text):,} characters"
        if message.pieces is not None:
            view.show_tokens(message.pieces)
        else:
            view.show_text(message.text)
            if self.search:
                view.reveal(self.search)
        self.query_one("#document-title", Static).update(Content.styled(plain(title), "bold"))

    def _wanted_document(self) -> None:
        place = self.query_one(DocumentTable).cursor
        at = self._places.get(place)
        if at is not None:
            self._documents_asked += 1
            self._read_document(self._view, place, at[0], at[1], self.as_tokens, self.as_row, self._documents_asked)

    # Work off the event loop

    @work(thread=True, group="page", exit_on_error=False)
    def _read_page(self, view: int, first: int) -> None:
        rows = self._rows
        if rows is None or view != self._view:
            return
        columns = {c for f in self.files for c in (f.text_column, f.token_column) if c}
        kinds = {file.path: (file.text_column, file.token_column) for file in self.files}
        wanted = [*columns, rows.sort] if rows.sort else list(columns)

        def job() -> None:
            from data.files import ShardError

            with self._lock:
                if view != self._view:
                    return
                try:
                    page = rows.page(first, PAGE, columns=wanted if columns else None)
                except ShardError as error:
                    self.post_message(PageRead(view, first, [Row("", f"✗ {plain(error)}")], {}, 1))
                    return
                known = rows.total
                if known is None:
                    known = max(rows.known, first + len(page.hits)) + int(page.more)
            shown, places = [], {}
            for place, hit in enumerate(page.hits, first):
                places[place] = (hit.file, hit.row)
                made = row_of(hit.values, *kinds[hit.file])
                if hit.error:
                    made = Row("", f"✗ {plain(hit.error)}")
                elif rows.sort and rows.sort not in columns:
                    made = Row(f"{plain(hit.values.get(rows.sort))[:12]:>12}", made.text)
                shown.append(Row(made.lead, made.text, hit.row))
            self.post_message(PageRead(view, first, shown, places, known))

        self.guarded(job)

    @work(thread=True, group="find", exit_on_error=False)
    def _find(self, view: int, after: int, text: str) -> None:
        rows = self._rows
        if rows is None:
            return

        def job() -> None:
            with self._lock:
                place = rows.find_next(after, text)
                if place is None and after >= 0:  # once more from the top
                    place = rows.find_next(-1, text)
                    place = None if place is not None and place > after else place
            self.post_message(Found(view, place, f"{text}: found nowhere"))

        self.guarded(job)

    @work(thread=True, group="find", exit_on_error=False)
    def _jump(self, view: int, row: int) -> None:
        rows, files = self._rows, self.files
        if rows is None:
            return

        def job() -> None:
            with self._lock:
                if len(files) == 1:
                    place, why = rows.place_of(files[0].path, row), f"row {row:,} is not in this table"
                else:
                    total = rows.total
                    place = row if total is None or row < total else None
                    why = f"there are {rows.known:,} rows, counted from 0"
            self.post_message(Found(view, place, why))

        self.guarded(job)

    @work(thread=True, group="document", exclusive=True, exit_on_error=False)
    def _read_document(
        self, view: int, place: int, shard: str, row: int, as_tokens: bool, as_row: bool, asked: int
    ) -> None:
        catalogue = self.catalogue
        file = next((f for f in self.files if f.path == shard), None)
        if catalogue is None or file is None:
            return

        def job() -> None:
            if file.text_column is None or as_row:
                values = catalogue.page(file, row, 1, max_chars=None)[0]
                text: str | None = "\n".join(f"{name} = {value}" for name, value in values.items())
            else:
                text = catalogue.document(file, row)
            pieces = None
            if as_tokens and text is not None:
                from data.encoding import load

                pieces = pieces_of(text, load())
            self.post_message(DocumentRead(view, place, shard, row, text, pieces, asked))

        self.guarded(job)
