"""Opening shards on the Data screen: the path that is asked for, the reading, the sample, and keys that wait for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from textual import on, work
from textual.content import Content
from textual.message import Message
from textual.widgets import ContentSwitcher, Input, Static

from workbench.screens.base import WorkbenchScreen
from workbench.screens.messages import CatalogueRead
from workbench.screens.shards_view import ShardsView
from workbench.text import plain
from workbench.widgets.path_input import PathInput

if TYPE_CHECKING:
    from data.catalogue import Catalogue

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


class Opening(WorkbenchScreen):
    """A screen with a ``PathInput``, a ``ShardsView``, and a ``ContentSwitcher`` whose ``#none`` says what is read."""

    def __init__(self) -> None:
        super().__init__()
        self.catalogue: Catalogue | None = None
        self._opened: tuple[str, ...] = ()
        self._reading = ""  # what comes next is being read or made; empty: nothing
        self._waiting = ""  # the action of a key that was pressed meanwhile

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

    def _close_path(self) -> None:
        self.query_one(PathInput).remove_class("-shown")
        self.query_one(PathInput).value = ""
        self.query_one("#shards").focus()

    # What workers say

    @on(Progress)
    def _progress(self, message: Progress) -> None:
        if self._reading:
            self._say_waiting(f"{message.stage}  {message.fraction:.0%}")

    @on(Failed)
    def _failed(self, message: Failed) -> None:
        """Neither the shards nor the sample came; what was open before stays."""
        self.say(message.text, wrong=True)
        self._reading = self._waiting = ""
        self.query_one("#none", Static).update(self._empty())
        if self.catalogue is not None and self.catalogue.files:
            self.query_one(ContentSwitcher).current = "shards-view"
        self.refresh_bindings()

    def _empty(self) -> Content:
        keys = (
            ("o", "opens a parquet file, a folder or a glob"),
            ("b", "builds sample shards from this machine's Python library"),
        )
        lines = [Content.assemble((f"{key}  ", "bold $text-accent"), does) for key, does in keys]
        return Content("\n").join([Content("no shards are open\n"), *lines])

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
