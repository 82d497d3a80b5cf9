"""The Data screen: which shards there are, what is in them, what they are worth, and which of them to train on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textual import on, work
from textual.app import ComposeResult
from textual.content import Content
from textual.message import Message
from textual.widgets import ContentSwitcher, Input, Static

from workbench.screens.base import WorkbenchScreen
from workbench.screens.clusters_pane import ClustersPane
from workbench.screens.columns_pane import ColumnsPane
from workbench.screens.documents_pane import DocumentsPane
from workbench.screens.keys import DATA, bindings
from workbench.screens.messages import CatalogueRead, Counted, OpenDocument, Worked
from workbench.screens.options import Options
from workbench.screens.pane import Pane
from workbench.screens.recipe_pane import RecipeChosen, RecipePane
from workbench.screens.shards_view import ShardsView
from workbench.screens.sql_pane import SqlPane
from workbench.text import plain
from workbench.widgets.document_table import DocumentTable
from workbench.widgets.document_view import DocumentView
from workbench.widgets.path_input import PathInput

if TYPE_CHECKING:
    from data.catalogue import Catalogue, ShardFile

_OF_SHARDS = {
    *("open_path", "build_sample", "view_all", "toggle_shard", "toggle_all", "statistics", "duplicates", "columns"),
    *("sql", "recipe", "launch"),
}


_WHAT_WAITS = {
    "view_all": "documents", "statistics": "statistics", "duplicates": "copies", "columns": "columns", "sql": "SQL",
    "recipe": "recipe", "launch": "launch", "look_inside": "the first shard",
}  # fmt: skip


@dataclass
class Progress(Message):
    """How far the reading of shards, or the making of the sample, is."""

    stage: str
    fraction: float

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, Progress)


@dataclass
class Failed(Message):
    """Why shards were not read, or the sample not made."""

    text: str


class DataScreen(WorkbenchScreen):
    """Shows ``app.data_paths``; fills ``app.selected`` and ``app.statistics``."""

    MODE = "data"
    CSS_PATH = "data.tcss"
    BINDINGS = bindings(DATA)
    AUTO_FOCUS = "#shards"

    def __init__(self) -> None:
        super().__init__()
        self.catalogue: Catalogue | None = None
        self._opened: tuple[str, ...] = ()
        self._reading = ""  # what comes next is being read or made; empty: nothing
        self._waiting = ""  # the action of a key that was pressed meanwhile
        self._from: Pane | None = None  # the pane that a document was opened from

    def body(self) -> ComposeResult:
        """The path line, and either the shards or the documents of one."""
        yield PathInput(id="path")
        with ContentSwitcher(initial="none", id="views"):
            yield Static(self._empty(), id="none")
            yield ShardsView(id="shards-view")
            yield DocumentsPane(id="documents-view")
            yield ColumnsPane(id="columns-view")
            yield SqlPane(id="sql-view")
            yield ClustersPane(id="clusters-view")
            yield RecipePane(id="recipe-view")

    def on_screen_resume(self) -> None:
        """Open the paths given meanwhile."""
        if tuple(self.bench.data_paths) != self._opened:
            self.open_paths(self.bench.data_paths)

    def open_paths(self, paths: list[str]) -> None:
        """Look into other shards; the selection begins anew."""
        self._opened, self.bench.data_paths = tuple(paths), list(paths)
        self.bench.selected.clear()
        self.query_one(ShardsView).forget()
        if paths:
            self._wait(f"reading {', '.join(paths)} …")
            self._read_catalogue(list(paths))

    def _wait(self, what: str) -> None:
        """Say what is being read or made; panes stay closed until it is there."""
        self._reading, self._waiting = what, ""
        self._say_waiting()
        self.query_one(ContentSwitcher).current = "none"
        self.refresh_bindings()

    def _say_waiting(self, done: str = "") -> None:
        lines = [Content(plain(done or self._reading))]
        if self._waiting:
            lines.append(Content.styled(f"then {_WHAT_WAITS[self._waiting]}  ·  esc forgets it", "$text-muted"))
        self.query_one("#none", Static).update(Content("\n").join(lines))

    def _later(self, action: str) -> bool:
        """While shards are being read, a key waits for them; whether this one does."""
        if self._reading:
            self._waiting = action
            self._say_waiting()
            self.refresh_bindings()
        return bool(self._reading)

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
        """Build the sample shards and open them; where shards are open, only after a question."""
        from workbench.widgets.prompt import Confirm

        def answered(yes: bool | None) -> None:
            if yes:
                self._wait("building the sample shards …")
                self._build_sample()

        if self._opened:
            self.bench.push_screen(Confirm("close these shards, build the sample shards and open them?"), answered)
        else:
            answered(True)

    def action_toggle_shard(self) -> None:
        """Select the shard under the cursor, or take it out."""
        path = None if self._reading else self.query_one(ShardsView).current
        if path is None or self._file(path) is None:
            return
        chosen = self.bench.selected
        chosen.remove(path) if path in chosen else chosen.append(path)
        self._show_shards()
        self.query_one(ShardsView).next()

    def action_toggle_all(self) -> None:
        """Every shard, or none."""
        if self._reading:
            return
        usable = [file.path for file in self.catalogue.files if file.text_column] if self.catalogue else []
        self.bench.selected[:] = [] if set(self.bench.selected) >= set(usable) else usable
        self._show_shards()

    def action_statistics(self) -> None:
        """Count, or stop counting."""
        view = self.query_one(ShardsView)
        if self._later("statistics"):
            return
        if view.counting:
            self._stop_counting()
        elif self.catalogue is None or not self.catalogue.files:
            self.say("no shards are open: o opens a path, b builds the sample", wrong=True)
        else:
            view.begin([file.path for file in self._chosen()])
            self.refresh_bindings()

    def _stop_counting(self) -> None:
        if self.query_one(ShardsView).stop():
            self.say("counting stopped")
            self.refresh_bindings()

    def action_launch(self) -> None:
        """Launch on the selected shards; on all of them where none is."""
        if self._later("launch"):
            return
        if not self.bench.selected:
            self.action_toggle_all()
        if self.bench.selected:
            self.bench.action_show_mode("launch")
        else:
            self.say("no shard to train on: o opens a path, b builds the sample", wrong=True)

    def action_view_all(self) -> None:
        """The selected shards, or all, as one table."""
        if not self._later("view_all"):
            self._open(DocumentsPane, self._chosen())

    def action_columns(self) -> None:
        """Columns, histograms, layout."""
        if not self._later("columns"):
            self._open(ColumnsPane, self._chosen())

    def action_sql(self) -> None:
        """The SQL console."""
        if not self._later("sql"):
            self._open(SqlPane, self._chosen())

    def action_duplicates(self) -> None:
        """Clusters of near duplicates."""
        if not self._later("duplicates"):
            self._open(ClustersPane, [file for file in self._chosen() if file.text_column])

    def action_recipe(self) -> None:
        """Choose documents."""
        if self._later("recipe"):
            return
        default = Options().config()
        planned = self.bench.planned_tokens or default.tokens_per_step * default.train.max_steps
        self.query_one(RecipePane).planned_tokens = planned
        self._open(RecipePane, [file for file in self._chosen() if file.text_column])

    def action_back(self) -> None:
        """Out of the path line, out of a pane, out of a count."""
        pane = self._pane()
        if self.query_one(PathInput).has_class("-shown"):
            self._close_path()
        elif self._waiting:
            self._waiting = ""
            self._say_waiting()
            self.refresh_bindings()
        elif pane is None:
            self._stop_counting()
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
        elif pane is None and not self._later("look_inside"):
            file = self._file(self.query_one(ShardsView).current)
            self._open(DocumentsPane, [file] if file else [])

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys of the shards do nothing in a pane, and stay out of its footer."""
        if self.is_mounted:
            pane = self._pane()
            if action in _OF_SHARDS and pane is not None:
                return False
            if action == "back" and pane is None:
                return (
                    bool(self._waiting)
                    or self.query_one(ShardsView).counting
                    or self.query_one(PathInput).has_class("-shown")
                )
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
        if message.paths != self._opened:  # others were opened meanwhile
            message.catalogue.close()
            return
        self._from, self._reading = None, ""
        for opened in self.query(Pane):
            opened.close()
        if self.catalogue is not None and self.catalogue is not message.catalogue:
            self.catalogue.close()
        self.catalogue = message.catalogue
        self.place(f"{len(self.catalogue.files)} shards")
        waiting, self._waiting = self._waiting, ""
        if not self.catalogue.files and not self.catalogue.errors:
            self.query_one("#none", Static).update(self._empty())
            return
        self.query_one(ContentSwitcher).current = "shards-view"
        self._show_shards()
        self.query_one("#shards").focus()
        self.refresh_bindings()
        if waiting and self.is_current:
            # The table holds its rows, and a cursor, once it has been laid out.
            self.call_after_refresh(self.run_action, waiting)

    @on(Progress)
    def _progress(self, message: Progress) -> None:
        if self._reading:
            self._say_waiting(f"{message.stage}  {message.fraction:.0%}")

    @on(Counted)
    def _counted(self, message: Counted) -> None:
        if self.query_one(ShardsView).ended(message.cancel):
            self.refresh_bindings()
            if message.figures is not None:
                self._take(message.figures)

    def _take(self, figures: dict[str, Any]) -> None:
        """Show figures of some shards, and keep them for the launch."""
        self.bench.statistics[self.query_one(ShardsView).take(figures, self.catalogue)] = figures
        self._show_shards()

    @on(Failed)
    def _failed(self, message: Failed) -> None:
        """Neither the shards nor the sample came; what was open before stays."""
        self.say(message.text, wrong=True)
        self._reading = self._waiting = ""
        self.query_one("#none", Static).update(self._empty())
        if self.catalogue is not None and self.catalogue.files:
            self.query_one(ContentSwitcher).current = "shards-view"
        self.refresh_bindings()

    # Showing

    def _show_shards(self) -> None:
        if self.catalogue is None:
            return
        self.query_one(ShardsView).show(self.catalogue, self.bench.selected)
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

        self._guarded(lambda: self.post_message(CatalogueRead(Catalogue(paths, on_progress=probed), tuple(paths))))

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

    def _guarded(self, job: Callable[[], object]) -> None:
        try:
            job()
        except Exception as error:  # ShardError and its kin carry one line; nothing a file holds may end the app
            self.post_message(Failed(str(error) or type(error).__name__))
