"""What the four screens share: the title bar above, the keys below, and the way a worker's error is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

from textual import work
from textual.app import ComposeResult
from textual.screen import Screen

from workbench.screens.keys import MODES
from workbench.screens.repaint import FrugalCompositor
from workbench.text import plain
from workbench.widgets.key_bar import KeyBar
from workbench.widgets.title_bar import TitleBar

if TYPE_CHECKING:
    from workbench.app import GptbenchApp


class WorkbenchScreen(Screen[None]):
    """A screen of the workbench. Subclasses set ``MODE`` and yield their widgets in ``body``."""

    MODE: ClassVar[str]
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (110, "-wide")]
    VERTICAL_BREAKPOINTS = [(0, "-low"), (32, "-high")]

    def __init__(self) -> None:
        super().__init__()
        self._compositor: FrugalCompositor = FrugalCompositor()

    def on_screen_suspend(self) -> None:
        """Another screen paints from now on."""
        self._compositor.forget()

    @property
    def bench(self) -> GptbenchApp:
        """The app, typed."""
        return cast("GptbenchApp", self.app)

    def compose(self) -> ComposeResult:
        """Title bar, body, footer."""
        yield TitleBar(MODES, self.MODE)
        yield from self.body()
        yield KeyBar()

    def body(self) -> ComposeResult:
        """The screen's own widgets."""
        yield from ()

    def place(self, text: str) -> None:
        """Say in the title bar what the screen is about."""
        self.query_one(TitleBar).place = text

    def say(self, text: str, *, wrong: bool = False) -> None:
        """A short notice that goes away by itself; ``text`` may come from files."""
        self.notify(plain(text), severity="error" if wrong else "information", markup=False, timeout=8 if wrong else 4)

    def copy(self, text: str) -> None:
        """Put text on the terminal's clipboard (OSC 52), and into a file for terminals that have none."""
        self.app.copy_to_clipboard(text)
        self._keep_copied(text)

    @work(thread=True, group="copy", exit_on_error=False)
    def _keep_copied(self, text: str) -> None:
        from workbench import remember

        try:
            said = f"copied; no clipboard here? it is in {remember.keep_copied(text)}"
        except OSError as error:
            said = f"copied to the terminal's clipboard; no file of it: {error}"
        self.app.call_from_thread(self.say, said)
