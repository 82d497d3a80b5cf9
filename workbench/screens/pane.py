"""What the panes of the Data screen share: what they are opened on, their one long job, and how they say what went
wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.containers import Container
from textual.content import Content
from textual.message import Message

from workbench.screens.job import Job, Step
from workbench.screens.messages import Done
from workbench.widgets.progress import Progress

if TYPE_CHECKING:
    from data.catalogue import Catalogue, ShardFile


class Pane(Container):
    """A part of the Data screen that fills it while it is open; the work is done in its own thread workers."""

    DEFAULT_CSS = "Pane { width: 1fr; height: 1fr; }"
    TITLE: ClassVar[str]  # of ``keys.PANES``

    class Left(Message):
        """Back to the shards."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self.catalogue: Catalogue | None = None
        self.files: list[ShardFile] = []

    @property
    def paths(self) -> tuple[str, ...]:
        """Of the shards the pane was opened on."""
        return tuple(file.path for file in self.files)

    def open(self, catalogue: Catalogue, files: Sequence[ShardFile]) -> None:
        """Show these shards; called again when others are to be shown."""
        self.catalogue, self.files = catalogue, list(files)
        self.opened()

    def opened(self) -> None:
        """Subclasses begin their work here."""

    def leave(self) -> bool:
        """Escape: True where there is nothing of the pane's own to close first."""
        return True

    def look_inside(self) -> None:
        """Enter; subclasses say what it opens."""

    def close(self) -> None:
        """End what runs; the shards may be closed next."""

    def on_unmount(self) -> None:
        """The app ends."""
        self.close()

    def complain(self, text: str) -> None:
        """Let the screen show an error."""
        self.post_message(Done(text, wrong=True))

    def guarded(self, job: Callable[[], object]) -> None:
        """Do a worker's job; whatever fails is one line on the screen: nothing a file holds may end the app."""
        from data.workers import Cancelled

        try:
            job()
        except Cancelled:
            return
        except Exception as error:
            self.complain(str(error) or type(error).__name__)


class JobPane(Pane):
    """A pane with one long job at a time, its progress shown, stopped by escape."""

    STOPS = "esc stops"

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._job = Job()
        self._progress = Progress()

    @property
    def running(self) -> bool:
        """Whether a job is under way."""
        return self._job.running

    def begin(self, stage: str) -> threading.Event:
        """A new job; the one under way is stopped."""
        cancel, self._progress = self._job.begin(), Progress(stage)
        self.show_progress(self._progress.line(self.STOPS))
        return cancel

    def stop(self) -> bool:
        """Stop the job; whether there was one. Its answer no longer counts."""
        return self._job.stop()

    def ended(self, cancel: threading.Event) -> bool:
        """Whether this was the job under way; from now on none is."""
        return self._job.ended(cancel)

    def telling(self, cancel: threading.Event) -> Callable[[str, float], None]:
        """For a worker: tell stage and fraction."""

        def tell(stage: str, fraction: float) -> None:
            self.post_message(Step(cancel, stage, fraction))

        return tell

    def show_progress(self, line: Content) -> None:
        """Subclasses show it."""

    def close(self) -> None:
        """End the job."""
        self.stop()

    @on(Step)
    def _step(self, message: Step) -> None:
        if self._job.under_way(message.cancel):
            self._progress.tell(message.stage, message.fraction)
            self.show_progress(self._progress.line(self.STOPS))
