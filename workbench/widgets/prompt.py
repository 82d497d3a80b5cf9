"""A box in the middle of the screen: a line to type, yes or no, or a text to take away."""

from __future__ import annotations

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from workbench.text import plain
from workbench.widgets.line import Line

_CSS = """
    $NAME { align: center middle; }
    $NAME > Vertical { width: 70; max-width: 96%; height: auto; padding: 0 1; }
    $NAME > Vertical { background: $surface; border: round $primary; }
    $NAME Static, $NAME Input { width: 1fr; height: auto; }
"""


class Ask(ModalScreen[str | None]):
    """Asks for a line; None where the person leaves."""

    DEFAULT_CSS = _CSS.replace("$NAME", "Ask")
    BINDINGS = [Binding("escape", "leave", "Leave", show=False)]

    def __init__(self, question: str, value: str = "") -> None:
        super().__init__()
        self.question, self.value = question, value

    def compose(self) -> ComposeResult:
        """The question above the line."""
        with Vertical():
            yield Static(Content(plain(self.question)))
            yield Line(plain(self.value), compact=True, id="answer")
            yield Static(Content.styled("enter takes it, esc leaves", "$text-muted"))

    @on(Input.Submitted)
    def _submitted(self, message: Input.Submitted) -> None:
        self.dismiss(message.value)

    def action_leave(self) -> None:
        """Answer nothing."""
        self.dismiss(None)


class Confirm(ModalScreen[bool]):
    """Asks whether; only y says yes."""

    DEFAULT_CSS = _CSS.replace("$NAME", "Confirm")
    BINDINGS = [
        Binding("y", "dismiss(True)", "Yes", show=False),
        Binding("n,escape,q,enter", "dismiss(False)", "No", show=False),
    ]

    def __init__(self, question: str) -> None:
        super().__init__()
        self.question = question

    def compose(self) -> ComposeResult:
        """The question, and which keys answer it."""
        with Vertical():
            yield Static(Content(plain(self.question)))
            yield Static(Content.assemble(("y", "bold $text-accent"), " yes   ", ("n", "bold $text-accent"), " no"))


class Shown(ModalScreen[None]):
    """Shows a text to be copied."""

    DEFAULT_CSS = _CSS.replace("$NAME", "Shown") + "Shown VerticalScroll { height: auto; max-height: 16; }"
    BINDINGS = [
        Binding("y", "copy", "Copy", show=False),
        Binding("escape,q,enter", "dismiss(None)", "Leave", show=False),
    ]

    def __init__(self, title: str, text: str) -> None:
        super().__init__()
        self.title_line, self.text = title, text

    def compose(self) -> ComposeResult:
        """Title, text, and what can be done."""
        with Vertical():
            yield Static(Content.styled(plain(self.title_line), "bold"))
            with VerticalScroll():
                yield Static(Content(plain(self.text, lines=True)), id="shown")
            yield Static(
                Content.assemble(("y", "bold $text-accent"), " copy   ", ("esc", "bold $text-accent"), " leave")
            )

    def action_copy(self) -> None:
        """Onto the clipboard, and into a file, as the screen below copies."""
        below = self.app.screen_stack[-2]
        copy = getattr(below, "copy", None)
        if copy is not None:
            copy(self.text)
