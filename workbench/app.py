"""The workbench: four screens, the keys that work everywhere, and the command palette. Nothing else.

Screens are modes, so each keeps its state while another is open; they are imported when they are first shown, and
DuckDB, plotext and the encoding only in the workers that need them. Nothing here imports torch: a run is a process of
its own, found by its directory, and closing the workbench leaves it going.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textual import on
from textual.app import SystemCommand
from textual.dom import DOMNode
from textual.message import Message
from textual.screen import Screen
from textual.worker import get_current_worker

from workbench import memory, remember
from workbench.screens.base import WorkbenchScreen
from workbench.screens.keys import EVERYWHERE, MODES, bindings
from workbench.screens.lookout import Lookout, Told
from workbench.screens.messages import CatalogueRead, Counted, Diagnosed, StatusChanged
from workbench.screens.telling import TellingApp

if TYPE_CHECKING:
    from workbench.screens.tour import Tour

POLL_LOCAL, POLL_SSH = 0.5, 2.0  # seconds between looks at a run; repainting is what a slow line feels
PATIENCE = 3.0  # seconds that threads have to end once the workbench is closed
FOLDERS = 100  # runs folders whose last selection is remembered
SAVE_AFTER = 1.0  # seconds between a change of what is remembered and its file
FREEZE_AFTER = 2.0  # seconds after the start: the first screen stands
HANGUP_CHECK = 2.0  # seconds between looks whether the terminal is still there


class GptbenchApp(TellingApp):
    """The workbench on a runs folder.

    Args:
        runs_root: folder of run directories; it need not exist yet.
        open_run: run directory to show at once.
        data_paths: parquet files, folders or globs to show at once.
        demo: folder in which the demo is to be played, on these screens.
        clock: the time, for ages; tests freeze it.
    """

    TITLE = "gptbench"
    CSS_PATH = "app.tcss"
    BINDINGS = bindings(EVERYWHERE)

    def __init__(
        self,
        runs_root: Path,
        open_run: Path | None = None,
        data_paths: list[str] | None = None,
        demo: Path | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        # Read once, by App's own __init__: the screen that is painted first.
        self.DEFAULT_MODE = "run" if open_run else "data" if data_paths or demo else "runs"  # type: ignore[misc]
        super().__init__()
        memory.keep_little()
        self.runs_root = runs_root
        self.run_dir = open_run
        self.data_paths = list(data_paths or [])
        self.selected: list[str] = []  # shards chosen on the Data screen, for Launch
        self.statistics: dict[frozenset[str], dict[str, Any]] = {}  # shards → what was counted of them
        self.recipe = ""  # recipe that the next run takes, and what it leaves of which shards, if previewed
        self.planned_options: dict[str, Any] | None = None  # that the Launch screen is to begin with
        self.planned_tokens: int | None = None  # that the run planned on the Launch screen trains on
        self.recipe_effect: tuple[frozenset[str], dict[str, Any] | None] | None = None
        self.clock = clock
        self.demo = demo
        self.tour: Tour | None = None
        self._left = threading.Event()
        self.memory = remember.load()
        self._unsaved: dict[str, Any] = {}
        if open_run is None and demo is None and (opened := self.recall_here("opened")):
            self.run_dir = Path(opened) if Path(opened).is_dir() else None  # what the Run screen begins with
        theme = self.memory.get("theme")
        if isinstance(theme, str) and theme in self.available_themes and "TEXTUAL_THEME" not in os.environ:
            self.theme = theme
        for _, mode, _ in MODES:
            self.add_mode(mode, partial(_make_screen, mode))
        over_ssh = "SSH_CONNECTION" in os.environ
        if over_ssh and "TEXTUAL_ANIMATIONS" not in os.environ:
            self.animation_level = "none"
        self.poll_seconds = _seconds("GPTBENCH_POLL", POLL_SSH if over_ssh else POLL_LOCAL)
        self.lookout = Lookout(
            runs_root,
            self.poll_seconds,
            lambda text, wrong: self.post_message(Told(text, wrong)),
            lambda: self.notify_level != "here",
            lambda: self.run_dir if self.current_mode == "run" else None,
            clock,
        )

    def on_mount(self) -> None:
        """Remember the theme; watch for a terminal that went away without a signal."""
        self.watch(self, "theme", lambda theme: self.remember("theme", theme), init=False)
        self.run_worker(self._look_out, thread=True, group="lookout", exit_on_error=False)
        if self.is_web:
            self.set_interval(HANGUP_CHECK, partial(self._leave_if_orphaned, os.getppid()))
        elif not self.is_headless:
            self.set_interval(HANGUP_CHECK, self._leave_if_hung_up)
            # What stands now stays: collections that look through all of it are pauses between a key and its paint.
            self.set_timer(FREEZE_AFTER, gc.freeze)
        if self.demo is not None:
            from workbench.screens.tour import Tour

            self.tour = Tour(self, self.demo)
            self.tour.begin()

    @on(CatalogueRead)
    @on(Counted)
    @on(StatusChanged)
    @on(Diagnosed)
    def _heard(self, message: Message) -> None:
        if self.tour is not None:
            self.tour.hear(message)

    def on_unmount(self) -> None:
        """Closed: a thread that hangs on a slow disk must not keep the process (Python waits for its threads)."""
        self.lookout.end()
        self._save()
        if not self.is_headless:
            threading.Thread(target=self._leave_anyhow, daemon=True, name="leave").start()

    def remember(self, name: str, value: Any) -> None:
        """Remember a value (JSON) for the next time; it is saved a little later, in a thread."""
        if self.memory.get(name) == value:
            return
        self.memory[name] = value
        if not self._unsaved and self.is_running:
            self.set_timer(SAVE_AFTER, lambda: self.run_worker(self._save, thread=True, exit_on_error=False))
        self._unsaved[name] = value

    def remember_here(self, name: str, value: str) -> None:
        """As ``remember``, for this runs folder alone."""
        known = self.memory.get(name)
        others = [item for item in known.items() if item[0] != str(self.runs_root)] if isinstance(known, dict) else []
        self.remember(name, dict([*others[-FOLDERS + 1 :], (str(self.runs_root), value)]))

    def recall_here(self, name: str) -> str | None:
        """What ``remember_here`` was told."""
        known = self.memory.get(name)
        value = known.get(str(self.runs_root)) if isinstance(known, dict) else None
        return value if isinstance(value, str) and "\0" not in value else None

    def _save(self) -> None:
        changes, self._unsaved = self._unsaved, {}
        if changes:
            with suppress(OSError):  # a home that cannot be written: nothing is remembered
                remember.save(changes)

    def run(self, *args: Any, **options: Any) -> Any:
        """Run until it is closed; as ``textual.app.App.run``."""
        try:
            return super().run(*args, **options)
        finally:
            self._left.set()

    def _leave_anyhow(self) -> None:
        if not self._left.wait(PATIENCE):
            os._exit(self.return_code or 0)

    def action_show_mode(self, mode: str) -> None:
        """Open a screen. A modal one, such as the help, is closed first."""
        while len(self.screen_stack) > 1:
            self.pop_screen()
        self.switch_mode(mode)

    def action_help(self) -> None:
        """Show the keys."""
        from workbench.screens.help import HelpScreen

        if not isinstance(self.screen, HelpScreen):
            above = self.screen.ABOVE if isinstance(self.screen, WorkbenchScreen) else ""
            self.push_screen(HelpScreen(self.current_mode, above))

    def open_run(self, run_dir: Path) -> None:
        """Show a run on the Run screen."""
        from workbench.screens.run import RunScreen

        self.run_dir = run_dir
        self.remember_here("opened", str(run_dir))
        self.action_show_mode("run")
        if isinstance(self.screen, RunScreen) and self.screen.is_mounted:
            self.screen.follow()  # it was open already, on another run

    def plan_like(self, run_dir: Path, changes: Mapping[str, Any]) -> None:
        """Open Launch filled in with a run's configuration, some options of it changed.

        Raises:
            engine.config.ConfigError: the configuration cannot be read.
        """
        from engine.config import load
        from workbench.screens.options import changes_of

        config = load(run_dir / "config.toml")
        self.selected = list(config.data.paths)
        self.planned_options = {**changes_of(config), **changes}
        self.recipe = config.data.recipe
        self.action_show_mode("launch")

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Every key of the table by its help text, then Textual's own commands that make sense here."""
        for title, keys, node in screen.offered() if isinstance(screen, WorkbenchScreen) else ():
            for key in keys:
                if key.action:
                    run = partial(self._run_key, key.action, node)
                    yield SystemCommand(f"{title}: {key.title}", f"{key.help}  ({key.display})", run)
        for _, mode, title in MODES:
            yield SystemCommand(f"Show {title}", f"the {title} screen", partial(self.action_show_mode, mode))
        yield SystemCommand("Help", "every key", self.action_help)
        level = self.notify_level
        yield SystemCommand(
            "Notifications",
            f"how runs that stop, stall or go flat are told of; now: {level}  (!)",
            self.action_notifications,
        )
        for command in super().get_system_commands(screen):
            if command.title in ("Theme", "Quit", "Screenshot"):
                yield command

    async def _run_key(self, action: str, node: DOMNode) -> None:
        await self.run_action(action, default_namespace=node)

    def _look_out(self) -> None:
        worker = get_current_worker()
        self.lookout.loop(lambda: worker.is_cancelled)

    def _leave_if_orphaned(self, server: int) -> None:
        """The web server that this page belongs to was killed."""
        if os.getppid() != server:
            os._exit(129)

    def _leave_if_hung_up(self) -> None:
        """A terminal that is gone reads as an endless end of file: leave rather than spin. Runs go on."""
        if sys.__stdin__ is None or not os.isatty(sys.__stdin__.fileno()):
            os._exit(129)


def _make_screen(mode: str) -> Screen[None]:
    """Build a screen, importing it only now."""
    if mode == "data":
        from workbench.screens.data import DataScreen

        return DataScreen()
    if mode == "launch":
        from workbench.screens.launch import LaunchScreen

        return LaunchScreen()
    if mode == "run":
        from workbench.screens.run import RunScreen

        return RunScreen()
    from workbench.screens.runs import RunsScreen

    return RunsScreen()


def _seconds(variable: str, default: float) -> float:
    try:
        return max(0.05, float(os.environ.get(variable, default)))
    except ValueError:
        return default
