"""The Data screen: which shards there are, what is in them, what they are worth, and which of them to train on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from textual import on
from textual.app import ComposeResult
from textual.dom import DOMNode
from textual.widgets import ContentSwitcher, Static

from workbench.screens.clusters_pane import ClustersPane
from workbench.screens.columns_pane import ColumnsPane
from workbench.screens.documents_pane import DocumentsPane
from workbench.screens.keys import DATA, PANES, Key, bindings
from workbench.screens.messages import CatalogueRead, Counted, OpenDocument, Worked
from workbench.screens.opening import Opening
from workbench.screens.options import Options
from workbench.screens.pane import Pane
from workbench.screens.recipe_pane import RecipeChosen, RecipePane
from workbench.screens.shards_view import ShardsView
from workbench.screens.sql_pane import SqlPane
from workbench.widgets.document_table import DocumentTable
from workbench.widgets.document_view import DocumentView
from workbench.widgets.path_input import PathInput

if TYPE_CHECKING:
    from data.catalogue import ShardFile

_OF_SHARDS = {
    *("open_path", "build_sample", "view_all", "toggle_shard", "toggle_all", "statistics", "duplicates", "columns"),
    *("sql", "recipe", "launch"),
}


class DataScreen(Opening):
    """Shows ``app.data_paths``; fills ``app.selected`` and ``app.statistics``."""

    MODE = "data"
    CSS_PATH = "data.tcss"
    BINDINGS = bindings(DATA)
    AUTO_FOCUS = "#shards"

    def __init__(self) -> None:
        super().__init__()
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

    # Keys

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

    def offered(self) -> list[tuple[str, Sequence[Key], DOMNode]]:
        """The keys of the pane that is open, before the screen's."""
        pane = self._pane()
        of_pane = [] if pane is None else [(pane.TITLE, PANES[pane.TITLE], pane)]
        return [*of_pane, *super().offered()]

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

    # Showing

    def _show_shards(self) -> None:
        if self.catalogue is None:
            return
        self.query_one(ShardsView).show(self.catalogue, self.bench.selected)
        chosen = f", {len(self.bench.selected)} selected" if self.bench.selected else ""
        self.place(f"{len(self.catalogue.files)} shards{chosen}")

    def _file(self, path: str | None) -> ShardFile | None:
        return next((f for f in self.catalogue.files if f.path == path), None) if self.catalogue else None
