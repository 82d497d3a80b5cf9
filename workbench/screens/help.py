"""The help, written from the table of keys."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.content import Content
from textual.events import Resize
from textual.screen import ModalScreen
from textual.widgets import Static

from workbench.screens.keys import EVERYWHERE, MODES, MOVEMENT, PANES, PUSHED, SCREENS
from workbench.widgets.scrolling import SCROLL_KEYS
from workbench.widgets.sheet import Sheet, beside

_ENDLESS = 10_000  # cells: a sheet that wraps nothing


class _Body(VerticalScroll):
    BINDINGS = SCROLL_KEYS


class HelpScreen(ModalScreen[None]):
    """Keys of the screen it was called from, then those that work everywhere."""

    BINDINGS = [
        Binding("escape,question_mark,q,enter", "dismiss", "Close", show=False),
    ]

    def __init__(self, mode: str, above: str = "") -> None:
        super().__init__()
        self.mode, self.above = mode, above  # title of what lies open above the screen

    def compose(self) -> ComposeResult:
        """One scrolling sheet."""
        with _Body(id="help"):
            yield Sheet("", id="help-sheet")

    def on_resize(self, event: Resize) -> None:
        """Wrap anew."""
        box = self.query_one("#help")
        width = box.scrollable_content_region.width or min(70, event.size.width - 6)
        self.query_one("#help-sheet", Static).update(self.sheet(width))

    def sheet(self, width: int = _ENDLESS) -> Content:
        """The help as text of so many cells."""
        of_screen = {mode: [(f"{title} screen", SCREENS[mode])] for _, mode, title in MODES}
        of_screen["data"] += [(f"{title}, a pane of Data", keys) for title, keys in PANES.items()]
        of_screen["runs"] += [(f"{title}, above Runs", keys) for title, keys in PUSHED.items()]
        here = sorted(of_screen.pop(self.mode, []), key=lambda group: not group[0].startswith(self.above or "\0"))
        others = [group for groups in of_screen.values() for group in groups]
        groups = [*here, ("Everywhere", EVERYWHERE), ("Moving", MOVEMENT), *others]
        parts: list[Content] = []
        for title, keys in groups:
            parts.append(Content.styled(title, "bold $text-accent"))
            for key in keys:
                parts.append(beside(Content.styled(f"  {key.display:<16}", "bold"), Content(key.help), width))
            parts.append(Content(""))
        return Content("\n").join([*parts, Content.styled("esc closes this", "$text-muted")])
