"""The table of runs: its columns, a row of it, and the orders in which it can stand."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from rich.text import Text

from workbench.screens.queue_keys import QueueState
from workbench.widgets.format import UNKNOWN, bar, count, duration, loss
from workbench.widgets.run_header import STATE_COLOURS, STATE_SIGNS
from workbench.widgets.table import Column

if TYPE_CHECKING:
    from workbench.runs.store import RunSummary

COLUMNS = (
    Column("name", "run"),
    Column("state", "state", 10),
    Column("done", "done", 4, right=True),
    Column("bar", "", 6, hide_below=100),
    Column("step", "step", 8, right=True, hide_below=120),
    Column("best", "best val", 8, right=True),
    Column("val", "val", 7, right=True, hide_below=120),
    Column("speed", "tok/s", 6, right=True),
    Column("verdict", "verdict", 11),
    Column("note", "note", 24, hide_below=140),
    Column("age", "age", 6, right=True),
)
_VERDICTS = {"not_enough_evidence": "cannot tell"}


def _or_last(value: float | None, sign: int = 1) -> float:
    """What is not known stands behind everything that is."""
    return math.inf if value is None or math.isnan(value) else sign * value


ORDERS: dict[str, Callable[[RunSummary], object]] = {
    "newest first": lambda run: 0,  # as they are listed
    "best held-out loss first": lambda run: _or_last(best_of(run)),
    "fastest first": lambda run: _or_last(run.tokens_per_s, -1),
    "by name": lambda run: run.name.casefold(),
}


def best_of(run: RunSummary) -> float | None:
    """The best held-out loss; the newest while the best is still searched for."""
    return run.val_loss if run.best_val is None else run.best_val


def row(
    run: RunSummary, now: float, queue: QueueState, colours: Mapping[str, str], mark: tuple[int, int, int] | None
) -> list[str | Text]:
    """Cells of a run at the time ``now``. ``colours``: the theme's variables; ``mark``: the colour that it has in the
    comparison, if it is marked."""
    fraction = min(1.0, run.step / run.max_steps) if run.max_steps else None
    colour = colours.get("text-warning" if run.stalled else STATE_COLOURS.get(run.state, "$")[1:], "")
    name: str | Text = run.name
    if mark is not None:
        name = Text(f"● {run.name}", "rgb({},{},{})".format(*mark))
    return [
        name,
        Text(f"{STATE_SIGNS.get(run.state, '?')} {_state(run, queue)}", colour[:7] if colour.startswith("#") else ""),
        UNKNOWN if fraction is None else f"{fraction:.0%}",
        "" if fraction is None else bar(fraction, 6),
        count(run.step) if run.step >= 100_000 else f"{run.step:,}",
        loss(best_of(run)),
        loss(run.val_loss),
        count(run.tokens_per_s),
        _VERDICTS.get(run.verdict or "", (run.verdict or UNKNOWN).replace("_", " ")),
        run.note,
        duration(max(0.0, now - run.created)),
    ]


def _state(run: RunSummary, queue: QueueState) -> str:
    """A run that was never started waits at a place of the queue, was refused by it, or is merely made."""
    if run.stalled:
        return "stalled"
    if run.state != "queued":
        return run.state
    if (place := queue.places.get(run.name)) is not None:
        return f"queue {place}"
    return "refused" if run.name in queue.refused else "made"
