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
from workbench.widgets.format import count, share, size
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
    """A column's statistics."""

    statistics: ColumnStatistics

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, Described)


@dataclass
class Spread(Message):
    """A histogram."""

    histogram: Histogram

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, Spread)


@dataclass
class Stored(Message):
    """How the files are stored."""

    layouts: list[Layout]


class ColumnsPane(Pane):
    """Columns above, with the statistics of the one under the cursor; a histogram below."""

    BINDINGS = bindings(COLUMNS)

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._measures: list[str] = []
        self._measure = 0
        self._log: bool | None = None
        self._drawn: Histogram | None = None
        self._cancel = threading.Event()

    def compose(self) -> ComposeResult:
        """Table, sheet, histogram."""
        with Vertical(id="columns-top"):
            yield Table(_COLUMNS, id="columns")
            yield Static("", id="column-sheet")
        yield ChartView(id="histogram", hint="reading …")

    def opened(self) -> None:
        """Columns by name, over all files."""
        from data.columns import measures

        self._cancel = threading.Event()
        self._measures, self._measure, self._log = measures(self.files), 0, None
        names = {column.name: column.type for file in reversed(self.files) for column in file.columns}
        self.query_one(Table).show({name: [name, kind, "", "", ""] for name, kind in reversed(names.items())})
        self.query_one(Table).focus()
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
        if self._drawn is not None:
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
        self._drawn = message.histogram
        self._show_histogram()

    @on(Described)
    def _described(self, message: Described) -> None:
        s = message.statistics
        if s.name != self.query_one(Table).current_key:
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
        kinds = {column.name: column.type for file in self.files for column in file.columns}
        self.query_one(Table).show(
            {
                name: [name, kind.lower(), size(totals[name][0]), f"{totals[name][1] / max(1, totals[name][0]):.1f}×",
                       "+".join(sorted(totals[name][2])).lower()]
                for name, kind in kinds.items()
                if name in totals
            }
        )  # fmt: skip

    def _show_histogram(self) -> None:
        chart = self.query_one(ChartView)
        h = self._drawn
        if h is None or not chart.size.height:
            return
        more = [f"{sum(h.counts):,} values"]
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
            self.post_message(Stored(found))

        self.guarded(job)

    @work(thread=True, group="describe", exclusive=True, exit_on_error=False)
    def _describe(self, name: str, cancel: threading.Event) -> None:
        from data.columns import column_statistics

        assert self.catalogue is not None
        catalogue = self.catalogue

        def job() -> None:
            self.post_message(Described(column_statistics(catalogue, name, self.files, cancelled=cancel.is_set)))

        self.guarded(job)

    @work(thread=True, group="histogram", exclusive=True, exit_on_error=False)
    def _draw(self, cancel: threading.Event) -> None:
        from data.columns import histogram

        assert self.catalogue is not None
        catalogue = self.catalogue
        if not self._measures:
            return
        measure, log = self._measures[self._measure], self._log

        def job() -> None:
            self.post_message(Spread(histogram(catalogue, measure, self.files, log=log, cancelled=cancel.is_set)))

        self.guarded(job)


def _short(value: str | None) -> str:
    return "–" if value is None else count(float(value)) if value.isdigit() else " ".join(value.split())[:32]
