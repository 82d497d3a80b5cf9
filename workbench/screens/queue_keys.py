"""What the Runs screen does with the queue: who waits at which place, in and out of it, its process on and off."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from workbench.errors import UserError
from workbench.screens.base import WorkbenchScreen


@dataclass(frozen=True)
class QueueState:
    """The queue as it was last looked at.

    Attributes:
        places: names of the runs that wait → place, from 1.
        refused: names of runs that could not be started → why.
        lives: whether its process does.
        wrong: why it cannot be read; empty if it can.
    """

    places: dict[str, int] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    lives: bool = False
    wrong: str = ""


def look(root: Path) -> QueueState:
    """Look at the queue of a runs folder, in a thread."""
    from workbench.runs import queue

    try:
        found = queue.read(root)
    except UserError as error:
        return QueueState(wrong=str(error))
    places = {name: place for place, name in enumerate(found.waiting, 1)}
    return QueueState(places, found.refused, queue.pid(root) is not None if (root / queue.FOLDER).is_dir() else False)


def line_of(state: QueueState) -> tuple[str, bool]:
    """What is said of the queue below the runs, and whether somebody should do something about it."""
    if state.wrong:
        return state.wrong, True
    if state.places and not state.lives:
        return f"queue: {len(state.places)} waiting, and nothing starts them: W", True
    if state.places:
        return f"queue: {len(state.places)} waiting", False
    return "", False


class QueueKeys(WorkbenchScreen):
    """A screen that has runs to queue: ``chosen_runs`` gives them, ``look_again`` shows what came of it."""

    def __init__(self) -> None:
        super().__init__()
        self.queue_state = QueueState()

    def chosen_runs(self) -> list[Path]:
        """The marked runs, or the one under the cursor."""
        raise NotImplementedError

    def look_again(self) -> None:
        """List runs and queue anew; called in a thread."""
        raise NotImplementedError

    def action_queue(self) -> None:
        """Put the chosen runs into the queue; those that wait already, out of it."""
        from workbench.runs import queue

        chosen = self.chosen_runs()
        if not chosen:
            self.say("no run under the cursor", wrong=True)
            return
        root, waiting = self.bench.runs_root, self.queue_state.places

        def change() -> str:
            if all(run.name in waiting for run in chosen):
                for run in chosen:
                    queue.remove(root, run.name)
                return f"{_named(chosen)} waits no more" if len(chosen) == 1 else f"{_named(chosen)} wait no more"
            added = [run for run in chosen if run.name not in waiting]
            places = [queue.add(root, run) for run in added]
            queue.start(root)
            return f"{_named(added)} queued at place {places[0]}" + (f" to {places[-1]}" if len(places) > 1 else "")

        self.in_thread(change, lambda done: self.look_again())

    def action_queue_process(self) -> None:
        """Start the queue's process, or end it."""
        from workbench.runs import queue

        root, state = self.bench.runs_root, self.queue_state

        def change() -> str:
            if state.lives:
                queue.stop(root)
                return "the queue starts nothing any more; what runs goes on, what waits stays (W starts it again)"
            if not state.places:
                raise UserError("nothing waits: w queues the run under the cursor, W on the Launch screen a new one")
            queue.start(root)
            return (
                f"the queue starts the next run when a GPU, or without one the CPU, is free: {len(state.places)} wait"
            )

        self.in_thread(change, lambda done: self.look_again())


def _named(runs: list[Path]) -> str:
    return runs[0].name if len(runs) == 1 else f"{len(runs)} runs"
