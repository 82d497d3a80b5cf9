"""The demo, played on the screens themselves: shards, statistics, a run, why it went flat, summary.md.

It presses the same keys a person would; between two steps there is time to look.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from textual.message import Message

from workbench.screens.data import DataScreen
from workbench.screens.messages import CatalogueRead, Counted, Diagnosed, StatusChanged
from workbench.screens.run import RunScreen
from workbench.text import plain

if TYPE_CHECKING:
    from workbench.app import GptbenchApp

_LOOK = 4.0  # seconds to look at the statistics
_ENDED = ("finished", "stopped", "failed", "dead")


class Tour:
    """Plays the demo below ``base``. ``hear`` takes the screens' messages; the app passes them on."""

    def __init__(self, app: GptbenchApp, base: Path) -> None:
        self.app, self.base = app, base
        self.shards: list[Path] = []
        self.run_dir: Path | None = None
        self.step = "shards"
        self._ended = False

    def begin(self) -> None:
        """Build the shards, then show them."""
        self._say("demo 1/5: shards of this Python's own library")
        self.app.run_worker(self._prepare, thread=True, group="demo", exit_on_error=False)

    def hear(self, message: Message) -> None:
        """Go on where the message is what the step waits for."""
        if isinstance(message, CatalogueRead) and self.step == "shards":
            self.step = "statistics"
            self._say("demo 2/5: what they hold")
            if isinstance(self.app.screen, DataScreen):
                self.app.screen.action_statistics()
        elif isinstance(message, Counted) and self.step == "statistics":
            self.step = "run"
            self.app.set_timer(_LOOK, self._launch)
        elif isinstance(message, StatusChanged) and self.step == "explain" and message.run_dir == self.run_dir:
            self._ended = message.status.state in _ENDED
        elif isinstance(message, Diagnosed) and self._ended and message.run_dir == self.run_dir:
            self._ended, self.step = False, "done"
            self._say("demo 4/5: why the loss is where it is")
            self.app.set_timer(_LOOK, self._export)

    def _prepare(self) -> None:
        from workbench import demo

        try:
            shards = demo.prepare(self.base)
        except Exception as error:  # one line, as every error a person can mend
            self.app.call_from_thread(self._say, str(error), wrong=True)
            return
        self.app.call_from_thread(self._show, shards)

    def _show(self, shards: list[Path]) -> None:
        self.shards = shards
        self.app.data_paths = [str(path) for path in shards]
        if isinstance(self.app.screen, DataScreen):
            self.app.screen.open_paths(self.app.data_paths)

    def _launch(self) -> None:
        self._say("demo 3/5: a small GPT, in a process of its own; quitting leaves it running")
        self.app.run_worker(self._start, thread=True, group="demo", exit_on_error=False)

    def _start(self) -> None:
        from workbench import demo
        from workbench.runs import launch

        try:
            run_dir = launch.create(demo.configuration(self.shards), self.app.runs_root, demo.NAME)
            launch.start(run_dir)
        except Exception as error:
            self.app.call_from_thread(self._say, str(error), wrong=True)
            return
        self.run_dir, self.step = run_dir, "explain"
        self.app.call_from_thread(self.app.open_run, run_dir)

    def _export(self) -> None:
        if isinstance(self.app.screen, RunScreen):
            self._say("demo 5/5: the summary, as e writes it; ? lists what else there is")
            self.app.screen.action_export()

    def _say(self, text: str, *, wrong: bool = False) -> None:
        self.app.notify(plain(text), markup=False, timeout=5, severity="error" if wrong else "information")
