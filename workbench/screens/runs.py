"""The Runs screen: every run of the folder, how far it is, and what became of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from textual import on, work
from textual.app import ComposeResult
from textual.content import Content
from textual.message import Message
from textual.widgets import DataTable, Input, Static
from textual.worker import get_current_worker

from workbench.errors import UserError
from workbench.screens.keys import RUNS, bindings
from workbench.screens.lookout import RunsListed
from workbench.screens.manage_keys import ManageKeys
from workbench.screens.queue_keys import line_of, look
from workbench.screens.runs_table import COLUMNS, ORDERS, row
from workbench.text import plain
from workbench.widgets.line import Line
from workbench.widgets.run_header import STATE_SIGNS
from workbench.widgets.table import Table

if TYPE_CHECKING:
    from workbench.runs.store import RunSummary

Test = Callable[["RunSummary"], bool]


@dataclass
class Sifted(Message):
    """Which runs pass a filter, by their directories."""

    test: Test
    passed: set[str]


class RunsScreen(ManageKeys):
    """Lists ``app.runs_root``."""

    MODE = "runs"
    CSS_PATH = "runs.tcss"
    BINDINGS = bindings(RUNS)
    AUTO_FOCUS = "Table"

    def __init__(self) -> None:
        super().__init__()
        self.runs: list[RunSummary] | None = None
        self.marked: dict[str, int] = {}  # in the order of marking: directory → the colour that it keeps
        self.order = next(iter(ORDERS))
        self._test: Test | None = None
        self._passed: set[str] | None = None  # by the filter; None: none is set
        self._sifting: Test | None = None  # under way in a thread: configurations lie on a disk that may be slow
        self._sift_again = False
        self._wrong = ""

    def body(self) -> ComposeResult:
        """Filter, table, a line about what is shown."""
        yield Line(
            placeholder="words, or: val<3 and layers=12, state=running, not demo, preset~40m", id="filter", compact=True
        )
        yield Table(COLUMNS, id="runs")
        yield Static("", id="empty")
        yield Static("", id="summary")

    def on_mount(self) -> None:
        """The order that runs stood in last time."""
        self.place(_short(self.bench.runs_root))
        if (order := self.bench.memory.get("order")) in ORDERS:
            self.order = str(order)

    def recolour(self) -> None:
        """Rows hold the colours of their states."""
        self._show()

    def on_screen_resume(self) -> None:
        """Have the runs listed from now on."""
        self.bench.lookout.list_for(self.post_message)

    def on_screen_suspend(self) -> None:
        """A hidden screen needs no list."""
        self.bench.lookout.list_for(None)

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
        if (run := self.current) is not None:
            self.bench.open_run(Path(run.run))

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
        self.refresh_bindings()

    def action_sort(self) -> None:
        """The next order; it is remembered."""
        names = list(ORDERS)
        self.order = names[(names.index(self.order) + 1) % len(names)]
        self.bench.remember("order", self.order)
        self._show()

    def action_mark(self) -> None:
        """Mark the run under the cursor, or take the mark away; the other marked ones keep their colours."""
        key = self.query_one(Table).current_key
        if key is None:
            return
        if key in self.marked:
            del self.marked[key]
        else:
            self.marked[key] = next(n for n in range(len(self.marked) + 1) if n not in self.marked.values())
        self._show()
        self.refresh_bindings()
        self.query_one(Table).action_cursor_down()

    def action_compare(self) -> None:
        """Compare the marked runs."""
        from workbench.screens.compare import MOST, CompareScreen

        chosen = {Path(key): colour for key, colour in self.marked.items() if colour < MOST}
        if len(chosen) < 2:
            self.say("mark at least two runs (space)", wrong=True)
            return
        if len(chosen) < len(self.marked):
            self.say(f"{len(chosen)} of {len(self.marked)} marked runs: more colours cannot be told apart")
        self.app.push_screen(CompareScreen(chosen))

    def look_again(self) -> None:
        """List runs and queue anew; called in a thread."""
        from workbench.runs.store import list_runs

        self.post_message(RunsListed(list_runs(self.bench.runs_root), look(self.bench.runs_root)))

    def chosen_runs(self) -> list[Path]:
        """The marked runs, or the one under the cursor."""
        return [Path(key) for key in self.marked] or [Path(run.run) for run in [self.current] if run]

    @property
    def current(self) -> RunSummary | None:
        """The run under the cursor."""
        key = self.query_one(Table).current_key
        return next((run for run in self.runs or [] if run.run == key), None)

    def moved(self, old: Path, new: Path | None) -> None:
        """A mark goes with its run."""
        super().moved(old, new)
        if (colour := self.marked.pop(str(old), None)) is not None and new is not None:
            self.marked[str(new)] = colour

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys that would do nothing stay out of the footer."""
        if self.is_mounted:
            box = self.query_one("#filter", Input)
            if action == "filter" and box.has_focus:
                return False
            if action == "clear_filter":
                return box.has_class("-shown") or bool(self.marked)
        return super().check_action(action, parameters)

    def _show(self) -> None:
        runs = self.runs or []
        wanted = self.query_one("#filter", Input).value.strip()
        shown = runs if self._passed is None else [run for run in runs if run.run in self._passed]
        here = {run.run for run in runs}
        self.marked = {key: colour for key, colour in self.marked.items() if key in here}
        colours, now, theme = self._colours(), self.bench.clock(), self.app.theme_variables
        ordered = sorted(shown, key=ORDERS[self.order])  # type: ignore[arg-type]
        rows = {run.run: row(run, now, self.queue_state, theme, colours.get(run.run)) for run in ordered}
        self.query_one(Table).show(rows)
        self.set_class(not shown, "-empty")
        if shown:
            self.call_after_refresh(self._focus_table)
        self.query_one("#empty", Static).update(self._hint(bool(runs)))
        states = [state for state in STATE_SIGNS if any(run.state == state for run in runs)]
        parts = [f"{sum(run.state == s for run in runs)} {s}" for s in states]
        found = f"{len(shown)} of {len(runs)} runs" if wanted else f"{len(runs)} run{'s' * (len(runs) != 1)}"
        if self.order != next(iter(ORDERS)):
            parts.append(self.order)
        if self.marked:
            parts.append(f"{len(self.marked)} marked")
        line = Content.styled("  ".join([found, *parts]), "$text-muted")
        told, urgent = line_of(self.queue_state)
        if told:
            line = Content.assemble(line, "  ", (plain(told), "$text-warning" if urgent else "$text-muted"))
        if self._wrong and wanted:
            line = Content.styled(plain(self._wrong), "$text-error")
        self.query_one("#summary", Static).update(line)

    def _focus_table(self) -> None:
        """An empty table is hidden, and gives the focus away, maybe only after its first rows came."""
        if self.focused is None:
            self.query_one(Table).focus()

    def _colours(self) -> dict[str, tuple[int, int, int]]:
        """The colours of the marked runs, as in their comparison."""
        if not self.marked:
            return {}
        from workbench.plot import GREY, PALETTE  # NumPy comes with it, as it does with the runs
        from workbench.widgets.chart import painted

        colours = {key: PALETTE[n] if n < len(PALETTE) else GREY for key, n in self.marked.items()}
        return {key: painted(colour, self.app) for key, colour in colours.items()}

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
