"""Near duplicates: the clusters that waste the most, and two of their texts side by side."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from textual import on, work
from textual.app import ComposeResult
from textual.content import Content
from textual.message import Message
from textual.widgets import DataTable, Static

from workbench.screens.keys import CLUSTERS, bindings
from workbench.screens.pane import Pane
from workbench.text import plain
from workbench.widgets.format import bar, count
from workbench.widgets.side_by_side import SideBySide
from workbench.widgets.table import Column, Table

if TYPE_CHECKING:
    from data.clusters import Cluster, Clusters, Member
    from data.differences import Row

_SHOWN = 500
_LONGEST = 200_000  # characters of a text that are compared
_COLUMNS = (
    Column("documents", "documents", 9, right=True),
    Column("exact", "exact", 6, right=True, hide_below=60),
    Column("wasted", "wasted", 8, right=True),
    Column("text", "begins"),
    Column("where", "first in", 24, hide_below=110),
)


@dataclass
class Clustered(Message):
    """The clusters, the largest first, and how each begins; None where the work was stopped or failed."""

    clusters: Clusters | None
    largest: list[Cluster]
    beginnings: list[str]


@dataclass
class Step(Message):
    """How far the work is."""

    stage: str
    fraction: float

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, Step)


@dataclass
class Compared(Message):
    """A member of a cluster against its first document."""

    cluster: int
    index: int
    members: list[Member]
    rows: list[Row]

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, Compared)


class ClustersPane(Pane):
    """Clusters above, a comparison below."""

    BINDINGS = bindings(CLUSTERS)

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._clusters: Clusters | None = None
        self._member = 1
        self._opened_on: tuple[str, ...] = ()
        self._cancel = threading.Event()
        self._lock = threading.Lock()  # of the clusters' file

    def compose(self) -> ComposeResult:
        """Table, sheet, comparison."""
        yield Static("", id="clusters-status")
        yield Table(_COLUMNS, id="clusters")
        yield Static("", id="pair-title")
        yield SideBySide(id="pair")

    def opened(self) -> None:
        """Look for copies, unless it was done for these shards."""
        self.query_one(Table).focus()
        paths = tuple(file.path for file in self.files)
        if paths == self._opened_on and self._clusters is not None:
            return
        self.close()
        self._opened_on, self._cancel = paths, threading.Event()
        self.query_one(Table).show({})
        self.query_one(SideBySide).show([])
        self.query_one("#pair-title", Static).update("")
        self._look(list(paths), self._cancel)

    def close(self) -> None:
        """End the work."""
        self._cancel.set()
        found, self._clusters, self._opened_on = self._clusters, None, ()
        if found is not None:
            with self._lock:
                found.close()

    def leave(self) -> bool:
        """Work under way is stopped first."""
        if self._clusters is None and not self._cancel.is_set():
            self._cancel.set()
            return False
        return True

    def action_next_member(self) -> None:
        """The next document of the cluster."""
        self._compare_with(self._member + 1)

    def action_previous_member(self) -> None:
        """The one before."""
        self._compare_with(self._member - 1)

    @on(Step)
    def _step(self, message: Step) -> None:
        if not self._cancel.is_set():
            self.query_one("#clusters-status", Static).update(
                Content.assemble(
                    (bar(message.fraction, 24), "$text-primary on $foreground 15%"),
                    f" {message.fraction:4.0%}  {plain(message.stage)}  ",
                    ("esc stops", "$text-muted"),
                )
            )

    @on(Clustered)
    def _clustered(self, message: Clustered) -> None:
        if message.clusters is None:
            self._cancel.set()
            self.query_one("#clusters-status", Static).update(Content("stopped: what was sketched is kept; d goes on"))
            return
        self._clusters = message.clusters
        self.query_one(Table).show(
            {
                str(cluster.id): [
                    f"{cluster.documents:,}",
                    f"{cluster.exact_copies:,}",
                    count(cluster.wasted) + "B",
                    " ".join(text.split()),
                    f"{PurePosixPath(cluster.file).name}:{cluster.row}",
                ]
                for cluster, text in zip(message.largest, message.beginnings, strict=True)
            }
        )
        found = message.clusters
        exact, near = int(found.exact_duplicates().sum()), int(found.near_duplicates().sum())
        shown = f", the {_SHOWN} that waste most" if len(message.largest) == _SHOWN else ""
        self.query_one("#clusters-status", Static).update(
            Content(
                f"{len(found):,} documents: {exact:,} exact copies, {near:,} near copies{shown}"
                if message.largest
                else f"{len(found):,} documents, no copies among them"
            )
        )

    @on(DataTable.RowHighlighted, "#clusters")
    def _highlighted(self) -> None:
        self._compare_with(1)

    @on(Compared)
    def _compared(self, message: Compared) -> None:
        if str(message.cluster) != self.query_one(Table).current_key:
            return
        first, other = message.members[0], message.members[message.index]
        self._member = message.index
        alike = "exact copy" if other.exact and other.similarity == 1.0 else f"about {other.similarity:.0%} alike"
        title = (
            f"{PurePosixPath(first.file).name}:{first.row}  |  {PurePosixPath(other.file).name}:{other.row}"
            f"  ·  {alike}  ·  {message.index} of {len(message.members) - 1}"
        )
        self.query_one("#pair-title", Static).update(Content.styled(plain(title), "bold"))
        self.query_one(SideBySide).show(message.rows)

    def _compare_with(self, index: int) -> None:
        key = self.query_one(Table).current_key
        if key is not None and self._clusters is not None:
            self._compare(self._clusters, int(key), index)

    # Work

    @work(thread=True, group="clusters", exit_on_error=False)
    def _look(self, paths: list[str], cancel: threading.Event) -> None:
        from data import near
        from data.catalogue import Catalogue
        from data.files import ShardError

        def failed(path: str, error: ShardError) -> None:
            self.complain(str(error))

        def step(stage: str, fraction: float) -> None:
            self.post_message(Step(stage, fraction))

        def job() -> None:
            with Catalogue(paths) as catalogue:
                found = near.clusters(
                    catalogue,
                    on_progress=step,
                    on_error=failed,
                    cancelled=cancel.is_set,
                )
                largest = found.largest(_SHOWN)
                files = {file.path: file for file in catalogue.files}
                beginnings = []
                for cluster in largest:
                    row = catalogue.page(files[cluster.file], cluster.row, 1, columns=[catalogue.column], max_chars=120)
                    beginnings.append(str(row[0].get(catalogue.column) or "") if row else "")
            self.post_message(Clustered(found, largest, beginnings))

        try:
            job()
        except Exception as error:
            if str(error):
                self.complain(str(error))
            self.post_message(Clustered(None, [], []))

    @work(thread=True, group="compare", exclusive=True, exit_on_error=False)
    def _compare(self, clusters: Clusters, cluster: int, index: int) -> None:
        from data.differences import differences

        catalogue = self.catalogue
        if catalogue is None:
            return
        files = {file.path: file for file in self.files}

        def job() -> None:
            with self._lock:
                if self._clusters is not clusters:
                    return
                members = clusters.members(cluster)
            at = index % len(members) or (1 if index > 0 else len(members) - 1)
            texts = [catalogue.document(files[member.file], member.row) or "" for member in (members[0], members[at])]
            rows = differences(texts[0][:_LONGEST], texts[1][:_LONGEST])
            self.post_message(Compared(cluster, at, members, rows))

        self.guarded(job)
