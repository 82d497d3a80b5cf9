"""The keys in the footer: made anew when they differ, not whenever the focus moves."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.screen import Screen
from textual.widgets import Footer


class KeyBar(Footer):
    """Textual's footer, which mounts a widget for each key at every change of focus and (8.2) keeps what watched its
    ``compact`` for ever: an hour of moving about was a hundred megabytes, and pauses of the garbage collector with it.
    """

    def __init__(self) -> None:
        super().__init__(compact=True, show_command_palette=False)
        self._keys: list[tuple[str, str, bool]] | None = None

    def compose(self) -> ComposeResult:
        """The keys, without those that watched for them before."""
        getattr(self, "__watchers", {}).pop("compact", None)
        yield from super().compose()

    def bindings_changed(self, screen: Screen[object]) -> None:
        """Other keys may be active: show them if they are others."""
        if screen is not self.screen or not screen.app.app_focus:
            super().bindings_changed(screen)
            return
        keys = [(b.key, b.description, enabled) for _, b, enabled, _ in screen.active_bindings.values() if b.show]
        if keys != self._keys or not self._bindings_ready:
            self._keys = keys
            super().bindings_changed(screen)
