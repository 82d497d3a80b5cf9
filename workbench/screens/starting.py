"""Three ways from a plan to a run: start it now, let it wait in the queue, or get the lines that start it by hand."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from textual import on, work
from textual.message import Message
from textual.widgets import Static

from engine.config import Config
from workbench.screens.base import WorkbenchScreen
from workbench.screens.job import Step
from workbench.widgets.progress import Progress

Way = Literal["start", "queue", "lines"]
_NODES = "How many machines? One gives the line for this one; more, those of torchrun and Slurm"


@dataclass
class NotStarted(Message):
    """Why no run was started; empty: it was stopped."""

    text: str


@dataclass
class Made(Message):
    """The run is made: its process is on its way, it waits at a place of the queue, or lines would start it."""

    run_dir: Path
    place: int | None = None
    lines: tuple[str, ...] = ()


class StartKeys(WorkbenchScreen):
    """A screen with a ``#starting`` line whose plan becomes a run; ``plan_to_start`` gives it."""

    def __init__(self) -> None:
        super().__init__()
        self._starting: threading.Event | None = None  # ends the start under way
        self._progress = Progress()

    def plan_to_start(self) -> tuple[Config, str | None] | None:
        """The configuration and the name that was chosen; None where there is none, which has been said."""
        raise NotImplementedError

    def action_start(self) -> None:
        """Start the run."""
        self._begin("start")

    def action_queue(self) -> None:
        """Let it wait for a free GPU."""
        self._begin("queue")

    def action_lines(self) -> None:
        """Ask for how many nodes, then make the run and show the lines."""
        from workbench.widgets.prompt import Ask

        def answered(nodes: str | None) -> None:
            if nodes is None:
                return
            if not (nodes.strip().isdigit() and 1 <= int(nodes) <= 10_000):
                self.say(f"{nodes!r} is no number of machines", wrong=True)
                return
            self._begin("lines", int(nodes))

        if self._starting is None and self.plan_to_start() is not None:
            self.app.push_screen(Ask(_NODES, "1"), answered)

    def cancel_start(self) -> bool:
        """Stop a start that is not yet a run; False if none is under way."""
        if self._starting is None:
            return False
        self._starting.set()
        return True

    def _begin(self, way: Way, nodes: int = 1) -> None:
        if self._starting is None and (planned := self.plan_to_start()) is not None:
            self._starting, self._progress = threading.Event(), Progress()
            self._start(*planned, way, nodes, self._starting)

    @on(Step)
    def _step(self, message: Step) -> None:
        if message.cancel is self._starting:
            self._progress.tell(message.stage, message.fraction)
            line = self.query_one("#starting", Static)
            line.update(self._progress.line("esc stops"))
            line.add_class("-shown")

    def _start_ended(self) -> None:
        self._starting = None
        self.query_one("#starting").remove_class("-shown")

    @on(Made)
    def _made(self, message: Made) -> None:
        self._start_ended()
        if message.lines:
            from workbench.widgets.prompt import Shown

            self.app.push_screen(Shown(f"{message.run_dir.name} is made; these start it", "\n\n".join(message.lines)))
        elif message.place is not None:
            self.bench.remember_here("selected", str(message.run_dir))
            self.say(f"{message.run_dir.name} waits in the queue, at place {message.place}")
            self.bench.action_show_mode("runs")
        else:
            self.bench.open_run(message.run_dir)

    @on(NotStarted)
    def _not_started(self, message: NotStarted) -> None:
        self._start_ended()
        self.say(message.text or "stopped: no run was made", wrong=bool(message.text))

    @work(thread=True, group="start", exit_on_error=False)
    def _start(self, config: Config, name: str | None, way: Way, nodes: int, cancel: threading.Event) -> None:
        from data.workers import Cancelled
        from workbench.runs import launch, queue
        from workbench.runs.machine import refuse_if_too_large

        def resolving(stage: str, fraction: float) -> None:
            self.post_message(Step(cancel, stage, fraction))

        root = self.bench.runs_root
        try:
            if way == "lines":
                launch.refuse_uneven(config, nodes)
            else:
                refuse_if_too_large(config)
            if way == "queue":
                queue.refuse_too_many(config)
                queue.read(root)  # a queue that cannot be read is said before a run is made
            run_dir = launch.create(config, root, name, resolving, cancel.is_set)
            made = Made(run_dir)
            if way == "lines":
                made.lines = tuple(launch.command_lines(run_dir, config.train.processes, nodes))
            elif way == "queue":
                made.place = queue.add(root, run_dir)
                queue.start(root)
            else:
                launch.start(run_dir)
        except Cancelled:
            self.post_message(NotStarted(""))
            return
        except Exception as error:  # UserError, ShardError, ConfigError: one line; nothing here may end the app
            self.post_message(NotStarted(str(error) or type(error).__name__))
            return
        self.post_message(made)
