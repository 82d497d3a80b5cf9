"""What the four screens share: the title bar above, the keys below, and the way a worker's error is shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar, cast

from textual import on, work
from textual.app import ComposeResult
from textual.dom import DOMNode
from textual.reactive import Reactive
from textual.screen import Screen
from textual.widget import Widget

from workbench.screens.keys import MODES, PUSHED, SCREENS, Key
from workbench.screens.messages import Done
from workbench.screens.repaint import FrugalCompositor
from workbench.text import plain
from workbench.widgets.key_bar import KeyBar
from workbench.widgets.title_bar import TitleBar

if TYPE_CHECKING:
    from workbench.app import GptbenchApp


class WorkbenchScreen(Screen[None]):
    """A screen of the workbench. Subclasses set ``MODE`` and yield their widgets in ``body``."""

    MODE: ClassVar[str]
    ABOVE: ClassVar[str] = ""  # title, where it lies above that screen
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (110, "-wide")]
    # Textual (8.2) paints the whole screen when the focus moves; what it moves between is painted by its own styles.
    focused: Reactive[Widget | None] = Reactive(None, repaint=False)
    VERTICAL_BREAKPOINTS = [(0, "-low"), (32, "-high")]

    def __init__(self) -> None:
        super().__init__()
        self._compositor: FrugalCompositor = FrugalCompositor()

    def on_mount(self) -> None:
        """Hear of another theme."""
        self.app.theme_changed_signal.subscribe(self, lambda theme: self.recolour())

    def recolour(self) -> None:
        """Make anew what holds colours of the theme that it was made in, as cells of tables do."""

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

    def offered(self) -> list[tuple[str, Sequence[Key], DOMNode]]:
        """What the palette offers here: a title, keys, and the node whose actions they run."""
        if self.ABOVE:
            return [(self.ABOVE, PUSHED[self.ABOVE], self)]
        return [(next(title for _, mode, title in MODES if mode == self.MODE), SCREENS[self.MODE], self)]

    def place(self, text: str) -> None:
        """Say in the title bar what the screen is about."""
        self.query_one(TitleBar).place = text

    def say(self, text: str, *, wrong: bool = False) -> None:
        """A short notice that goes away by itself; ``text`` may come from files."""
        self.notify(plain(text), severity="error" if wrong else "information", markup=False, timeout=8 if wrong else 4)

    @on(Done)
    def _done(self, message: Done) -> None:
        self.say(message.text, wrong=message.wrong)

    def in_thread(self, work: Callable[[], str], then: Callable[[bool], object] | None = None) -> None:
        """Do in a thread what a person asked for; what ``work`` returns is said ("": nothing), or in one line what went
        wrong. ``then`` is called behind it, in the same thread, with whether it is done."""

        def run() -> None:
            try:
                said, done = work(), True
            except Exception as error:  # UserError and its kin carry one line; anything else still must not end the app
                said, done = str(error) or type(error).__name__, False
            if said:
                self.post_message(Done(said, wrong=not done))
            if then is not None:
                then(done)

        self.run_worker(run, thread=True, group="act", exit_on_error=False)

    def copy(self, text: str) -> None:
        """Put text on the terminal's clipboard (OSC 52), and into a file for terminals that have none."""
        text = plain(text)  # a name may hold what a shell obeys when it is pasted
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
