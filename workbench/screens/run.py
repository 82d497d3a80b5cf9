"""The Run screen: live curves, the figures of the run, its log, and why it is as it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Container, Vertical
from textual.content import Content
from textual.events import Resize
from textual.widgets import Static
from textual.worker import get_current_worker

from workbench.screens import lookout
from workbench.screens.cause_keys import NO_RUN, CauseKeys
from workbench.screens.feed import Evaluated, FigureDrawn, LogChanged, MachineSeen, Probing, RunFeed, Sampled
from workbench.screens.keys import RUN, bindings
from workbench.screens.messages import Diagnosed, Done, StatusChanged
from workbench.screens.panes import PaneKeys
from workbench.widgets.chart import ChartView
from workbench.widgets.log_view import LogView
from workbench.widgets.plateau_pane import PlateauPane, settled, verdict_line
from workbench.widgets.run_header import RunHeader, one_line
from workbench.widgets.samples_pane import SamplesPane
from workbench.widgets.sheet import Sheet
from workbench.widgets.system_pane import SystemPane

_TALL = 44  # lines
_TOO_EARLY = "why: not enough evidence yet"
_READING = "why: the run is being read; what is shown is a sample of its steps"


class RunScreen(CauseKeys, PaneKeys):
    """Follows ``app.run_dir``."""

    MODE = "run"
    CSS_PATH = "run.tcss"
    BINDINGS = bindings(RUN)
    AUTO_FOCUS = "#why"

    def __init__(self) -> None:
        super().__init__()
        self.feed: RunFeed | None = None

    def body(self) -> ComposeResult:
        """Header, verdict, charts, panes."""
        yield RunHeader()
        yield Sheet(Content.styled(NO_RUN, "$text-muted"), id="verdict")
        with Container(id="panes"):
            yield ChartView(id="loss", classes="pane", hint="no loss yet")
            with Vertical(id="side"):
                yield Sheet("", id="tabs")
                yield PlateauPane(id="why", classes="pane", hint="an explanation follows the first evaluations")
                yield ChartView(id="lr", classes="pane", hint="no step yet")
                yield LogView(id="log", classes="pane", empty="the engine has written nothing yet")
                yield SamplesPane(id="samples", classes="pane -absent")
                yield SystemPane(id="system", classes="pane")
        yield from self.grid()

    def on_mount(self) -> None:
        """Show the panes as they were left."""
        known = self.bench.memory.get("run")
        known = known if isinstance(known, dict) else {}
        self._full = known.get("full") is True
        names = self._names()
        self._pane = names.index(known["pane"]) if known.get("pane") in names else 0
        self._show_pane()
        self.take_looks(known)

    def on_resize(self, event: Resize) -> None:
        """Room for the system pane beside the others."""
        self.set_class(event.size.height >= _TALL, "-tall")

    def layout_changed(self) -> None:
        """Remember it."""
        names = self._names()
        self.bench.remember("run", {**self.looks(), "full": self._full, "pane": names[self._pane % len(names)]})

    def on_screen_resume(self) -> None:
        """Follow the run that is open now."""
        self.follow()

    def follow(self) -> None:
        """Follow ``app.run_dir``, if that is not done already."""
        if self.feed is None or self.feed.run_dir != self.bench.run_dir:
            self._open(self.bench.run_dir)
        if self.feed is not None:
            self.feed.pause(False)

    def on_screen_suspend(self) -> None:
        """A hidden screen reads and draws nothing."""
        if self.feed is not None:
            self.feed.pause(True)

    def on_unmount(self) -> None:
        """Let the thread go; the run goes on."""
        if self.feed is not None:
            self.feed.end()

    # What the feed's thread posts

    @on(StatusChanged)
    def _status_changed(self, message: StatusChanged) -> None:
        if self._is_open(message.run_dir):
            header = self.query_one(RunHeader)
            before, header.status = header.status, message.status
            reading = message.status.reading
            if reading != (before is not None and before.reading) and self.query_one(PlateauPane).diagnosis is None:
                self._say_verdict(_READING if reading else _TOO_EARLY)
            name, state = message.status.name, message.status.state
            if before is not None and before.state == "running" != state:
                self.bench.tell(lookout.ended(name, state), wrong=state in lookout.WRONG)
            elif before is not None and state == "running" and message.status.lost and not before.lost:
                self.bench.tell(lookout.lost(name, message.status.step), wrong=True)
            elif before is not None and state == "running" and message.status.stalled and not before.stalled:
                self.bench.tell(lookout.stalled(name, message.status.step), wrong=True)
            self.place(message.status.name)

    @on(MachineSeen)
    def _machine_seen(self, message: MachineSeen) -> None:
        if self._is_open(message.run_dir):
            self.query_one(SystemPane).show(message.gauges)

    @on(FigureDrawn)
    def _figure_drawn(self, message: FigureDrawn) -> None:
        if self._is_open(message.run_dir):
            self.query_one(f"#{message.name}", ChartView).show(message.rows)
            self.drawn(message)

    @on(LogChanged)
    def _log_changed(self, message: LogChanged) -> None:
        if self._is_open(message.run_dir):
            self.query_one(LogView).show(message.lines)

    @on(Sampled)
    def _sampled(self, message: Sampled) -> None:
        if self._is_open(message.run_dir):
            self._show_samples(message.samples)

    def _show_samples(self, samples: list[dict[str, Any]]) -> None:
        """A run that writes no samples has no pane of them."""
        pane = self.query_one(SamplesPane)
        pane.show(samples)
        if pane.has_class("-absent") == bool(samples):
            current = self._names()[self._pane % len(self._names())]
            pane.set_class(not samples, "-absent")
            self._pane = self._names().index(current) if current in self._names() else 0
            self._mark_panes()
            if not samples and self.focused is pane:
                self._show_pane()

    @on(Evaluated)
    def _evaluated(self, message: Evaluated) -> None:
        if self._is_open(message.run_dir):
            self._diagnose(message)

    @on(Probing)
    def _probing(self, message: Probing) -> None:
        if self._is_open(message.run_dir):
            self.query_one(RunHeader).probing = message.text
            if message.failure:
                self.say(message.failure, wrong=True)

    @on(Diagnosed)
    def _diagnosed(self, message: Diagnosed) -> None:
        if self._is_open(message.run_dir):
            pane, status = self.query_one(PlateauPane), self.query_one(RunHeader).status
            verdict = message.diagnosis.get("verdict")
            if pane.diagnosis and pane.diagnosis.get("verdict") != verdict and verdict in lookout.TOLD:
                self.bench.tell(f"{status.name if status else message.run_dir.name}: {verdict}", wrong=False)
            for text in settled(pane.diagnosis, message.diagnosis):
                self.bench.tell(text, wrong=False)
            pane.show(message.diagnosis)
            self.query_one("#verdict", Static).update(verdict_line(message.diagnosis))
            trend = message.diagnosis.get("trend") or {}
            flat = message.diagnosis.get("verdict") == "plateau"
            self.look(plateau=trend.get("first_step") if flat else None)

    # Charts

    @on(ChartView.Resized)
    def _chart_resized(self, message: ChartView.Resized) -> None:
        self.want(message.chart)

    # Keys

    def action_stop(self) -> None:
        """Stop the run."""
        from workbench.runs import launch

        self._do("stopping: it ends its step and writes a checkpoint", launch.stop)

    def action_resume(self) -> None:
        """Resume the run."""
        from workbench.runs import launch

        self._do("resumed", launch.resume)

    def action_export(self) -> None:
        """Write the summary in every form: markdown and its charts, one HTML page, PNG where it can be made."""

        def export(run_dir: Path) -> str:
            from workbench.export import files

            written = files.write_summary(run_dir, formats=files.FORMATS if files.converts() else ("md", "html"))
            kinds = ", ".join(sorted({path.suffix.removeprefix(".") for path in written[1:]}))
            return f"written: {written[0]}" + (f" and {len(written) - 1} files beside it: {kinds}" if kinds else "")

        self._do("", export)

    def action_explain(self) -> None:
        """Explain now."""
        if self.feed is not None:
            self.feed.explain()

    def action_copy(self) -> None:
        """Copy the run's directory."""
        if self.bench.run_dir is None:
            self.say(NO_RUN, wrong=True)
        else:
            self.copy(str(self.bench.run_dir))

    def action_copy_line(self) -> None:
        """Copy the run in one line."""
        status, diagnosis = self.query_one(RunHeader).status, self.query_one(PlateauPane).diagnosis or {}
        if status is None:
            self.say(NO_RUN, wrong=True)
        else:
            self.copy(one_line(status, str(diagnosis.get("verdict") or "")))

    # Work

    def _open(self, run_dir: Path | None) -> None:
        if self.feed is not None:
            self.feed.end()
            self.feed = None
        self.query_one(RunHeader).status = None
        self.query_one(RunHeader).probing = ""
        self.query_one(PlateauPane).show(None)
        self.query_one(LogView).show([])
        self._show_samples([])
        self.query_one(SystemPane).show(())
        self.forget_charts()
        self._say_verdict(NO_RUN if run_dir is None else _TOO_EARLY)
        self.place(run_dir.name if run_dir else "")
        if run_dir is not None:
            self.feed = RunFeed(run_dir, self.post_message, self.bench.poll_seconds, self.bench.clock)
            self.want_all()
            self._follow(self.feed)

    def _say_verdict(self, text: str) -> None:
        self.query_one("#verdict", Static).update(Content.styled(text, "$text-muted"))

    def _is_open(self, run_dir: Path) -> bool:
        return self.feed is not None and self.feed.run_dir == run_dir

    @work(thread=True, group="feed", exit_on_error=False)
    def _follow(self, feed: RunFeed) -> None:
        worker = get_current_worker()
        feed.loop(lambda: worker.is_cancelled)

    @work(thread=True, group="diagnose", exclusive=True, exit_on_error=False)
    def _diagnose(self, message: Evaluated) -> None:
        try:
            answer = lookout.explain(message.run_dir, message.history.pop())
        except Exception as error:  # an explanation that fails must not take the charts with it
            self.post_message(Done(f"no explanation: {error}", wrong=True))
            return
        self.post_message(Diagnosed(message.run_dir, answer))

    def _do(self, said: str, act: Callable[[Path], object]) -> None:
        run_dir = self.bench.run_dir
        if run_dir is None:
            self.say(NO_RUN, wrong=True)
            return

        def acted() -> str:
            result = act(run_dir)
            return said or str(result)

        def look(done: bool) -> None:
            if done and self.feed is not None:
                self.feed.pause(False)

        self.in_thread(acted, look)
