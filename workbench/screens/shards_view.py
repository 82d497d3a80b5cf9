"""The list of shards: what each holds, which are selected, what is wrong with the others; and the job that counts what
they are worth."""

from __future__ import annotations

import threading
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import DataTable, Static
from textual.worker import get_current_worker

from workbench.screens.job import Job, Step
from workbench.screens.messages import Counted, Done
from workbench.text import plain
from workbench.widgets.format import UNKNOWN, count, size
from workbench.widgets.sheet import Sheet
from workbench.widgets.statistics_pane import StatisticsPane
from workbench.widgets.table import Column, Table

if TYPE_CHECKING:
    from data.catalogue import Catalogue

COLUMNS = (
    Column("selected", "", 1),
    Column("file", "shard"),
    Column("rows", "rows", 9, right=True),
    Column("groups", "groups", 6, right=True, hide_below=64),
    Column("size", "size", 9, right=True),
    Column("tokens", "tokens", 7, right=True),
    Column("effective", "effective", 9, right=True, hide_below=76),
    Column("copies", "copies", 7, right=True, hide_below=100),
    Column("codec", "codec", 8, hide_below=110),
    Column("columns", "columns", 24, hide_below=130),
)
_STATS_HINT = "s effective tokens, estimated; d exactly  ·  space selects  ·  enter looks inside  ·  l launches"


class ShardsView(Vertical):
    """Table, problems, statistics, and the count as its job."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self.by_file: dict[str, dict[str, Any]] = {}
        self._job = Job()

    def compose(self) -> ComposeResult:
        """From above."""
        yield Table(COLUMNS, id="shards")
        yield Sheet("", id="problems")
        yield StatisticsPane(id="statistics")

    @property
    def current(self) -> str | None:
        """Path of the shard under the cursor."""
        return self.query_one("#shards", Table).current_key

    def next(self) -> None:
        """The cursor on the next shard."""
        self.query_one("#shards", Table).action_cursor_down()

    @property
    def counting(self) -> bool:
        """Whether a count is under way."""
        return self._job.running

    def forget(self) -> None:
        """Other shards come: a count ends, figures go."""
        self.stop()
        self.by_file.clear()
        pane = self.query_one(StatisticsPane)
        pane.figures, pane.shard, pane.over, pane.hint = None, None, "", _STATS_HINT

    def begin(self, paths: list[str]) -> None:
        """Count what these shards are worth; ``Counted`` says it."""
        self.stop()
        self._count(paths, self._job.begin())

    def stop(self) -> bool:
        """Stop counting; whether there was a count."""
        stopped = self._job.stop()
        if stopped:
            self.query_one(StatisticsPane).progress = None
        return stopped

    def ended(self, cancel: threading.Event) -> bool:
        """Whether this was the count under way; from now on none is."""
        mine = self._job.ended(cancel)
        if mine:
            self.query_one(StatisticsPane).progress = None
        return mine

    def on_unmount(self) -> None:
        """Let a count go."""
        self._job.stop()

    def take(self, figures: dict[str, Any], catalogue: Catalogue | None) -> frozenset[str]:
        """Show figures of some shards; which these are."""
        by_file = {str(f["file"]): f for f in figures.get("by_file") or ()}
        self.by_file |= by_file
        shards = len(catalogue.files) if catalogue else len(by_file)
        pane = self.query_one(StatisticsPane)
        pane.over = f"{len(by_file)} of {shards} shards" if len(by_file) < shards else ""
        pane.figures = figures
        self._highlighted()
        return frozenset(by_file)

    def show(self, catalogue: Catalogue, selected: Collection[str]) -> None:
        """Show the catalogue's shards."""
        rows: dict[str, list[str | Text]] = {}
        for file in catalogue.files:
            figures = self.by_file.get(file.path, {})
            copies = figures.get("exact_duplicate_rows")
            rows[file.path] = [
                "●" if file.path in selected else "",
                Path(file.path).name,
                f"{file.rows:,}",
                str(file.row_groups),
                size(file.bytes),
                count(figures.get("tokens")),
                count(figures.get("effective_tokens")),
                UNKNOWN if copies is None else f"{copies + figures.get('copies_of_earlier_files', 0):,}",
                file.compression.lower(),
                " ".join(column.name for column in file.columns),
            ]
        self.query_one("#shards", Table).show(rows)
        errors = catalogue.errors
        lines = [
            Content.styled(plain(f"✗ {Path(e.file).name or e.file}: {e.error}"), "$text-error") for e in errors[:6]
        ]
        if len(errors) > 6:
            lines.append(Content.styled(f"✗ and {len(errors) - 6} more", "$text-error"))
        problems = self.query_one("#problems", Static)
        problems.update(Content("\n").join(lines))
        problems.display = bool(lines)

    @on(DataTable.RowHighlighted, "#shards")
    def _highlighted(self) -> None:
        """The split of the shard under the cursor; of a selection of one it is the selection's own."""
        figures = self.by_file.get(self.current or "")
        self.query_one(StatisticsPane).shard = figures

    @on(Step)
    def _step(self, message: Step) -> None:
        message.stop()
        if self._job.under_way(message.cancel):
            self.query_one(StatisticsPane).progress = (message.stage, message.fraction)

    @work(thread=True, group="count", exit_on_error=False)
    def _count(self, paths: list[str], cancel: threading.Event) -> None:
        from data.catalogue import Catalogue
        from data.statistics import statistics
        from data.workers import Cancelled

        def counted(stage: str, fraction: float) -> None:
            self.post_message(Step(cancel, stage, fraction))

        worker = get_current_worker()

        def cancelled() -> bool:
            return cancel.is_set() or worker.is_cancelled

        try:
            with Catalogue(paths) as catalogue:
                figures = statistics(catalogue, on_progress=counted, cancelled=cancelled).to_dict()
        except Cancelled:
            self.post_message(Counted(None, cancel))
        except Exception as error:
            self.post_message(Counted(None, cancel))
            if not cancel.is_set():
                self.post_message(Done(str(error), wrong=True))
        else:
            self.post_message(Counted(figures, cancel))
