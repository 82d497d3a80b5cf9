"""Columns of the shards: what each holds, how it is spread, how it is stored."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import DataTable, Static

from workbench.histogram import histogram_rows
from workbench.screens.keys import COLUMNS, bindings
from workbench.screens.pane import Pane
from workbench.text import plain
from workbench.widgets.chart import ChartView
from workbench.widgets.format import UNKNOWN, count, share, size
from workbench.widgets.sheet import Sheet
from workbench.widgets.table import Column, Table

if TYPE_CHECKING:
    from data.columns import ColumnStatistics, Histogram, Layout

_COLUMNS = (
    Column("name", "column"),
    Column("type", "type", 12),
    Column("size", "on disk", 9, right=True),
    Column("ratio", "packed", 7, right=True, hide_below=70),
    Column("codec", "codec", 8, hide_below=60),
)


@dataclass
class Described(Message):
    """A column's statistics, for the opening of the pane that ``cancel`` ends."""

    cancel: threading.Event
    statistics: ColumnStatistics


@dataclass
class Spread(Message):
    """A histogram, as it was ``asked`` for."""

    asked: int
    histogram: Histogram


@dataclass
class Stored(Message):
    """How the files are stored."""

    cancel: threading.Event
    layouts: list[Layout]


class ColumnsPane(Pane):
    """Columns above, with the statistics of the one under the cursor; a histogram below."""

    TITLE = "Columns"
    BINDINGS = bindings(COLUMNS)

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._measures: list[str] = []
        self._measure = 0
        self._counted = ""
        self._log: bool | None = None
        self._drawn: Histogram | None = None
        self._asked = 0  # histograms; an answer to an earlier one comes too late
        self._kinds: dict[str, str] = {}  # columns in the order of the first file, and their types
        self._cancel = threading.Event()

    def compose(self) -> ComposeResult:
        """Table, sheet, histogram."""
        with Vertical(id="columns-top"):
            yield Table(_COLUMNS, id="columns")
            yield Sheet("", id="column-sheet")
        yield ChartView(id="histogram", hint="reading …")

    def opened(self) -> None:
        """Columns by name, over all files."""
        from data.columns import CHARACTERS, TOKENS, measures

        self._cancel = threading.Event()
        self._measures, self._measure, self._log, self._drawn = measures(self.files), 0, None, None
        self._counted = ""  # the measure that is not read from a column but counted in a sample
        if CHARACTERS in self._measures and TOKENS not in self._measures:
            self._counted = TOKENS
            self._measures.insert(self._measures.index(CHARACTERS) + 1, TOKENS)
        self._kinds = {}
        for file in self.files:
            for column in file.columns:
                self._kinds.setdefault(column.name, column.type)
        # The same rows in the same order as when the layouts are read: the cursor must not move under a person's hand.
        table = self.query_one(Table)
        table.show({})
        table.show({name: [name, kind.lower(), "", "", ""] for name, kind in self._kinds.items()})
        table.focus()
        self._read_layouts(self._cancel)
        self._draw(self._cancel)
        self._wanted()

    def close(self) -> None:
        """End what is read."""
        self._cancel.set()

    def leave(self) -> bool:
        """Nothing to close first."""
        self.close()
        return True

    def action_next_measure(self) -> None:
        """The next histogram."""
        if self._measures:
            self._measure, self._log = (self._measure + 1) % len(self._measures), None
            self._draw(self._cancel)

    def action_log_x(self) -> None:
        """The other axis."""
        if self._drawn is not None and self._drawn.name == self._measures[self._measure]:
            self._log = not self._drawn.log
            self._draw(self._cancel)

    @on(DataTable.RowHighlighted, "#columns")
    def _wanted(self) -> None:
        name = self.query_one(Table).current_key
        if name is not None:
            self._describe(name, self._cancel)

    @on(ChartView.Resized)
    def _resized(self) -> None:
        self._show_histogram()

    @on(Spread)
    def _spread(self, message: Spread) -> None:
        if message.asked != self._asked:
            return
        self._drawn = message.histogram
        self._show_histogram()

    @on(Described)
    def _described(self, message: Described) -> None:
        s = message.statistics
        if message.cancel is not self._cancel or s.name != self.query_one(Table).current_key:
            return
        text = s.types == ("VARCHAR",)
        nulls = f"  {s.nulls:,} null" + (f" ({share(s.nulls / s.rows)})" if s.nulls else "")
        lines = [
            [(s.name, "bold"), (f"  {', '.join(s.types)}", "$text-muted"),
             (f"  {s.rows:,} rows{nulls}  about {s.distinct:,} distinct", "")],
            [("from ", "$text-muted"), (_short(s.low), "bold"), (" to ", "$text-muted"), (_short(s.high), "bold")],
        ]  # fmt: skip
        if s.quantiles:
            what = "length" if text else "value"
            values = "  ".join(f"{q:.0%} {count(v)}" for q, v in s.quantiles.items())
            mean = "" if s.mean is None else f"  mean {count(s.mean)}"
            lines.append([(f"{what}s ", "$text-muted"), (values + mean, "")])
        if s.missing_in:
            lines.append([(f"{s.missing_in} shards have no such column", "$text-warning")])
        for problem in s.errors[:2]:
            lines.append([(f"✗ {PurePosixPath(problem.file).name}: {problem.error}", "$text-error")])
        content = Content("\n").join(
            Content.assemble(*((plain(piece), style) if style else plain(piece) for piece, style in line))
            for line in lines
        )
        self.query_one("#column-sheet", Static).update(content)

    @on(Stored)
    def _stored(self, message: Stored) -> None:
        if message.cancel is not self._cancel:
            return
        totals: dict[str, tuple[int, int, set[str]]] = {}
        for found in message.layouts:
            for column in found.columns:
                name = column.name.partition(".")[0]
                compressed, uncompressed, codecs = totals.get(name, (0, 0, set()))
                totals[name] = (
                    compressed + column.compressed,
                    uncompressed + column.uncompressed,
                    codecs | {column.codecs},
                )
        rows = {}
        for name, kind in self._kinds.items():
            compressed, uncompressed, codecs = totals.get(name, (0, 0, set()))
            ratio = f"{uncompressed / compressed:.1f}×" if compressed else UNKNOWN
            rows[name] = [name, kind.lower(), size(compressed) if name in totals else UNKNOWN, ratio,
                          "+".join(sorted(codecs)).lower()]  # fmt: skip
        self.query_one(Table).show(rows)

    def _show_histogram(self) -> None:
        chart = self.query_one(ChartView)
        h = self._drawn
        if h is None or not chart.size.height:
            return
        values, rows = sum(h.counts), sum(file.rows for file in self.files if file.text_column)
        more = [f"{values:,} values"]
        if h.name == self._counted:
            drawn = values + h.nulls < rows
            more = [f"{values:,} documents counted" + (f", drawn from {rows:,} rows" if drawn else "")]
        more += [f"{h.nulls:,} null"] if h.nulls else []
        more += [f"{h.below:,} of 0 and less not shown"] if h.below else []
        more += [f"{len(h.errors)} shards unreadable"] if h.errors else []
        where = f"  {self._measure + 1}/{len(self._measures)}" if len(self._measures) > 1 else ""
        title = plain(f"{h.name}  ·  {', '.join(more)}{where}")
        chart.show(
            histogram_rows(h.edges, h.counts, width=chart.size.width, height=chart.size.height, title=title, log=h.log)
        )

    # Work

    @work(thread=True, group="layout", exclusive=True, exit_on_error=False)
    def _read_layouts(self, cancel: threading.Event) -> None:
        from data.columns import layout

        def job() -> None:
            found = []
            for file in self.files:
                if cancel.is_set():
                    return
                found.append(layout(file.path))
            self.post_message(Stored(cancel, found))

        self.guarded(job)

    @work(thread=True, group="describe", exclusive=True, exit_on_error=False)
    def _describe(self, name: str, cancel: threading.Event) -> None:
        from data.columns import column_statistics

        assert self.catalogue is not None
        catalogue, files = self.catalogue, list(self.files)

        def job() -> None:
            found = column_statistics(catalogue, name, files, cancelled=cancel.is_set)
            self.post_message(Described(cancel, found))

        self.guarded(job)

    def _draw(self, cancel: threading.Event) -> None:
        self._asked += 1
        if self._measures:
            self._read_histogram(self._asked, self._measures[self._measure], self._log, cancel)

    @work(thread=True, group="histogram", exclusive=True, exit_on_error=False)
    def _read_histogram(self, asked: int, measure: str, log: bool | None, cancel: threading.Event) -> None:
        from data.columns import histogram
        from data.token_lengths import token_lengths

        assert self.catalogue is not None
        catalogue, files, counted = self.catalogue, list(self.files), measure == self._counted

        def stopped() -> bool:
            return cancel.is_set() or asked != self._asked

        def job() -> None:
            if counted:
                found = token_lengths(catalogue, files, log=log, cancelled=stopped)
            else:
                found = histogram(catalogue, measure, files, log=log, cancelled=stopped)
            self.post_message(Spread(asked, found))

        self.guarded(job)


def _short(value: str | None) -> str:
    return "–" if value is None else count(float(value)) if value.isdigit() else " ".join(value.split())[:32]
