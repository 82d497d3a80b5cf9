"""The panes of the Run screen: which there are, which one is gone to, one of them alone; and the search of the log."""

from __future__ import annotations

from textual import on
from textual.content import Content
from textual.widgets import Static

from workbench.screens.charts import ChartKeys
from workbench.widgets.log_view import LogView
from workbench.widgets.samples_pane import SamplesPane

PANES = ("why", "lr", "log", "system")


class PaneKeys(ChartKeys):
    """A screen with the panes ``PANES``, ``#samples``, ``#loss`` and the line ``#tabs`` that names them."""

    def __init__(self) -> None:
        super().__init__()
        self._pane = 0
        self._full = False
        self._found = ""  # which match of the log's search, of how many

    def _names(self) -> tuple[str, ...]:
        """The panes that one can go to."""
        panes = PANES if self.query_one(SamplesPane).has_class("-absent") else (*PANES, "samples")
        return ("loss", *panes) if self._full else panes

    def action_charts(self) -> None:
        """All charts in a grid, or the panes, all of them."""
        current = self._names()[self._pane]
        self._full = False
        self._pane = self._names().index(current) if current in self._names() else 0
        super().action_charts()
        self._mark_panes()

    def action_log_search(self) -> None:
        """Ask what to look for in the log, and go to the first match."""
        from workbench.widgets.prompt import Ask

        def answered(text: str | None) -> None:
            if text is None:
                return
            self._to_log()
            if not self.query_one(LogView).search(text) and text:
                self.say(f"no line of the log holds “{text}”", wrong=True)

        self.app.push_screen(Ask("Search the log, capitals or not", self.query_one(LogView).wanted), answered)

    def action_log_match(self, direction: int) -> None:
        """The next or the previous match."""
        log = self.query_one(LogView)
        if not log.wanted:
            self.action_log_search()
            return
        self._to_log()
        if not log.go(direction):
            self.say(f"no line of the log holds “{log.wanted}”", wrong=True)

    def _to_log(self) -> None:
        if self.has_class("-grid"):
            self.action_charts()
        self._pane = self._names().index("log")
        self._show_pane()

    @on(LogView.Found)
    def _log_found(self, message: LogView.Found) -> None:
        self._found = f"{message.at}/{message.of}" if message.of else ""
        self.query_one(LogView).border_title = f"match {self._found}" if self._found else None
        self._mark_panes()

    def action_pane(self, direction: int) -> None:
        """Go to the next or the previous pane, or chart of the grid."""
        if self.has_class("-grid"):
            self.next_chart(direction)
            return
        names = self._names()
        self._pane = (self._pane + direction) % len(names)
        self._show_pane()
        self.layout_changed()

    def action_full(self) -> None:
        """One pane alone, or all."""
        if self.has_class("-grid"):
            self.alone()
            return
        focused = self.focused.id if self.focused is not None else None
        self._full = not self._full
        names = self._names()
        self._pane = names.index(focused) if focused in names else 0
        self._show_pane()
        self.layout_changed()

    def on_descendant_focus(self) -> None:
        """Tab moves the focus; the pane in the narrow layout follows it."""
        names = self._names()
        if not self.has_class("-grid") and self.focused is not None and self.focused.id in names:
            self._pane = names.index(self.focused.id)
            self.layout_changed()

    def _show_pane(self) -> None:
        self._mark_panes()
        self.query_one(f"#{self._names()[self._pane]}").focus()

    def _mark_panes(self) -> None:
        names = self._names()
        self._pane %= len(names)
        current = names[self._pane]
        if not self.has_class("-grid"):
            self.set_class(self._full, "-full")
        self.set_class(self._full and current == "loss", "-full-loss")
        for name in ("loss", *PANES, "samples"):
            self.query_one(f"#{name}").set_class(name == current, "-current")
        titles = {name: f"log {self._found}" if name == "log" and self._found else name for name in names}
        tabs = [
            Content.styled(f" {titles[name]} ", "bold reverse" if name == current else "$text-muted") for name in names
        ]
        self.query_one("#tabs", Static).update(Content(" ").join(tabs))
        self.call_after_refresh(self.want_all)
