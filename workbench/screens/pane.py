"""What the panes of the Data screen share: what they are opened on, and how they say what went wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from textual.containers import Container
from textual.message import Message

from workbench.screens.messages import Done

if TYPE_CHECKING:
    from data.catalogue import Catalogue, ShardFile


class Pane(Container):
    """A part of the Data screen that fills it while it is open; the work is done in its own thread workers."""

    DEFAULT_CSS = "Pane { width: 1fr; height: 1fr; }"

    class Left(Message):
        """Back to the shards."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self.catalogue: Catalogue | None = None
        self.files: list[ShardFile] = []

    def open(self, catalogue: Catalogue, files: Sequence[ShardFile]) -> None:
        """Show these shards; called again when others are to be shown."""
        self.catalogue, self.files = catalogue, list(files)
        self.opened()

    def opened(self) -> None:
        """Subclasses begin their work here."""

    def leave(self) -> bool:
        """Escape: True where there is nothing of the pane's own to close first."""
        return True

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
