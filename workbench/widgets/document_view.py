"""One document, whole: as text, or as tokens with their boundaries and ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from rich.cells import cell_len, chop_cells
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from workbench.text import plain
from workbench.widgets.scrolling import SCROLL_KEYS

TEXT_SHOWN = 400_000  # characters laid out, at most
TOKENS_SHOWN = 40_000


class Encoding(Protocol):
    """What is used of a tiktoken encoding."""

    def encode_ordinary(self, text: str) -> list[int]: ...
    def decode_single_token_bytes(self, token: int) -> bytes: ...


@dataclass(frozen=True)
class Piece:
    """A token as it is shown: its text, made safe, whether a line ends in it, and its id."""

    text: str
    id: int
    newline: bool


class DocumentView(ScrollView, can_focus=True):
    """``show_text`` or ``show_tokens``; both take a document made by the functions below, off the event loop."""

    DEFAULT_CSS = """
    DocumentView { overflow-x: hidden; overflow-y: auto; padding: 0 1; scrollbar-gutter: stable; }
    DocumentView > .document-view--even { background: $primary 35%; }
    DocumentView > .document-view--odd { background: $success 30%; }
    DocumentView > .document-view--id { color: $text-muted; }
    """
    COMPONENT_CLASSES = {"document-view--even", "document-view--odd", "document-view--id"}
    BINDINGS = SCROLL_KEYS

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._text: str | None = None
        self._pieces: Sequence[Piece] | None = None
        self._lines: list[str] | list[list[tuple[int, Piece]]] = []
        self._width = 0

    def show_text(self, text: str | None) -> None:
        """Show a text, untrusted as it is; None is a null."""
        self._text, self._pieces = plain("null" if text is None else text[:TEXT_SHOWN], lines=True), None
        self._lay_out(top=True)

    def show_tokens(self, pieces: Sequence[Piece]) -> None:
        """Show tokens."""
        self._pieces = pieces
        self._lay_out(top=True)

    def reveal(self, text: str) -> None:
        """Scroll to the first line that holds ``text``, whatever the case."""
        wanted = plain(text).lower()
        for y, line in enumerate(self._lines):
            if isinstance(line, str) and wanted in line.lower():
                self.scroll_to(y=max(0, y - 2), animate=False)
                return

    def on_resize(self) -> None:
        """Wrap anew."""
        if self.scrollable_content_region.width != self._width:
            self._lay_out(top=False)

    def render_line(self, y: int) -> Strip:
        width, style = self.scrollable_content_region.width, self.rich_style
        row = int(self.scroll_offset.y) + y
        if row >= len(self._lines):
            return Strip.blank(width, style)
        line = self._lines[row]
        segments = [Segment(line, style)] if isinstance(line, str) else self._tokens(line, style)
        return Strip(segments).adjust_cell_length(width, style)

    def _tokens(self, line: list[tuple[int, Piece]], style: Style) -> list[Segment]:
        shades = [self.get_component_rich_style(f"document-view--{name}") for name in ("even", "odd")]
        id_style = style + self.get_component_rich_style("document-view--id")
        segments = []
        for index, piece in line:
            segments.append(Segment(piece.text, style + shades[index % 2]))
            segments.append(Segment(f"{piece.id} ", id_style))
        return segments

    def _lay_out(self, *, top: bool) -> None:
        self._width = width = max(8, self.scrollable_content_region.width)
        if self._pieces is not None:
            self._lines = flow(self._pieces, width)
        elif self._text is not None:
            self._lines = list(wrap(self._text, width))
        self.virtual_size = Size(0, len(self._lines))
        if top:
            self.scroll_to(y=0, animate=False)
        self.refresh()


def pieces_of(text: str, encoding: Encoding) -> list[Piece]:
    """The tokens of a document, ``TOKENS_SHOWN`` at most. Bytes that are no whole character are in hexadecimal."""
    pieces = []
    for token in encoding.encode_ordinary(text[: TOKENS_SHOWN * 8])[:TOKENS_SHOWN]:
        raw = encoding.decode_single_token_bytes(token)
        try:
            shown = raw.decode("utf-8")
        except UnicodeDecodeError:
            shown = "‹" + raw.hex(" ") + "›"
        pieces.append(Piece(plain(shown.replace("\n", "⏎")), token, "\n" in shown))
    return pieces


def wrap(text: str, width: int) -> Iterable[str]:
    """Lines of at most ``width`` cells; a line is broken at its last blank where it has one."""
    for line in text.expandtabs(4).split("\n"):
        while cell_len(line) > width:
            head = chop_cells(line, width)[0]
            blank = head.rfind(" ")
            cut = blank + 1 if blank > width // 3 else max(1, len(head))
            yield line[:cut]
            line = line[cut:]
        yield line


def flow(pieces: Sequence[Piece], width: int) -> list[list[tuple[int, Piece]]]:
    """Tokens side by side, each with its index; a new line behind one that ends a line, or where room ends."""
    lines: list[list[tuple[int, Piece]]] = [[]]
    used = 0
    for index, piece in enumerate(pieces):
        cells = cell_len(piece.text) + len(str(piece.id)) + 1
        if used and used + cells > width:
            lines.append([])
            used = 0
        lines[-1].append((index, piece))
        used += cells
        if piece.newline:
            lines.append([])
            used = 0
    return lines
