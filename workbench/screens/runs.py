"""The Runs screen: every run of the folder, how far it is, and what became of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.content import Content
from textual.message import Message
from textual.widgets import DataTable, Input, Static
from textual.worker import get_current_worker

from workbench.errors import UserError
from workbench.screens.keys import RUNS, bindings
from workbench.screens.queue_keys import QueueKeys, QueueState, line_of, look
from workbench.text import plain
from workbench.widgets.format import UNKNOWN, bar, count, duration, loss
from workbench.widgets.run_header import STATE_COLOURS, STATE_SIGNS, RunStatus, one_line
from workbench.widgets.table import Column, Table

if TYPE_CHECKING:
    from workbench.runs.store import RunSummary

_LOOK_EVERY = 4  # looks at one run (``app.poll_seconds``) for one at all of them
COLUMNS = (
    Column("name", "run"),
    Column("state", "state", 10),
    Column("progress", "progress", 9),
    Column("step", "step", 8, right=True, hide_below=100),
    Column("val", "val", 7, right=True),
    Column("speed", "tok/s", 6, right=True, hide_below=100),
    Column("verdict", "verdict", 11),
    Column("note", "note", 24, hide_below=130),
    Column("age", "age", 6, right=True),
)
_VERDICTS = {"not_enough_evidence": "cannot tell"}


Test = Callable[["RunSummary"], bool]


@dataclass
class Sifted(Message):
    """Which runs pass a filter, by their directories."""

    test: Test
    passed: set[str]


@dataclass
class RunsListed(Message):
    """The runs of the folder, newest first."""

    runs: list[RunSummary]
    queue: QueueState = field(default_factory=QueueState)

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, RunsListed)


class RunsScreen(QueueKeys):
    """Lists ``app.runs_root``."""

    MODE = "runs"
    CSS_PATH = "runs.tcss"
    BINDINGS = bindings(RUNS)
    AUTO_FOCUS = "Table"

    def __init__(self) -> None:
        super().__init__()
        self.runs: list[RunSummary] | None = None
        self.marked: list[str] = []  # in the order of marking, which is that of the colours
        self._test: Test | None = None
        self._passed: set[str] | None = None  # by the filter; None: none is set
        self._sifting: Test | None = None  # under way in a thread: configurations lie on a disk that may be slow
        self._sift_again = False
        self._shown = True
        self._wrong = ""

    def body(self) -> ComposeResult:
        """Filter, table, a line about what is shown."""
        yield Input(
            placeholder="words, or: val<3 and layers=12, state=running, not demo, preset~40m", id="filter", compact=True
        )
        yield Table(COLUMNS, id="runs")
        yield Static("", id="empty")
        yield Static("", id="summary")

    def on_mount(self) -> None:
        """Begin to watch the folder."""
        self.place(_short(self.bench.runs_root))
        self._watch()

    def recolour(self) -> None:
        """Rows hold the colours of their states."""
        self._show()

    def on_screen_resume(self) -> None:
        """Look again."""
        self._shown = True

    def on_screen_suspend(self) -> None:
        """A hidden screen looks at nothing."""
        self._shown = False

    @work(thread=True, group="runs", exit_on_error=False)
    def _watch(self) -> None:
        from workbench.runs.store import list_runs  # NumPy comes with it: not before the first paint

        worker, last = get_current_worker(), None
        wait = self.bench.poll_seconds
        while not worker.is_cancelled:
            if self._shown:
                runs, queue = list_runs(self.bench.runs_root), look(self.bench.runs_root)
                minute = int(self.bench.clock() // 10)
                if (runs, queue, minute) != last:
                    last = (runs, queue, minute)
                    self.post_message(RunsListed(runs, queue))
            for _ in range(_LOOK_EVERY):
                if worker.cancelled_event.wait(wait):
                    return

    @on(RunsListed)
    def _runs_listed(self, message: RunsListed) -> None:
        first, self.runs, self.queue_state = self.runs is None, message.runs, message.queue
        self._sift()
        if first and (last := self.bench.recall_here("selected")):
            self.query_one(Table).go_to(last)

    @on(DataTable.RowHighlighted)
    def _row_highlighted(self) -> None:
        if self.runs is not None and (key := self.query_one(Table).current_key) is not None:
            self.bench.remember_here("selected", key)

    @on(Input.Changed, "#filter")
    def _filter_changed(self, message: Input.Changed) -> None:
        """Filter as one types; what cannot be understood yet leaves the last filter and says what is wrong."""
        from workbench.runs.query import parse

        try:
            self._test, self._wrong = parse(message.value) if message.value.strip() else None, ""
        except UserError as error:
            self._wrong = str(error)
            self._show()
        else:
            self._sift()

    def _sift(self) -> None:
        """Ask which runs pass, and show them once that is known; a listing that comes meanwhile is sifted next."""
        if self._test is None:
            self._sifting = self._passed = None
            self._show()
        elif self._sifting is self._test:
            self._sift_again = True
        else:
            self._sifting, self._sift_again = self._test, False
            self._sift_runs(self._test, self.runs or [])

    @work(thread=True, group="sift", exit_on_error=False)
    def _sift_runs(self, test: Test, runs: list[RunSummary]) -> None:
        passed: set[str] = set()
        for run in runs:
            if self._test is not test or get_current_worker().is_cancelled:
                return
            if test(run):
                passed.add(run.run)
        self.post_message(Sifted(test, passed))

    @on(Sifted)
    def _sifted(self, message: Sifted) -> None:
        if message.test is not self._test:
            return
        self._sifting, self._passed = None, message.passed
        self._show()
        if self._sift_again:
            self._sift()

    @on(Input.Submitted, "#filter")
    def _filter_done(self) -> None:
        self.query_one(Table).focus()

    @on(DataTable.RowSelected)
    def _row_selected(self) -> None:
        self.action_open_run()

    def action_open_run(self) -> None:
        """Watch the run under the cursor."""
        if run_dir := self._current():
            self.bench.open_run(run_dir)

    def action_branch(self) -> None:
        """Branch the run under the cursor."""
        from workbench.screens import acting

        if run_dir := self._current():
            acting.branch(self, run_dir)

    def action_new_run(self) -> None:
        """Plan a run: on the selected shards, else choose some first."""
        self.bench.action_show_mode("launch" if self.bench.selected else "data")

    def action_filter(self) -> None:
        """Show the filter and type into it."""
        box = self.query_one("#filter", Input)
        box.add_class("-shown")
        box.focus()

    def action_clear_filter(self) -> None:
        """Show all runs; then take all marks away."""
        if not self.query_one("#filter", Input).has_class("-shown"):
            self.marked.clear()
            self._show()
        box = self.query_one("#filter", Input)
        box.value = ""
        box.remove_class("-shown")
        self.query_one(Table).focus()

    def action_mark(self) -> None:
        """Mark the run under the cursor, or take the mark away."""
        key = self.query_one(Table).current_key
        if key is None:
            return
        if key in self.marked:
            self.marked.remove(key)
        else:
            self.marked.append(key)
        self._show()
        self.query_one(Table).action_cursor_down()

    def action_compare(self) -> None:
        """Compare the marked runs, or the one under the cursor with the newest."""
        from workbench.screens.compare import MOST, CompareScreen

        chosen = [Path(key) for key in self.marked]
        if len(chosen) < 2:
            self.say("mark at least two runs (space)", wrong=True)
            return
        if len(chosen) > MOST:
            self.say(f"the first {MOST} of {len(chosen)} marked runs: more colours cannot be told apart")
        self.app.push_screen(CompareScreen(chosen))

    def action_delete(self) -> None:
        """Delete the run under the cursor, if the person says yes."""
        from workbench.runs import manage
        from workbench.widgets.prompt import Confirm

        run_dir = self._current()
        if run_dir is None:
            return

        def answered(yes: bool | None) -> None:
            if yes:
                self._act(run_dir, f"deleted {run_dir.name}", manage.delete)

        self.app.push_screen(Confirm(f"Delete {run_dir.name}, with its checkpoints, for good?"), answered)

    def action_rename(self) -> None:
        """Rename the run under the cursor."""
        from workbench.runs import manage
        from workbench.widgets.prompt import Ask

        run_dir = self._current()
        if run_dir is None:
            return

        def answered(name: str | None) -> None:
            if name and name != run_dir.name:
                self._act(run_dir, f"renamed to {name}", lambda run: manage.rename(run, name))

        self.app.push_screen(Ask(f"New name of {run_dir.name}", run_dir.name), answered)

    def action_note(self) -> None:
        """Write a note about the run under the cursor."""
        from workbench.runs import manage
        from workbench.widgets.prompt import Ask

        run_dir = self._current()
        if run_dir is None:
            return
        old = next((run.note for run in self.runs or [] if run.run == str(run_dir)), "")

        def answered(note: str | None) -> None:
            if note is not None:
                self._act(run_dir, "noted" if note.strip() else "note removed", lambda run: manage.annotate(run, note))

        self.app.push_screen(Ask(f"Note about {run_dir.name}", old), answered)

    def action_copy(self) -> None:
        """Copy the directory of the run under the cursor."""
        if run_dir := self._current():
            self.copy(str(run_dir))

    def action_copy_line(self) -> None:
        """Copy the run under the cursor in one line."""
        current = self.query_one(Table).current_key
        for run in self.runs or []:
            if run.run == current:
                val, speed = (math.nan if v is None else v for v in (run.val_loss, run.tokens_per_s))
                shown = RunStatus(run.name, run.state, run.step, run.max_steps, val_loss=val, tokens_per_s=speed)
                self.copy(one_line(shown, run.verdict or ""))

    def action_stop(self) -> None:
        """Stop the run under the cursor."""
        from workbench.runs import launch

        self._do("stopping", launch.stop)

    def action_resume(self) -> None:
        """Resume the run under the cursor."""
        from workbench.runs import launch

        self._do("resumed", launch.resume)

    def _do(self, said: str, act: Callable[[Path], object]) -> None:
        if run_dir := self._current():
            self._act(run_dir, f"{said} {run_dir.name}", act)
        else:
            self.say("no run under the cursor", wrong=True)

    def _act(self, run_dir: Path, said: str, act: Callable[[Path], object]) -> None:
        def acted() -> str:
            act(run_dir)
            return said

        self.in_thread(acted, lambda done: self.look_again() if done else None)

    def look_again(self) -> None:
        """List runs and queue anew; called in a thread."""
        from workbench.runs.store import list_runs

        self.post_message(RunsListed(list_runs(self.bench.runs_root), look(self.bench.runs_root)))

    def chosen_runs(self) -> list[Path]:
        """The marked runs, or the one under the cursor."""
        return [Path(key) for key in self.marked] or [run for run in [self._current()] if run]

    def _current(self) -> Path | None:
        key = self.query_one(Table).current_key
        return Path(key) if key else None

    def _show(self) -> None:
        runs = self.runs or []
        wanted = self.query_one("#filter", Input).value.strip()
        shown = runs if self._passed is None else [run for run in runs if run.run in self._passed]
        here = {run.run for run in runs}
        self.marked = [key for key in self.marked if key in here]
        self.query_one(Table).show({run.run: self._row(run) for run in shown})
        self.set_class(not shown, "-empty")
        if shown and self.focused is None:  # an empty table is not there to take it
            self.call_after_refresh(self.query_one(Table).focus)
        self.query_one("#empty", Static).update(self._hint(bool(runs)))
        states = [state for state in STATE_SIGNS if any(run.state == state for run in runs)]
        parts = [f"{sum(run.state == s for run in runs)} {s}" for s in states]
        found = f"{len(shown)} of {len(runs)} runs" if wanted else f"{len(runs)} run{'s' * (len(runs) != 1)}"
        if self.marked:
            parts.append(f"{len(self.marked)} marked")
        line = Content.styled("  ".join([found, *parts]), "$text-muted")
        told, urgent = line_of(self.queue_state)
        if told:
            line = Content.assemble(line, "  ", (plain(told), "$text-warning" if urgent else "$text-muted"))
        if self._wrong and wanted:
            line = Content.styled(plain(self._wrong), "$text-error")
        self.query_one("#summary", Static).update(line)

    def _row(self, run: RunSummary) -> list[str | Text]:
        fraction = run.step / run.max_steps if run.max_steps else None
        colour = self.app.theme_variables.get(STATE_COLOURS.get(run.state, "$")[1:], "")
        style = colour[:7] if colour.startswith("#") else ""
        from workbench.plot import PALETTE  # NumPy comes with it, as it does with the runs

        name: str | Text = run.name
        if run.run in self.marked:  # in the colour that it has in the comparison
            rgb = PALETTE[self.marked.index(run.run) % len(PALETTE)]
            name = Text(f"● {run.name}", "rgb({},{},{})".format(*rgb))
        return [
            name,
            Text(f"{STATE_SIGNS.get(run.state, '?')} {self._state(run)}", style),
            "" if fraction is None else f"{bar(fraction, 4)} {fraction:4.0%}",
            count(run.step) if run.step >= 100_000 else f"{run.step:,}",
            loss(run.val_loss),
            count(run.tokens_per_s),
            _VERDICTS.get(run.verdict or "", (run.verdict or UNKNOWN).replace("_", " ")),
            run.note,
            duration(max(0.0, self.bench.clock() - run.created)),
        ]

    def _state(self, run: RunSummary) -> str:
        """A run that was never started waits at a place of the queue, was refused by it, or is merely made."""
        if run.state != "queued":
            return run.state
        if (place := self.queue_state.places.get(run.name)) is not None:
            return f"queue {place}"
        return "refused" if run.name in self.queue_state.refused else "made"

    def _hint(self, filtered: bool) -> Content:
        if self.runs is None:
            return Content.styled("reading the runs folder …", "$text-muted")
        if filtered:
            return Content("no run matches the filter; esc shows all")
        keys = (
            ("1", "chooses shards (b there builds a sample)"),
            ("2", "plans and starts a run"),
            ("?", "lists every key"),
        )
        lines = [Content.assemble((f"{key}  ", "bold $text-accent"), does) for key, does in keys]
        return Content("\n").join([Content(f"no runs in {plain(_short(self.bench.runs_root))} yet\n"), *lines])


def _short(folder: Path) -> str:
    """A folder as one would type it here."""
    for base, sign in ((Path.cwd(), "."), (Path.home(), "~")):
        if folder == base:
            return sign
        if folder.is_relative_to(base):
            inside = folder.relative_to(base)
            return str(inside) if sign == "." else f"~/{inside}"
    return str(folder)
