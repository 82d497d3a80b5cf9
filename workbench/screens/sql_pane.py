"""The SQL console: a line to ask in, the answer below, what was asked before."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.content import Content
from textual.message import Message
from textual.widgets import DataTable, Input, Static

from workbench.screens.keys import SQL, bindings
from workbench.screens.messages import Done
from workbench.screens.pane import Pane
from workbench.text import plain
from workbench.widgets.line import Line
from workbench.widgets.sheet import Sheet

if TYPE_CHECKING:
    from data.console import Console, Result

_FIRST = "SELECT count(*) FROM docs"
_WIDEST = 60


@dataclass
class Answered(Message):
    """A statement's answer, or why there is none; ``text`` is the line below."""

    result: Result | None
    text: str
    wrong: bool = False


class Statement(Line):
    """One line; up and down go through what was asked before."""

    BINDINGS = [
        Binding("up", "earlier(1)", show=False),
        Binding("down", "earlier(-1)", show=False),
    ]

    def __init__(self) -> None:
        super().__init__(placeholder=f"a statement over the table docs, for example {_FIRST}", id="statement")
        self.compact = True
        self.history: list[str] = []
        self._back = 0

    def action_earlier(self, by: int) -> None:
        """Further back, or forth."""
        self._back = max(0, min(len(self.history), self._back + by))
        self.value = self.history[-self._back] if self._back else ""
        self.cursor_position = len(self.value)

    def forget_place(self) -> None:
        """The next up is the newest again."""
        self._back = 0


class SqlPane(Pane):
    """Statements over the shards the pane was opened on."""

    TITLE = "SQL"
    BINDINGS = bindings(SQL)

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._database: Console | None = None
        self._opened_on: tuple[str, ...] = ()
        self._busy = False
        self._last = ""

    def compose(self) -> ComposeResult:
        """Statement, answer, status; the line for an export's file."""
        yield Statement()
        yield Line(placeholder="write the result to FILE.parquet or FILE.csv; esc leaves", id="export", compact=True)
        yield DataTable(id="answer", cursor_type="row", zebra_stripes=False)
        yield Sheet("", id="sql-status")

    def opened(self) -> None:
        """A console over these shards; the one before is ended if it was over others."""
        from data.query_history import QueryHistory

        paths = tuple(file.path for file in self.files)
        if paths != self._opened_on:
            self.close()
            self._opened_on = paths
            self.query_one("#answer", DataTable).clear(columns=True)
            columns = dict.fromkeys(column.name for file in self.files for column in file.columns)
            many = f"{len(paths)} shard{'s' * (len(paths) != 1)} as docs: {', '.join(columns)}, shard, shard_row"
            self._status(many)
        box = self.query_one(Statement)
        box.history = QueryHistory().entries()
        box.forget_place()
        box.focus()

    def close(self) -> None:
        """End the worker process."""
        console, self._database, self._opened_on = self._database, None, ()
        if console is not None:
            console.close()

    def leave(self) -> bool:
        """What runs is stopped first."""
        if self.query_one("#export").has_class("-shown"):
            self._hide_export()
            return False
        if self._busy:
            self._stop()
            return False
        return True

    # Keys

    def action_run(self) -> None:
        """Run the statement."""
        statement = self.query_one(Statement).value.strip()
        if self._busy:
            self.complain("a statement is running: esc stops it")
        elif statement:
            self._busy, self._last = True, statement
            self._status("running …  esc stops it")
            self._ask(statement)

    def action_cancel(self) -> None:
        """Stop the statement, else leave."""
        if self.leave():
            self.post_message(self.Left())

    def action_export(self) -> None:
        """Ask for a file."""
        if not (self._last or self.query_one(Statement).value.strip()):
            self.complain("run a statement first: its whole result is written")
            return
        box = self.query_one("#export", Input)
        box.add_class("-shown")
        box.focus()

    @on(Input.Submitted, "#statement")
    def _submitted(self) -> None:
        self.action_run()

    @on(Input.Submitted, "#export")
    def _export_to(self, event: Input.Submitted) -> None:
        target = event.value.strip()
        self._hide_export()
        if target and not self._busy:
            self._busy = True
            self._status(f"writing {target} …  esc stops it")
            self._export(self._last or self.query_one(Statement).value.strip(), target)

    @on(Answered)
    def _answered(self, message: Answered) -> None:
        self._busy = False
        self._status(message.text, wrong=message.wrong)
        box = self.query_one(Statement)
        if self._last and (not box.history or box.history[-1] != self._last):
            box.history.append(self._last)
        box.forget_place()
        if message.result is not None:
            self._show(message.result)

    def _show(self, result: Result) -> None:
        table: DataTable[Any] = self.query_one("#answer", DataTable)
        table.clear(columns=True)
        for index, column in enumerate(result.columns):
            longest = max((len(row[index] or "null") for row in result.rows[:200]), default=0)
            table.add_column(
                Text(plain(column.name)), width=min(_WIDEST, max(len(column.name), longest, 1)), key=str(index)
            )
        for row in result.rows:
            table.add_row(*(_cell(value) for value in row))

    def _status(self, text: str, *, wrong: bool = False) -> None:
        self.query_one("#sql-status", Static).update(
            Content.styled(plain(text), "$text-error" if wrong else "$text-muted")
        )

    def _hide_export(self) -> None:
        box = self.query_one("#export", Input)
        box.remove_class("-shown")
        box.value = ""
        self.query_one(Statement).focus()

    # Work

    def _over(self) -> Console:
        from data.console import Console

        if self._database is None:
            self._database = Console(self.files)
        return self._database

    @work(thread=True, group="sql-stop", exit_on_error=False)
    def _stop(self) -> None:
        if self._database is not None:
            self._database.cancel()

    @work(thread=True, group="sql", exit_on_error=False)
    def _ask(self, statement: str) -> None:
        from data.query_history import QueryHistory
        from data.workers import Cancelled

        QueryHistory().add(statement)
        try:
            result = self._over().run(statement)
        except Cancelled:
            self.post_message(Answered(None, "stopped"))
        except Exception as error:
            self.post_message(Answered(None, str(error), wrong=True))
        else:
            many = f"{len(result.rows):,} row{'s' * (len(result.rows) != 1)}"
            if result.capped:
                many = f"the first {len(result.rows):,} rows; there are more: ^o writes them all to a file"
            self.post_message(Answered(result, f"{many}  ·  {result.seconds:.2f} s"))

    @work(thread=True, group="sql", exit_on_error=False)
    def _export(self, statement: str, target: str) -> None:
        from data.workers import Cancelled

        try:
            rows = self._over().export(statement, Path(target).expanduser())
        except Cancelled:
            self.post_message(Answered(None, "stopped; nothing was written"))
        except Exception as error:
            self.post_message(Answered(None, str(error), wrong=True))
        else:
            self.post_message(Answered(None, f"{rows:,} rows in {target}"))
            self.post_message(Done(f"{rows:,} rows in {target}"))


def _cell(value: str | None) -> Text:
    text = Text("null", style="dim italic") if value is None else Text(plain(value))
    text.no_wrap, text.overflow = True, "ellipsis"
    return text
