"""The help, written from the table of keys."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from workbench.screens.keys import EVERYWHERE, MODES, MOVEMENT, PANES, SCREENS, Key


class HelpScreen(ModalScreen[None]):
    """Keys of the screen it was called from, then those that work everywhere."""

    BINDINGS = [
        Binding("escape,question_mark,q,enter", "dismiss", "Close", show=False),
        Binding("j", "scroll_body(1)", show=False),
        Binding("k", "scroll_body(-1)", show=False),
    ]

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode = mode

    def compose(self) -> ComposeResult:
        """One scrolling sheet."""
        with VerticalScroll(id="help"):
            yield Static(self.sheet(), id="help-sheet")

    def sheet(self) -> Content:
        """The help as text."""
        titles = {mode: title for _, mode, title in MODES}
        groups: list[tuple[str, tuple[Key, ...]]] = []
        if self.mode in SCREENS:
            groups.append((f"{titles[self.mode]} screen", SCREENS[self.mode]))
        if self.mode == "data":
            groups += [(f"{title}, a pane of Data", keys) for title, keys in PANES.items()]
        groups += [("Everywhere", EVERYWHERE), ("Moving", MOVEMENT)]
        groups += [(f"{titles[mode]} screen", keys) for mode, keys in SCREENS.items() if mode != self.mode]
        parts: list[Content] = []
        for title, keys in groups:
            parts.append(Content.styled(title, "bold $text-accent"))
            for key in keys:
                parts.append(Content.assemble((f"  {key.display:<16}", "bold"), key.help))
            parts.append(Content(""))
        return Content("\n").join([*parts, Content.styled("esc closes this", "$text-muted")])

    def action_scroll_body(self, lines: int) -> None:
        """Scroll the sheet."""
        self.query_one("#help").scroll_relative(y=lines, animate=False)
