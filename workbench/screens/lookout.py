"""One thread that looks at all runs of the folder: it lists them for the Runs screen, and tells what becomes of them,
whichever screen is open. Runs that go on are explained as well while a person has asked to be told.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textual.message import Message

from workbench.screens.background import Background
from workbench.screens.queue_keys import QueueState, look

if TYPE_CHECKING:
    from workbench.runs.follow import Follower
    from workbench.runs.history import History
    from workbench.runs.store import RunSummary

LISTED_EVERY = 4  # looks at one run (``app.poll_seconds``) for one at all of them
HIDDEN_EVERY = 20  # … while the Runs screen is hidden
EXPLAIN_EVERY = 60.0  # seconds between two explanations of a run that is not open
TOLD = ("plateau", "diverging")  # verdicts that are news
WRONG = ("failed", "dead")
_BUSY, _BUSY_HIDDEN = 0.006, 0.003  # of a core, at most: a folder of thousands is looked at more rarely
_FIRST = 3.0  # seconds until the first look where the Runs screen is hidden: the first paint comes before it
_ASK = 1.0  # seconds: a thread that is not told to end would keep a closed workbench from ending
_BYTES = 8 << 20


@dataclass
class RunsListed(Message):
    """The runs of the folder, newest first."""

    runs: list[RunSummary]
    queue: QueueState = field(default_factory=QueueState)

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, RunsListed)


@dataclass
class Told(Message):
    """What became of a run; ``wrong``: that is bad."""

    text: str
    wrong: bool


class Lookout(Background):
    """``loop`` is for a thread of its own; the other methods are for any.

    Args:
        root: folder of runs. interval: seconds between looks at one run.
        tell: told what became of a run, in that thread; its second argument: whether that is bad.
        asked: whether a person wants to be told.
        shown: the run that a screen follows already; None: none does.
        clock: the time, for ages.
    """

    def __init__(
        self,
        root: Path,
        interval: float,
        tell: Callable[[str, bool], object],
        asked: Callable[[], bool],
        shown: Callable[[], Path | None],
        clock: Callable[[], float],
    ) -> None:
        super().__init__()
        self.root, self.interval, self.clock = root, interval, clock
        self.tell, self.asked, self.shown = tell, asked, shown
        self._post: Callable[[Message], object] | None = None  # to the screen that lists the runs, while it is shown
        self._before: dict[str, RunSummary] | None = None
        self._followed: dict[str, Follower] = {}
        self._explained: dict[str, tuple[int, float]] = {}  # evaluations known then, and when

    def list_for(self, post: Callable[[Message], object] | None) -> None:
        """Post ``RunsListed`` from now on, at once and whenever something changed; None: no longer."""
        self._post = post
        self._wake.set()

    def loop(self, cancelled: Callable[[], bool] = lambda: False) -> None:
        """Look until ``end``, or until ``cancelled`` says yes (asked at least once a second)."""
        last: tuple[Any, ...] | None = None
        posted: Callable[[Message], object] | None = None
        due = time.monotonic() + _FIRST
        while not (self._ended or cancelled()):
            post = self._post
            if time.monotonic() >= due or (post is not None and post is not posted):
                first, began = self._before is None, time.thread_time()
                runs, queue = self.look()
                # At first there are modules to load and runs to read; later a look takes about so much a run.
                took = 1e-4 * len(runs) if first else time.thread_time() - began
                now = (runs, queue, int(self.clock() // 10))
                if post is not None and (now != last or post is not posted):
                    last = now
                    post(RunsListed(runs, queue))
                posted = post
                every, share = (HIDDEN_EVERY, _BUSY_HIDDEN) if post is None else (LISTED_EVERY, _BUSY)
                due = time.monotonic() + max(self.interval * every, took / share)
            self._wake.wait(max(0.0, min(_ASK, due - time.monotonic())))
            self._wake.clear()

    def look(self) -> tuple[list[RunSummary], QueueState]:
        """Runs and queue as they are now; what became of them since the last look is told."""
        from workbench.runs.store import list_runs  # NumPy comes with it: not before the first paint

        # Best losses are for who sees the list: to search a long run for them takes half a second of CPU.
        runs = list_runs(self.root) if self._post is not None else list_runs(self.root, patience=0.0)
        before, self._before = self._before, {run.run: run for run in runs}
        for run in runs:
            for text, wrong in happened((before or {}).get(run.run), run):
                self.tell(text, wrong)
        going_on = {run.run for run in runs if run.state == "running"} if self.asked() else set()
        for gone in self._followed.keys() - going_on:
            del self._followed[gone]
        for run in runs:
            if run.run in going_on and self.shown() != Path(run.run):
                self._explain(run)
        return runs, look(self.root)

    def _explain(self, run: RunSummary) -> None:
        """Explain a run if it was evaluated since, and tell a verdict that is news."""
        from workbench.runs.follow import Follower

        follower = self._followed.setdefault(run.run, Follower(Path(run.run)))
        while follower.poll(_BYTES):
            if self._ended:
                return
        known, when = self._explained.get(run.run, (0, -EXPLAIN_EVERY))
        evaluations = len(follower.history.val)
        if evaluations == known or time.monotonic() < when + EXPLAIN_EVERY:
            return
        self._explained[run.run] = (evaluations, time.monotonic())
        try:
            verdict = explain(follower.run_dir, follower.history).get("verdict")
        except Exception:  # nothing that a run holds may end the looking
            return
        if verdict in TOLD and verdict != run.verdict:
            self.tell(f"{run.name}: {verdict}", False)


def happened(before: RunSummary | None, now: RunSummary) -> list[tuple[str, bool]]:
    """What is to be told of a run, and whether that is bad; ``before``: as it was at the last look."""
    if before is None or before.state != "running":
        return []
    if now.state != "running":
        return [(ended(now.name, now.state), now.state in WRONG)]
    told = []
    if now.lost and not before.lost:
        told.append((lost(now.name, now.step), True))
    if now.stalled and not before.stalled:
        told.append((stalled(now.name, now.step), True))
    return told


def ended(name: str, state: str) -> str:
    """What is told of a run that ended."""
    return f"{name}: {state}"


def lost(name: str, step: int) -> str:
    """… whose loss is not finite."""
    return f"{name}: the loss is no number since step {step:,}"


def stalled(name: str, step: int) -> str:
    """… that does not get on."""
    return f"{name}: stalled, nothing since step {step:,}"


def explain(run_dir: Path, history: History) -> dict[str, Any]:
    """Explain a run from a history that nobody else changes, and keep the answer in its directory where one may."""
    from workbench.export.markdown import write_diagnosis
    from workbench.plateau.diagnose import diagnose
    from workbench.runs.anchors import find
    from workbench.runs.facts import facts_of_run

    facts = facts_of_run(run_dir, history)
    answer: dict[str, Any] = diagnose(history, facts, run_dir, find(run_dir)).to_dict()
    with contextlib.suppress(OSError):  # a run on a disk that is not ours to write is explained all the same
        write_diagnosis(run_dir, answer)
    return answer
