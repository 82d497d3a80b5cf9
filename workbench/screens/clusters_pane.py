"""Copies, exactly: the clusters that waste most, two of their texts side by side, and the lines documents repeat."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import ContentSwitcher, DataTable, Static

from workbench.screens.keys import CLUSTERS, bindings
from workbench.screens.lines_view import LinesView
from workbench.screens.messages import OpenDocument, Worked
from workbench.screens.pane import JobPane
from workbench.text import plain
from workbench.widgets.format import count
from workbench.widgets.sheet import Sheet
from workbench.widgets.side_by_side import SideBySide
from workbench.widgets.table import Column, Table

if TYPE_CHECKING:
    from data.clusters import Cluster, Member
    from data.differences import Row
    from data.worth import Worth

_SHOWN = 500
_LONGEST = 200_000  # characters of a text that are compared
_COLUMNS = (
    Column("wasted", "tokens", 7, right=True),
    Column("documents", "documents", 9, right=True),
    Column("exact", "exact", 6, right=True, hide_below=60),
    Column("text", "begins"),
    Column("where", "first in", 28, hide_below=110),
)


@dataclass
class Found(Message):
    """The worth of the shards, its clusters the largest first, how each begins, and the repeated lines' texts; worth
    is None where the work failed."""

    cancel: threading.Event
    worth: Worth | None
    figures: dict[str, Any]
    largest: list[Cluster]
    beginnings: Mapping[tuple[str, int], str]
    lines: list[str]


@dataclass
class Compared(Message):
    """A member of a cluster against its first document."""

    asked: int
    cluster: int
    index: int
    members: list[Member]
    tokens: float
    rows: list[Row]


class ClustersPane(JobPane):
    """Clusters above, a comparison below; or repeated lines above, the documents that hold one below."""

    TITLE = "Copies"
    BINDINGS = bindings(CLUSTERS)

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._worth: Worth | None = None
        self._member, self._asked = 1, 0
        self._compared: Member | None = None
        self._opened_on: tuple[str, ...] = ()
        self._lock = threading.Lock()  # of the clusters' file

    def compose(self) -> ComposeResult:
        """Status; clusters and a comparison, or lines."""
        yield Sheet("", id="clusters-status")
        with ContentSwitcher(initial="by-cluster", id="copies"):
            with Vertical(id="by-cluster"):
                yield Table(_COLUMNS, id="clusters")
                yield Sheet("", id="pair-title")
                yield SideBySide(id="pair")
            yield LinesView(id="by-line")

    def opened(self) -> None:
        """Look for copies, unless it was done for these shards."""
        self._focus_table()
        if self.paths == self._opened_on and (self._worth is not None or self.running):
            return
        self.close()
        self._opened_on = self.paths
        self.query_one("#clusters", Table).show({})
        self.query_one(SideBySide).show([])
        self.query_one("#pair-title", Static).update("")
        self.query_one(LinesView).clear()
        self._look(list(self.paths), self.begin("reading documents"))

    def close(self) -> None:
        """End the work."""
        self.stop()
        found, self._worth, self._opened_on = self._worth, None, ()
        self._release(found)

    def leave(self) -> bool:
        """Work under way is stopped first."""
        if self.stop():
            self.show_progress(Content("stopped: what was sketched is kept; esc leaves, d then goes on"))
            self._opened_on = ()
            return False
        return True

    def show_progress(self, line: Content) -> None:
        """Above the table."""
        self.query_one("#clusters-status", Static).update(line)

    def look_inside(self) -> None:
        """Enter: from the cluster to its comparison, from there to the document; from the line to its documents."""
        if self._on_lines:
            self.query_one(LinesView).look_inside()
        elif self.screen.focused is not self.query_one(SideBySide):
            self.query_one(SideBySide).focus()
        elif self._compared is not None:
            self.post_message(OpenDocument(self._compared.file, self._compared.row))

    def action_next_member(self) -> None:
        """The next document of the cluster."""
        self._compare_with(self._member + 1)

    def action_previous_member(self) -> None:
        """The one before."""
        self._compare_with(self._member - 1)

    def action_lines(self) -> None:
        """Repeated lines, or clusters."""
        self.query_one("#copies", ContentSwitcher).current = "by-cluster" if self._on_lines else "by-line"
        self._focus_table()

    @property
    def _on_lines(self) -> bool:
        return self.query_one("#copies", ContentSwitcher).current == "by-line"

    def _focus_table(self) -> None:
        self.query_one("#lines" if self._on_lines else "#clusters", Table).focus()

    @on(Found)
    def _found(self, message: Found) -> None:
        found = message.worth
        if not self.ended(message.cancel):
            self._release(found)
            return
        if found is None:
            self._opened_on = ()
            self.show_progress(Content("nothing to show: see the message; d tries again"))
            return
        self._worth = found
        self.query_one("#clusters", Table).show(
            {
                str(cluster.id): [
                    count(cluster.wasted),
                    f"{cluster.documents:,}",
                    f"{cluster.exact_copies:,}",
                    " ".join(message.beginnings.get((cluster.file, cluster.row), "").split()),
                    f"{PurePosixPath(cluster.file).name}:{cluster.row}",
                ]
                for cluster in message.largest
            }
        )
        self.query_one(LinesView).show(found, message.lines, self.catalogue, self.files)
        self.show_progress(Content(_summary(found, message.figures)))
        self.post_message(Worked(message.figures))
        self._compare_with(1)

    @on(DataTable.RowHighlighted, "#clusters")
    def _highlighted(self) -> None:
        self._compare_with(1)

    @on(Compared)
    def _show_comparison(self, message: Compared) -> None:
        if message.asked != self._asked:
            return
        first, other = message.members[0], message.members[message.index]
        self._member, self._compared = message.index, other
        alike = "exact copy" if other.exact and other.similarity == 1.0 else f"about {other.similarity:.0%} alike"
        title = (
            f"{message.index} of {len(message.members) - 1}, {alike}, {count(message.tokens)} tokens  ·  "
            f"kept {PurePosixPath(first.file).name}:{first.row}  |  copy {PurePosixPath(other.file).name}:{other.row}"
        )
        self.query_one("#pair-title", Static).update(Content.styled(plain(title), "bold"))
        self.query_one(SideBySide).show(message.rows)

    def _compare_with(self, index: int) -> None:
        key = self.query_one("#clusters", Table).current_key
        if key is not None and self._worth is not None:
            self._asked += 1
            self._compare(self._worth, int(key), index, self._asked)

    def _release(self, found: Worth | None) -> None:
        if found is not None and found.clusters is not None:
            with self._lock:
                found.clusters.close()

    # Work

    @work(thread=True, group="clusters", exit_on_error=False)
    def _look(self, paths: list[str], cancel: threading.Event) -> None:
        from data.boilerplate import line_text
        from data.catalogue import Catalogue
        from data.statistics import statistics
        from data.workers import Cancelled

        try:
            with Catalogue(paths) as catalogue:
                result = statistics(
                    catalogue, near="exact", on_progress=self.telling(cancel), cancelled=cancel.is_set
                )  # fmt: skip
                for problem in result.errors[:1]:
                    self.complain(f"{problem.file}: {problem.error}")
                worth = result.worth
                if worth is None or worth.clusters is None:
                    self.post_message(Found(cancel, None, {}, [], {}, []))
                    return
                largest = worth.clusters.largest(_SHOWN)
                firsts = _texts(catalogue, [(c.file, c.row) for c in largest], 120)
                holding = _texts(catalogue, [(line.file, line.row) for line in worth.lines], None)
                lines = [line_text(holding.get((line.file, line.row), ""), line.hash) or "" for line in worth.lines]
            self.post_message(Found(cancel, worth, result.to_dict(), largest, firsts, lines))
        except Cancelled:
            return
        except Exception as error:
            self.complain(str(error) or type(error).__name__)
            self.post_message(Found(cancel, None, {}, [], {}, []))

    @work(thread=True, group="compare", exclusive=True, exit_on_error=False)
    def _compare(self, worth: Worth, cluster: int, index: int, asked: int) -> None:
        from data.differences import differences

        catalogue, clusters = self.catalogue, worth.clusters
        if catalogue is None or clusters is None:
            return
        files = {file.path: file for file in self.files}

        def job() -> None:
            with self._lock:
                if self._worth is not worth or asked != self._asked:
                    return
                members = clusters.members(cluster)
            at = index % len(members) or (1 if index > 0 else len(members) - 1)
            texts = [catalogue.document(files[member.file], member.row) or "" for member in (members[0], members[at])]
            rows = differences(texts[0][:_LONGEST], texts[1][:_LONGEST])
            tokens = float(clusters.weights[members[at].id])
            self.post_message(Compared(asked, cluster, at, members, tokens, rows))

        self.guarded(job)


def _texts(catalogue: Any, places: list[tuple[str, int]], max_chars: int | None) -> dict[tuple[str, int], str]:
    """Texts by file and row, one query a file."""
    wanted: dict[str, list[int]] = {}
    for file, row in places:
        wanted.setdefault(file, []).append(row)
    files = {file.path: file for file in catalogue.files}
    return {
        (path, values["file_row_number"]): str(values.get(catalogue.column) or "")
        for path, rows in wanted.items()
        for values in catalogue.rows(files[path], sorted(set(rows)), columns=[catalogue.column], max_chars=max_chars)
    }


def _summary(found: Worth, figures: Mapping[str, Any]) -> str:
    if found.clusters is None:
        return ""
    exact = figures.get("exact_duplicate_rows") or 0
    if not exact and not found.near_duplicate_rows and not found.lines:
        return f"{len(found.clusters):,} documents, no copies among them"
    return (
        f"{exact:,} exact copies ({count(found.exact_duplicate_tokens)} tokens), "
        f"{found.near_duplicate_rows:,} near copies ({count(found.near_duplicate_tokens)}), "
        f"b lines ({count(found.boilerplate_tokens)})  ·  {len(found.clusters):,} documents"
    )
