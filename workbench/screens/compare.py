"""The comparison of marked runs: one chart of all, how each stands, and where their configurations differ."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.message import Message
from textual.worker import get_current_worker

from workbench.plot import PALETTE, Limits, Row
from workbench.runs.follow import Follower
from workbench.screens.background import Background
from workbench.screens.figures import Axes
from workbench.screens.keys import COMPARE, bindings
from workbench.screens.overlay import MEASURES, Compared, Overlay, draw, side_by_side
from workbench.screens.view_keys import ViewKeys
from workbench.text import plain
from workbench.widgets.chart import ChartView, painted
from workbench.widgets.table import Column, Table

MOST = len(PALETTE)  # runs that colours can tell apart
_BYTES = 8 << 20  # read of a run between two looks at what else there is to do
_PATIENCE = 0.7  # seconds between two pictures of runs that are still being read
_ASK = 1.0  # seconds: a thread that is not told to end would keep a closed workbench from ending


@dataclass
class Overlaid(Message):
    """The chart is drawn; limits of its x axis, and all there is to show."""

    rows: list[Row]
    shown: Limits
    whole: Limits

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, Overlaid)


@dataclass
class SideBySide(Message):
    """The table's rows: name → a cell a run."""

    rows: dict[str, list[str]]

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, SideBySide)


class CompareFeed(Background):
    """Follows runs in the thread that calls ``loop``, and draws them; its other methods are for any thread.

    Args:
        runs: directory → colour. post: takes messages; thread-safe. interval: seconds between looks.
    """

    def __init__(self, runs: Mapping[Path, int], post: Callable[[Message], object], interval: float) -> None:
        super().__init__()
        self.runs, self.post, self.interval = dict(runs), post, interval
        self._wanted: Overlay | None = None

    def want(self, wanted: Overlay) -> None:
        """Draw this from now on."""
        self._wanted = wanted
        self._wake.set()

    def loop(self, cancelled: Callable[[], bool] = lambda: False) -> None:
        """Follow until ``end``, or until ``cancelled`` says yes (asked at least once a second)."""
        followers = {Follower(run_dir): colour for run_dir, colour in self.runs.items()}
        axes, drawn, listed, told = Axes(), None, None, -_PATIENCE
        while not (self._ended or cancelled()):
            more = sum(follower.poll(_BYTES) for follower in followers) > 0
            if not more or time.monotonic() >= told + _PATIENCE:
                told = time.monotonic()
                runs = [Compared(f.run_dir, colour, f.history) for f, colour in followers.items()]
                wanted, versions = self._wanted, [run.history.version for run in runs]
                if wanted is not None and (wanted, versions) != drawn:
                    drawn = (wanted, versions)
                    rows = draw(wanted, runs, axes)
                    self.post(Overlaid(rows, axes.shown, axes.whole))
                axis = wanted.view.x if wanted is not None else "step"
                if (axis, versions) != listed:
                    listed = (axis, versions)
                    self.post(SideBySide(side_by_side(runs, axis)))
            if not more:
                self._wake.wait(min(_ASK, self.interval))
            self._wake.clear()


class CompareScreen(ViewKeys):
    """Compares run directories, in the order in which they were marked; each keeps its colour."""

    MODE = "runs"
    ABOVE = "Compare"
    BINDINGS = bindings(COMPARE)
    AUTO_FOCUS = "#compare-table"
    DEFAULT_CSS = """
    CompareScreen #compare-chart { height: 1fr; padding: 0 1; }
    CompareScreen #compare-chart:focus { background: $foreground 3%; }
    CompareScreen #compare-table { height: 1fr; border-top: hkey $foreground 20%; }
    CompareScreen.-full #compare-table { display: none; }
    """

    def __init__(self, runs: Mapping[Path, int]) -> None:
        super().__init__()
        self.runs = dict(runs)
        self.measure = next(iter(MEASURES))
        self.feed: CompareFeed | None = None
        self._rows: dict[str, list[str]] = {}

    def body(self) -> ComposeResult:
        """Chart and table."""
        yield ChartView(id="compare-chart", hint="reading the runs …")
        yield Table((Column("what", "", 22), *self._columns()), id="compare-table")

    def _columns(self) -> list[Column]:
        return [
            Column(str(i), run.name, style="rgb({},{},{})".format(*painted(PALETTE[colour], self.app)))
            for i, (run, colour) in enumerate(self.runs.items())
        ]

    def on_mount(self) -> None:
        """Read the runs, and follow them."""
        self.place(f"{len(self.runs)} runs compared")
        self.feed = CompareFeed(self.runs, self.post_message, self.bench.poll_seconds)
        self.want_all()
        self._follow(self.feed)

    def on_unmount(self) -> None:
        """Let the thread go."""
        if self.feed is not None:
            self.feed.end()

    @work(thread=True, group="compare", exit_on_error=False)
    def _follow(self, feed: CompareFeed) -> None:
        worker = get_current_worker()
        feed.loop(lambda: worker.is_cancelled)

    @on(Overlaid)
    def _overlaid(self, message: Overlaid) -> None:
        self._shown, self._whole = message.shown, message.whole
        self.query_one(ChartView).show(message.rows)

    @on(SideBySide)
    def _side_by_side(self, message: SideBySide) -> None:
        self.query_one(Table).show({name: [Text(name, "bold"), *cells] for name, cells in message.rows.items()})
        self._rows = message.rows

    @on(ChartView.Resized)
    def _resized(self) -> None:
        self.want_all()

    def want_all(self) -> None:
        """Have the chart drawn."""
        size = self.query_one(ChartView).size
        if self.feed is not None and size:
            self.feed.want(Overlay(self.measure, size.width, size.height, self.log_y, self.view))

    def action_figure(self) -> None:
        """The next figure."""
        names = list(MEASURES)
        self.measure = names[(names.index(self.measure) + 1) % len(names)]
        self.want_all()

    def action_full(self) -> None:
        """The chart alone, or with the table."""
        alone = self.toggle_class("-full").has_class("-full")
        self.query_one("#compare-chart" if alone else "#compare-table").focus()

    def action_copy(self) -> None:
        """Copy the table."""
        rows = [["", *(plain(run.name) for run in self.runs)], *([name, *cells] for name, cells in self._rows.items())]
        self.copy("\n".join("\t".join(row) for row in rows))

    def action_back(self) -> None:
        """Back to the runs."""
        self.dismiss()
