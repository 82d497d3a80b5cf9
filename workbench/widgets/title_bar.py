"""The top line: the screens with their keys, the one that is open, and where we are."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content
from textual.events import Click
from textual.reactive import reactive
from textual.widget import Widget

from workbench.text import plain

_NAME = " gptbench "


class TitleBar(Widget):
    """``tabs`` are (key, mode, title); a click on one runs the app's action ``show_mode(mode)``."""

    DEFAULT_CSS = """
    TitleBar {
        dock: top; height: 1; background: $panel; color: $foreground;
    }
    """
    place = reactive("")

    def __init__(self, tabs: Sequence[tuple[str, str, str]], open_mode: str) -> None:
        super().__init__()
        self.tabs, self.open_mode = tabs, open_mode

    def render(self) -> Content:
        line = Content.styled(_NAME, "bold $text-accent")
        for key, mode, title in self.tabs:
            tab = Content.styled(
                f" {key} {title} ",
                "bold $block-cursor-foreground on $block-cursor-background" if mode == self.open_mode else "",
            )
            line += tab
        room = self.size.width - line.cell_length - 2
        place = plain(self.place)
        if room > 8 and place:
            place = place if len(place) <= room else "…" + place[1 - room :]
            line += Content.styled(place.rjust(room + 1), "$text-muted")
        return line

    async def on_click(self, event: Click) -> None:
        """Open the screen clicked on."""
        at = len(_NAME)
        for key, mode, title in self.tabs:
            width = len(f" {key} {title} ")
            if at <= event.x < at + width:
                await self.run_action(f"app.show_mode('{mode}')")
            at += width
