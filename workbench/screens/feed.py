"""One thread that follows a run and draws its charts; it touches no widget, it posts messages.

harlequin's way: the thread owns the history, the screen owns the widgets. Messages replace older ones of their kind
that are still waiting (toad's idea), so that a flood of events costs one repaint.
"""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textual.message import Message

from workbench.plot import Limits, Row
from workbench.runs.follow import Follower
from workbench.runs.glance import Glance
from workbench.runs.history import History
from workbench.runs.launch import LOG_NAME
from workbench.runs.store import state_of
from workbench.screens.background import Background
from workbench.screens.figures import Axes, Request, draw, status
from workbench.screens.messages import StatusChanged
from workbench.screens.system import gauges
from workbench.widgets.run_header import RunStatus
from workbench.widgets.system_pane import Gauge

_BYTES = 8 << 20  # read between two looks at what else there is to do
EXPLAIN_EVERY = 4.0  # seconds between two explanations, at least, unless one is asked for
_LOG_LINES = 500
_SAMPLES = 60
_PATIENCE = 0.7  # seconds between two pictures of a run that is still being read
_ASK = 1.0  # seconds: a thread that is not told to end would keep a closed workbench from ending
_SILENT = 2.0  # seconds, at most, between looks at what changes though no event tells of it: death, a full disk


@dataclass
class FigureDrawn(Message):
    """A chart is drawn; ``name`` is the one it was asked for under."""

    run_dir: Path
    name: str
    rows: list[Row]
    shown: Limits = (0.0, 1.0)  # of the x axis, and all there is to show
    whole: Limits = (0.0, 1.0)

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, FigureDrawn) and message.name == self.name


@dataclass
class LogChanged(Message):
    """The newest lines of the engine's output, not yet escaped."""

    run_dir: Path
    lines: list[str]

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, LogChanged)


@dataclass
class Sampled(Message):
    """The newest samples, in order, not yet escaped."""

    run_dir: Path
    samples: list[dict[str, Any]]

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, Sampled)


@dataclass
class MachineSeen(Message):
    """How busy the run's machine is."""

    run_dir: Path
    gauges: tuple[Gauge, ...]

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, MachineSeen)


@dataclass
class Evaluated(Message):
    """There is something new to explain, now: no copy waits. The history is the receiver's own copy.

    Whoever explains it empties the list: Textual keeps the newest workers that ended, and with them what they were
    given, 20 MiB for a run of a million steps.
    """

    run_dir: Path
    history: list[History]

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, Evaluated)


@dataclass
class Probing(Message):
    """How far the run's probe is, "" where none is under way; ``failure``: what ended it."""

    run_dir: Path
    text: str
    failure: str = ""

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, Probing) and not message.failure


