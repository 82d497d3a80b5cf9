"""Boilerplate: the lines that documents repeat, what they take, and from a line to the documents that hold it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import DataTable, Static

from workbench.screens.messages import Done, OpenDocument
from workbench.text import plain
from workbench.widgets.format import count
from workbench.widgets.sheet import Sheet
from workbench.widgets.table import Column, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from data.boilerplate import RepeatedLine
    from data.catalogue import Catalogue, ShardFile
    from data.worth import Worth

_MOST = 500  # documents listed of one line
_LINES = (
    Column("wasted", "tokens", 7, right=True),
    Column("documents", "documents", 9, right=True),
    Column("line", "line"),
)
_DOCUMENTS = (
    Column("where", "held by", 34),
    Column("text", "begins"),
)


@dataclass
class Held(Message):
    """The documents that hold a line: file, row, how each begins."""

    hash: int
    documents: list[tuple[str, int, str]]


class LinesView(Vertical):
    """``show`` the repeated lines of a worth; enter goes from a line to its documents, and to one of them."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._worth: Worth | None = None
        self._lines: dict[str, tuple[RepeatedLine, str]] = {}
        self._catalogue: Catalogue | None = None
        self._files: dict[str, ShardFile] = {}

    def compose(self) -> ComposeResult:
        """Lines, the one under the cursor whole, its documents."""
        yield Table(_LINES, id="lines")
        yield Sheet("", id="line-text")
        yield Table(_DOCUMENTS, id="line-documents")

    def clear(self) -> None:
        """Forget what was shown."""
        self._worth, self._lines = None, {}
        for table in self.query(Table):
            table.show({})
        self.query_one("#line-text", Static).update("")

    def show(self, worth: Worth, texts: list[str], catalogue: Catalogue | None, files: Sequence[ShardFile]) -> None:
        """Show the lines that take most; ``texts`` are theirs."""
        self._worth, self._catalogue = worth, catalogue
        self._files = {file.path: file for file in files}
        self._lines = {str(line.hash): (line, text) for line, text in zip(worth.lines, texts, strict=True)}
        self.query_one("#lines", Table).show(
            {
                key: [count(line.wasted), f"{line.documents:,}", " ".join(text.split())]
                for key, (line, text) in self._lines.items()
            }
        )
        if not self._lines:
            self.query_one("#line-text", Static).update(
                Content.styled("no line of 5 or more documents (near copies counted once)", "$text-muted")
            )
        self._chosen()

    def look_inside(self) -> None:
        """Enter."""
        documents = self.query_one("#line-documents", Table)
        if self.screen.focused is not documents:
            documents.focus()
        elif documents.current_key is not None:
            file, _, row = documents.current_key.rpartition(":")
            self.post_message(OpenDocument(file, int(row)))

    @on(DataTable.RowHighlighted, "#lines")
    def _chosen(self) -> None:
        key = self.query_one("#lines", Table).current_key
        if key is None or key not in self._lines or self._worth is None:
            return
        line, text = self._lines[key]
        self.query_one("#line-text", Static).update(Content(plain(" ".join(text.split())[:600])))
        self._read_holders(self._worth, line)

    @on(Held)
    def _held(self, message: Held) -> None:
        if str(message.hash) != self.query_one("#lines", Table).current_key:
            return
        table = self.query_one("#line-documents", Table)
        table.show({})
        table.show(
            {
                f"{file}:{row}": [f"{PurePosixPath(file).name}:{row}", " ".join(text.split())]
                for file, row, text in message.documents
            }
        )

    @work(thread=True, group="holders", exclusive=True, exit_on_error=False)
    def _read_holders(self, worth: Worth, line: RepeatedLine) -> None:
        from data.boilerplate import holders

        catalogue, clusters, files = self._catalogue, worth.clusters, self._files
        if catalogue is None or clusters is None:
            return
        try:
            places = holders(clusters, line.hash, _MOST)
            rows: dict[str, list[int]] = {}
            for file, row in places:
                rows.setdefault(file, []).append(row)
            found = []
            for file, numbers in rows.items():
                page = catalogue.rows(files[file], numbers, columns=[catalogue.column], max_chars=120)
                found += [(file, int(v["file_row_number"]), str(v.get(catalogue.column) or "")) for v in page]
        except Exception as error:  # one line on the screen; nothing a file holds may end the app
            self.post_message(Done(str(error) or type(error).__name__, wrong=True))
            return
        self.post_message(Held(line.hash, found))
