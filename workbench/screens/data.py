"""The Data screen: which shards there are, what is in them, what they are worth, and which of them to train on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import ContentSwitcher, Input, Static
from textual.worker import get_current_worker

from workbench.screens.base import WorkbenchScreen
from workbench.screens.clusters_pane import ClustersPane
from workbench.screens.columns_pane import ColumnsPane
from workbench.screens.documents_pane import DocumentsPane
from workbench.screens.keys import DATA, bindings
from workbench.screens.messages import CatalogueRead, Counted, Done, OpenDocument, Worked
from workbench.screens.options import Options
from workbench.screens.pane import Pane
from workbench.screens.recipe_pane import RecipeChosen, RecipePane
from workbench.screens.sql_pane import SqlPane
from workbench.text import plain
from workbench.widgets.document_table import DocumentTable
from workbench.widgets.document_view import DocumentView
from workbench.widgets.format import UNKNOWN, count, size
from workbench.widgets.path_input import PathInput
from workbench.widgets.statistics_pane import StatisticsPane
from workbench.widgets.table import Column, Table

if TYPE_CHECKING:
    from data.catalogue import Catalogue, ShardFile

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
_OF_SHARDS = {
    *("open_path", "build_sample", "view_all", "toggle_shard", "toggle_all", "statistics", "duplicates", "columns"),
    *("sql", "recipe", "launch"),
}


@dataclass
class Progress(Message):
    """How far a long job is."""

    stage: str
    fraction: float

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, Progress)


class DataScreen(WorkbenchScreen):
    """Shows ``app.data_paths``; fills ``app.selected`` and ``app.statistics``."""

    MODE = "data"
    CSS_PATH = "data.tcss"
    BINDINGS = bindings(DATA)
    AUTO_FOCUS = "#shards"

    def __init__(self) -> None:
        super().__init__()
        self.catalogue: Catalogue | None = None
        self.by_file: dict[str, dict[str, Any]] = {}
        self._opened: tuple[str, ...] = ()
        self._cancel = threading.Event()
        self._counting = False
        self._from: Pane | None = None  # the pane that a document was opened from

    def body(self) -> ComposeResult:
        """The path line, and either the shards or the documents of one."""
        yield PathInput(id="path")
        with ContentSwitcher(initial="none", id="views"):
            yield Static(self._empty(), id="none")
            with Vertical(id="shards-view"):
                yield Table(COLUMNS, id="shards")
                yield Static("", id="problems")
                yield StatisticsPane(id="statistics")
            yield DocumentsPane(id="documents-view")
            yield ColumnsPane(id="columns-view")
            yield SqlPane(id="sql-view")
            yield ClustersPane(id="clusters-view")
            yield RecipePane(id="recipe-view")

    def on_screen_resume(self) -> None:
        """Open the paths given meanwhile."""
        if tuple(self.bench.data_paths) != self._opened:
            self.open_paths(self.bench.data_paths)

    def on_unmount(self) -> None:
        """Let a count go."""
        self._cancel.set()

    def open_paths(self, paths: list[str]) -> None:
        """Look into other shards; the selection begins anew."""
        self._cancel.set()
        self._opened, self.bench.data_paths = tuple(paths), list(paths)
        self.bench.selected.clear()
        self.by_file.clear()
        if paths:
            self.query_one("#none", Static).update(Content(f"reading {plain(', '.join(paths))} …"))
            self.query_one(ContentSwitcher).current = "none"
            self._read_catalogue(list(paths))

    # Keys

    def action_open_path(self) -> None:
        """Ask for a path."""
        box = self.query_one(PathInput)
        box.add_class("-shown")
        box.focus()

    @on(Input.Submitted, "#path")
    def _path_given(self, event: Input.Submitted) -> None:
        if path := event.value.strip():
            self._close_path()
            self.open_paths([path if "://" in path else str(Path(path).expanduser())])

    def action_build_sample(self) -> None:
        """Build the sample shards and open them."""
        self.query_one("#none", Static).update(Content("building the sample shards …"))
        self.query_one(ContentSwitcher).current = "none"
        self._build_sample()

    def action_toggle_shard(self) -> None:
        """Select the shard under the cursor, or take it out."""
        path = self.query_one("#shards", Table).current_key
        if path is None or self._file(path) is None:
            return
        chosen = self.bench.selected
        chosen.remove(path) if path in chosen else chosen.append(path)
        self._show_shards()
        self.query_one("#shards", Table).action_cursor_down()

    def action_toggle_all(self) -> None:
        """Every shard, or none."""
        usable = [file.path for file in self.catalogue.files if file.text_column] if self.catalogue else []
        self.bench.selected[:] = [] if set(self.bench.selected) >= set(usable) else usable
        self._show_shards()

    def action_statistics(self) -> None:
        """Count, or stop counting."""
        if self._counting:
            self._cancel.set()
        elif self.catalogue is None or not self.catalogue.files:
            self.say("no shards are open: o opens a path, b builds the sample", wrong=True)
        else:
            self._counting, self._cancel = True, threading.Event()
            self.refresh_bindings()
            self._count([file.path for file in self._chosen()], self._cancel)

    def action_launch(self) -> None:
        """Launch on the selected shards; on all of them where none is."""
        if not self.bench.selected:
            self.action_toggle_all()
        if self.bench.selected:
            self.bench.action_show_mode("launch")
        else:
            self.say("no shard to train on: o opens a path, b builds the sample", wrong=True)

    def action_view_all(self) -> None:
        """The selected shards, or all, as one table."""
        self._open(DocumentsPane, self._chosen())

    def action_columns(self) -> None:
        """Columns, histograms, layout."""
        self._open(ColumnsPane, self._chosen())

    def action_sql(self) -> None:
        """The SQL console."""
        self._open(SqlPane, self._chosen())

    def action_duplicates(self) -> None:
        """Clusters of near duplicates."""
        self._open(ClustersPane, [file for file in self._chosen() if file.text_column])

    def action_recipe(self) -> None:
        """Choose documents."""
        default = Options().config()
        planned = self.bench.planned_tokens or default.tokens_per_step * default.train.max_steps
        self.query_one(RecipePane).planned_tokens = planned
        self._open(RecipePane, [file for file in self._chosen() if file.text_column])

    def action_back(self) -> None:
        """Out of the path line, out of a pane, out of a count."""
        pane = self._pane()
        if self.query_one(PathInput).has_class("-shown"):
            self._close_path()
        elif pane is None:
            self._cancel.set()
        elif pane.leave():
            self._leave_pane()

    def action_look_inside(self) -> None:
        """Look into the shard under the cursor; there, go to the document, or change a value."""
        pane = self._pane()
        if isinstance(pane, RecipePane):
            pane.edit()
        elif isinstance(pane, ClustersPane):
            pane.look_inside()
        elif isinstance(pane, DocumentsPane):
            if self.focused is self.query_one(DocumentTable):
                self.query_one(DocumentView).focus()
        elif pane is None:
            file = self._file(self.query_one("#shards", Table).current_key)
            self._open(DocumentsPane, [file] if file else [])

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys of the shards do nothing in a pane, and stay out of its footer."""
        if self.is_mounted:
            pane = self._pane()
            if action in _OF_SHARDS and pane is not None:
                return False
            if action == "back" and pane is None:
                return self._counting or self.query_one(PathInput).has_class("-shown")
        return super().check_action(action, parameters)

    def _open(self, kind: type[Pane], files: list[ShardFile]) -> None:
        if self.catalogue is None or not files:
            self.say("no shards are open: o opens a path, b builds the sample", wrong=True)
            return
        pane = self.query_one(kind)
        self.query_one(ContentSwitcher).current = pane.id
        pane.open(self.catalogue, files)
        self.refresh_bindings()

    @on(OpenDocument)
    def _open_document(self, message: OpenDocument) -> None:
        file, pane = self._file(message.file), self._pane()
        if file is not None:
            self._open(DocumentsPane, [file])
            self.query_one(DocumentsPane).jump(message.row)
            self._from = pane

    @on(Worked)
    def _worked(self, message: Worked) -> None:
        self._take(message.figures)

    @on(Pane.Left)
    def _leave_pane(self) -> None:
        back, self._from = self._from, None
        if back is not None and self.catalogue is not None:
            self.query_one(ContentSwitcher).current = back.id
            back.opened()
            self.refresh_bindings()
            return
        self.query_one(ContentSwitcher).current = "shards-view"
        self.query_one("#shards").focus()
        self.refresh_bindings()

    def _pane(self) -> Pane | None:
        """The pane that is open."""
        current = self.query_one(ContentSwitcher).current
        found = self.query_one(f"#{current}") if current else None
        return found if isinstance(found, Pane) else None

    def _chosen(self) -> list[ShardFile]:
        """The selected shards, or all."""
        files = self.catalogue.files if self.catalogue else []
        return [file for file in files if file.path in self.bench.selected] or list(files)

    @on(RecipeChosen)
    def _recipe_chosen(self, message: RecipeChosen) -> None:
        paths = frozenset(file.path for file in self._chosen())
        self.bench.recipe, self.bench.recipe_effect = message.path, (paths, message.effect)

    # What workers say

    @on(CatalogueRead)
    def _catalogue_read(self, message: CatalogueRead) -> None:
        self._from = None
        for opened in self.query(Pane):
            opened.close()
        if self.catalogue is not None and self.catalogue is not message.catalogue:
            self.catalogue.close()
        self.catalogue = message.catalogue
        self.place(f"{len(self.catalogue.files)} shards")
        pane = self.query_one(StatisticsPane)
        pane.figures, pane.hint = None, _STATS_HINT
        if not self.catalogue.files and not self.catalogue.errors:
            self.query_one("#none", Static).update(self._empty())
            return
        self.query_one(ContentSwitcher).current = "shards-view"
        self._show_shards()
        self.query_one("#shards").focus()
        self.refresh_bindings()

    @on(Progress)
    def _progress(self, message: Progress) -> None:
        if self.query_one(ContentSwitcher).current == "none":
            self.query_one("#none", Static).update(Content(f"{plain(message.stage)}  {message.fraction:.0%}"))
        elif self._counting:
            self.query_one(StatisticsPane).progress = (message.stage, message.fraction)

    @on(Counted)
    def _counted(self, message: Counted) -> None:
        self._counting = False
        self.refresh_bindings()
        pane = self.query_one(StatisticsPane)
        pane.progress = None
        if message.figures is None:
            return
        self._take(message.figures)

    def _take(self, figures: dict[str, Any]) -> None:
        """Show figures of some shards, and keep them for the launch."""
        by_file = {str(f["file"]): f for f in figures.get("by_file") or ()}
        self.by_file |= by_file
        self.bench.statistics[frozenset(by_file)] = figures
        shards = len(self.catalogue.files) if self.catalogue else len(by_file)
        pane = self.query_one(StatisticsPane)
        pane.over = f"{len(by_file)} of {shards} shards" if len(by_file) < shards else ""
        pane.figures = figures
        self._show_shards()

    @on(Done)
    def _done(self, message: Done) -> None:
        self.say(message.text, wrong=message.wrong)
        if self.catalogue is None:
            self.query_one("#none", Static).update(self._empty())

    # Showing

    def _show_shards(self) -> None:
        if self.catalogue is None:
            return
        rows: dict[str, list[str | Text]] = {}
        for file in self.catalogue.files:
            figures = self.by_file.get(file.path, {})
            copies = figures.get("exact_duplicate_rows")
            rows[file.path] = [
                "●" if file.path in self.bench.selected else "",
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
        errors = self.catalogue.errors
        lines = [
            Content.styled(plain(f"✗ {Path(e.file).name or e.file}: {e.error}"), "$text-error") for e in errors[:6]
        ]
        if len(errors) > 6:
            lines.append(Content.styled(f"✗ and {len(errors) - 6} more", "$text-error"))
        problems = self.query_one("#problems", Static)
        problems.update(Content("\n").join(lines))
        problems.display = bool(lines)
        chosen = f", {len(self.bench.selected)} selected" if self.bench.selected else ""
        self.place(f"{len(self.catalogue.files)} shards{chosen}")

    def _empty(self) -> Content:
        keys = (
            ("o", "opens a parquet file, a folder or a glob"),
            ("b", "builds sample shards from this machine's Python library"),
        )
        lines = [Content.assemble((f"{key}  ", "bold $text-accent"), does) for key, does in keys]
        return Content("\n").join([Content("no shards are open\n"), *lines])

    def _close_path(self) -> None:
        self.query_one(PathInput).remove_class("-shown")
        self.query_one(PathInput).value = ""
        self.query_one("#shards").focus()

    def _file(self, path: str | None) -> ShardFile | None:
        return next((f for f in self.catalogue.files if f.path == path), None) if self.catalogue else None

    # Work off the event loop; DuckDB and the encoding are imported there

    @work(thread=True, group="catalogue", exclusive=True, exit_on_error=False)
    def _read_catalogue(self, paths: list[str]) -> None:
        from data.catalogue import Catalogue

        def probed(done: int, found: int) -> None:
            self.post_message(Progress("reading shards", done / max(1, found)))

        self._guarded(lambda: self.post_message(CatalogueRead(Catalogue(paths, on_progress=probed))))

    @work(thread=True, group="sample", exclusive=True, exit_on_error=False)
    def _build_sample(self) -> None:
        from data.packed import default_cache
        from data.sample import build

        def made(stage: str, fraction: float) -> None:
            self.post_message(Progress(stage, fraction))

        def job() -> None:
            paths = build(default_cache().expanduser() / "sample", on_progress=made)
            self.app.call_from_thread(self.open_paths, [str(path) for path in paths])

        self._guarded(job)

    @work(thread=True, group="count", exit_on_error=False)
    def _count(self, paths: list[str], cancel: threading.Event) -> None:
        from data.catalogue import Catalogue
        from data.statistics import statistics
        from data.workers import Cancelled

        def counted(stage: str, fraction: float) -> None:
            self.post_message(Progress(stage, fraction))

        worker = get_current_worker()

        def cancelled() -> bool:
            return cancel.is_set() or worker.is_cancelled

        try:
            with Catalogue(paths) as catalogue:
                figures = statistics(catalogue, on_progress=counted, cancelled=cancelled).to_dict()
        except Cancelled:
            self.post_message(Counted(None))
            self.post_message(Done("counting stopped"))
            return
        except Exception as error:
            self.post_message(Counted(None))
            self.post_message(Done(str(error), wrong=True))
            return
        self.post_message(Counted(figures))

    def _guarded(self, job: Callable[[], object]) -> None:
        try:
            job()
        except Exception as error:  # ShardError and its kin carry one line; nothing a file holds may end the app
            self.post_message(Done(str(error) or type(error).__name__, wrong=True))