class RunFeed(Background):
    """Follows ``run_dir`` in the thread that calls ``loop``; its other methods are for any thread.

    Args:
        post: takes messages; thread-safe (``Widget.post_message``).
        interval: seconds between looks.
        clock: the time, by which a run stalls.
    """

    def __init__(
        self,
        run_dir: Path,
        post: Callable[[Message], object],
        interval: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        self.run_dir, self.post, self.interval, self.clock = run_dir, post, interval, clock
        self._lock = threading.Lock()
        self._requests: dict[str, Request] = {}
        self._axes: dict[str, Axes] = {}
        self._drawn: dict[str, tuple[Request, int, int]] = {}
        self._paused = self._explain = False
        self._status: RunStatus | None = None
        self._log: tuple[int, int] | None = None
        self._gauges: tuple[Gauge, ...] = ()
        self._sampled: list[dict[str, Any]] = []
        self._explained, self._explained_at = (-1, ""), -EXPLAIN_EVERY
        self._probing = ""
        self._probed = False  # a probe was seen at work
        self._reported = -_PATIENCE
        self._weighed: tuple[object, ...] = ()  # what status and gauges were last made of, and when
        self._weighed_at = -_SILENT
        self._state = ""
        self._found: list[Message] = []  # to be posted

    def want(self, name: str, request: Request | None) -> None:
        """Draw this chart from now on, in this size; None: no longer."""
        with self._lock:
            if request is None or request.width <= 0 or request.height <= 0:
                self._requests.pop(name, None)
            else:
                self._requests[name] = request
        self._wake.set()

    def explain(self) -> None:
        """Post ``Evaluated`` now, even though no evaluation is new."""
        self._explain = True
        self._wake.set()

    def pause(self, paused: bool) -> None:
        """While paused (its screen is hidden), nothing is read or drawn."""
        self._paused = paused
        self._weighed = ()  # whoever comes back, or has acted on the run, wants to know its state now
        self._wake.set()

    def loop(self, cancelled: Callable[[], bool] = lambda: False) -> None:
        """Follow until ``end``, or until ``cancelled`` says yes (asked at least once a second)."""
        follower = Follower(self.run_dir)
        look = follower.glance()
        if look is not None:
            self._report(follower, look)
        while not (self._ended or cancelled()):
            more = False
            if not self._paused:
                more = follower.poll(_BYTES)
                look = look if more else None
                self._report(follower, look, caught_up=not more)
            if not more:
                self._wake.wait(_ASK if self._paused else min(_ASK, self.interval))
            self._wake.clear()

    def _report(self, follower: Follower, look: Glance | None, *, caught_up: bool = False) -> None:
        """Post what is new: of the first look, until all that it looked at is read."""
        if not caught_up and time.monotonic() < self._reported + _PATIENCE:
            return
        self._reported = time.monotonic()
        history = follower.history if look is None else look.history
        reading = follower.offset / look.size if look else None
        self._weigh(history, reading)
        with self._lock:
            requests = dict(self._requests)
        for name, request in requests.items():
            drawn, before = (request, history.version, history.one_in), self._drawn.get(name)
            if drawn != before:
                self._drawn[name] = drawn
                axes = self._axes.setdefault(name, Axes())
                rows = draw(request, history, axes)
                self._found.append(FigureDrawn(self.run_dir, name, rows, axes.shown, axes.whole))
                if before is None or before[0] != request:  # a person waits for this one
                    self._post_found()
        self._read_log(follower)
        newest = history.samples[-_SAMPLES:]
        if newest != self._sampled:
            self._sampled = newest
            self._found.append(Sampled(self.run_dir, newest))
        self._look_at_probe()
        evaluations = (sum(len(columns) for columns in history.evals.values()), self._state)
        new, late = evaluations != self._explained and evaluations[0], self._explained_at + EXPLAIN_EVERY
        if caught_up and (self._explain or (new and self._reported >= late)):
            self._explained, self._explained_at, self._explain = evaluations, self._reported, False
            self._found.append(Evaluated(self.run_dir, [snapshot(history)]))
        self._post_found()

    def _post_found(self) -> None:
        """All that was found, at once: one repaint, not one for each."""
        found, self._found = self._found, []
        for message in found:
            self.post(message)

    def _weigh(self, history: History, reading: float | None) -> None:
        """Post status and gauges if they are others; made anew when there are events, else now and then."""
        made_of, now = (history, history.version, reading), time.monotonic()
        if made_of == self._weighed and now < self._weighed_at + min(_SILENT, 4 * self.interval):
            return
        self._weighed, self._weighed_at = made_of, now
        self._state = state_of(self.run_dir, history)
        new = status(history, self.run_dir.name, self._state, reading, self.clock())
        # Compared as text: what is not known is NaN, which equals nothing, and would be painted anew at each look.
        if repr(new) != repr(self._status):
            self._status = new
            self._found.append(StatusChanged(self.run_dir, new))
        gauges_now = gauges(history, self.run_dir, self._state)
        if repr(gauges_now) != repr(self._gauges):
            self._gauges = gauges_now
            self._found.append(MachineSeen(self.run_dir, gauges_now))

    def _look_at_probe(self) -> None:
        """Tell how far a probe is; once it has ended, have the run explained anew."""
        if not (self.run_dir / "probes" / "current").is_file():
            return
        from workbench.probes import conduct

        progress, failure = conduct.under_way(self.run_dir), ""
        working = progress is not None and progress.running
        if self._probed and not working:
            self._explain = True
            failure = conduct.failure(self.run_dir)
        self._probed = working
        text = "" if progress is None else str(progress)
        if text != self._probing or failure:
            self._probing = text
            self._found.append(Probing(self.run_dir, text, failure))

    def _read_log(self, follower: Follower) -> None:
        try:
            stat = (self.run_dir / LOG_NAME).stat()
        except OSError:
            return
        if (stat.st_size, stat.st_mtime_ns) != self._log:
            self._log = (stat.st_size, stat.st_mtime_ns)
            self._found.append(LogChanged(self.run_dir, follower.log_tail(_LOG_LINES)))


def snapshot(history: History) -> History:
    """A copy that another thread may read while the original grows."""
    copied = copy.copy(history)
    copied.steps, copied.systems = history.steps.copy(), history.systems.copy()
    copied.evals = {split: columns.copy() for split, columns in history.evals.items()}
    for name in ("resumes", "checkpoints", "warnings", "samples", "phases"):
        setattr(copied, name, list(getattr(history, name)))
    return copied
