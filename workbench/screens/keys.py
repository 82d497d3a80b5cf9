"""Every key of the workbench, once: footer, help and command palette are made from this table.

W&B LEET's idea: what is dispatched and what is explained come from one place, so they cannot differ.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from textual.binding import Binding, BindingType


@dataclass(frozen=True)
class Key:
    """A key, the action it runs, its word in the footer ("" keeps it out of there), and its line in the help."""

    key: str
    action: str
    label: str
    help: str
    shown: str = ""  # how the key is written, where its name is not what stands on it

    @property
    def display(self) -> str:
        """The key as people write it."""
        return self.shown or self.key.replace("question_mark", "?").replace(",", " ")

    @property
    def title(self) -> str:
        """A name for the palette: the footer's word, else how its help begins."""
        return self.label or re.split(r"[:;,(]", self.help)[0].strip()


MODES: tuple[tuple[str, str, str], ...] = (
    ("1", "data", "Data"),
    ("2", "launch", "Launch"),
    ("3", "run", "Run"),
    ("4", "runs", "Runs"),
)

EVERYWHERE = (
    *(Key(key, f"show_mode('{mode}')", "", f"the {title} screen") for key, mode, title in MODES),
    Key("question_mark", "help", "help", "this help", "?"),
    Key("exclamation_mark", "notifications", "", "how to tell of runs that stop or stall: here, bell, desktop", "!"),
    Key("ctrl+p", "command_palette", "", "command palette: every action by name", "^p"),
    Key("q", "quit", "quit", "quit; runs go on"),
)

MOVEMENT = (
    Key("j,k", "", "", "down, up; arrows do the same", "j k ↓ ↑"),
    Key("g,G", "", "", "first, last", "g G"),
    Key("ctrl+d,ctrl+u", "", "", "a page down, up", "^d ^u PgDn PgUp"),
    Key("tab", "", "", "next pane", "tab"),
    Key("enter", "", "", "open, or edit, what is under the cursor", "enter"),
    Key("escape", "", "", "back", "esc"),
)

DATA = (
    Key("o", "open_path", "open", "open a parquet file, a folder, a glob, or s3:// and hf:// paths"),
    Key("b", "build_sample", "", "build the sample shards from this machine's Python library"),
    Key("enter", "look_inside", "", "look into the shard under the cursor; there, go to the document", "enter"),
    Key("v", "view_all", "", "look into the selected shards, or all, as one table"),
    Key("space", "toggle_shard", "select", "select the shard under the cursor, or take it out", "space"),
    Key("a", "toggle_all", "", "select every shard, or none"),
    Key("s", "statistics", "stats", "effective unique tokens of the selection, estimated (again: stop counting)"),
    Key("d", "duplicates", "dups", "exactly: effective tokens, clusters of copies side by side, repeated lines"),
    Key("c", "columns", "cols", "columns: statistics, histograms, how they are stored"),
    Key("x", "sql", "sql", "ask the selected shards, or all, in SQL"),
    Key("r", "recipe", "recipe", "choose documents: filters, deduplication, held-out set"),
    Key("l", "launch", "launch", "launch a run on the selected shards"),
    Key("escape", "back", "back", "back to the shards; stop counting", "esc"),
)

# Panes of the Data screen, by title: bound where they are open.
DOCUMENTS = (
    Key("t", "toggle_tokens", "tokens", "show the document as text, or as tokens with their ids"),
    Key("w", "toggle_row", "row", "show the document's whole row, every column"),
    Key("slash", "ask('search')", "search", "search the text", "/"),
    Key("n", "next_match", "next", "next match of the search"),
    Key("f", "ask('filter')", "filter", "only rows that pass, for example: score > 3 and text ~ word"),
    Key("S", "ask('sort')", "sort", "sort by a column; “column desc” the other way"),
    Key("colon", "ask('jump')", "jump", "jump to a row", ":"),
)
COLUMNS = (
    Key("h", "next_measure", "histogram", "histogram of the next measure: lengths, score, any number"),
    Key("L", "log_x", "log x", "logarithmic axis, or linear"),
)
SQL = (
    Key("ctrl+r", "run", "run", "run the statement; so does enter", "^r"),
    Key("up,down", "", "", "statements asked before", "↑ ↓"),
    Key("ctrl+o", "export", "export", "write the whole result to a parquet or CSV file", "^o"),
    Key("escape", "cancel", "stop/back", "stop the statement at once; else back", "esc"),
)
CLUSTERS = (
    Key("m", "next_member", "next copy", "compare with the next document of the cluster"),
    Key("M", "previous_member", "", "compare with the one before"),
    Key("b", "lines", "lines", "lines that documents repeat, and the documents of each; or the clusters"),
)
RECIPE = (
    Key("p", "preview", "preview", "what the recipe leaves of the shards (again: stop)"),
    Key("u", "unset", "unset", "take the value under the cursor away"),
    Key("ctrl+s", "save", "save", "save the recipe, and choose it for the next run", "^s"),
    Key("ctrl+l", "load", "load", "load a recipe", "^l"),
)
PANES: dict[str, tuple[Key, ...]] = {
    "Documents": DOCUMENTS,
    "Columns": COLUMNS,
    "SQL": SQL,
    "Copies": CLUSTERS,
    "Recipe": RECIPE,
}

LAUNCH = (
    Key("enter", "edit", "edit", "change the option under the cursor", "enter"),
    Key("p", "next_preset", "preset", "next preset"),
    Key("a", "toggle_all", "all/main", "show every option, or the main ones"),
    Key("t", "goal", "goal", "name a target loss (3.2) or hours (8h): size, tokens and shards that reach it"),
    Key("T", "take_proposal", "", "plan the run that would reach the goal: the nearest preset, and its steps"),
    Key("u", "reset_option", "undo", "set the option back to its preset's value"),
    Key("ctrl+g", "start", "start", "start the run", "^g"),
    Key("W", "queue", "queue", "let the run wait in the queue until a GPU (without one: the CPU) is free"),
    Key("M", "lines", "", "make the run without starting it, and show the lines that start it: torchrun, Slurm"),
    Key("escape", "leave_edit", "", "leave the option as it was", "esc"),
)

_ALSO_SHOWN = {"x_axis": "x axis", "log_y": "log y", "zoom(-1)": "zoom", "cursor(1)": "cursor"}  # where there is room

# How charts are looked at.
VIEW = (
    Key("L", "log_y", "", "logarithmic loss axis, or linear"),
    Key("X", "log_x", "", "logarithmic x axis, or linear"),
    Key("a", "x_axis", "", "x axis: by step, tokens, epoch, wall time"),
    Key("plus,equals_sign", "zoom(-1)", "", "zoom in about the cursor; so does the wheel", "+"),
    Key("minus", "zoom(1)", "", "zoom out", "-"),
    Key("less_than_sign", "pan(-1)", "", "move what is zoomed to the left; shift and wheel do the same", "<"),
    Key("greater_than_sign", "pan(1)", "", "move it to the right", ">"),
    Key("0", "whole", "", "the whole run again, without cursor"),
    Key("left,h", "cursor(-1)", "", "cursor to the left: values there; a click sets it", "← h"),
    Key("right,l", "cursor(1)", "", "cursor to the right", "→ l"),
    Key("z", "smooth(1)", "", "smoother curves; the raw ones stay behind them"),
    Key("Z", "smooth(-1)", "", "less smooth, at last raw"),
    Key("o", "clip", "", "leave far outliers outside the y axis, or show them"),
)

RUN = (
    Key("s", "stop", "stop", "stop the run: it ends its step and writes a checkpoint"),
    Key("r", "resume", "resume", "resume from the newest checkpoint"),
    Key("x", "explain", "", "explain now, without waiting for the next evaluation"),
    Key("p", "probe", "probe", "settle the cause under the cursor by experiment, after a question; again: stop it"),
    Key("F", "fix", "fix", "apply the fix of the cause under the cursor: a branch of the run, or Launch filled in"),
    Key("b", "branch", "", "branch: a new run goes on from a checkpoint, with changed options"),
    Key(
        "e",
        "export",
        "export",
        "write the summary into the run's directory: summary.md with charts as SVG, summary.html",
    ),
    Key("m", "charts", "charts", "all charts in a grid, or the loss with its reason"),
    *VIEW,
    Key("left_square_bracket", "pane(-1)", "", "previous pane", "["),
    Key("right_square_bracket", "pane(1)", "panes", "next pane", "[ ]"),
    Key("slash", "log_search", "", "search the log; n and N go to the next and the previous match", "/"),
    Key("n", "log_match(1)", "", "next match of the log's search"),
    Key("N", "log_match(-1)", "", "previous match"),
    Key("y", "copy", "", "copy the run's directory to the clipboard (OSC 52), and into a file"),
    Key("Y", "copy_line", "", "copy the run in one line: state, step, losses, verdict"),
    Key("f", "full", "full", "this pane alone on the screen, or all of them"),
)

RUNS = (
    Key("enter", "open_run", "open", "watch the run under the cursor", "enter"),
    Key("s", "stop", "stop", "stop the run under the cursor"),
    Key("r", "resume", "", "resume the run under the cursor from its newest checkpoint"),
    Key("b", "branch", "", "branch: a new run goes on from a checkpoint, with changed options"),
    Key("n", "new_run", "new", "plan and launch a new run"),
    Key("slash", "filter", "filter", "only runs that match: words, lr>3e-4 and layers=12, or, not, ( )", "/"),
    Key("S", "sort", "", "sort: newest first, best held-out loss first, fastest first, by name"),
    Key("space", "mark", "mark", "mark the run under the cursor, or take the mark away", "space"),
    Key("c", "compare", "compare", "compare the marked runs: one chart, figures, configurations"),
    Key(
        "w",
        "queue",
        "",
        "queue the run under the cursor, or the marked ones, that were never started; or take them out",
    ),
    Key("W", "queue_process", "", "start the queue's process, which starts what waits; or end it"),
    Key("D", "delete", "", "delete the run under the cursor, after a question; never one that runs"),
    Key("R", "rename", "", "rename the run under the cursor"),
    Key("N", "note", "", "write a note about the run under the cursor"),
    Key("y", "copy", "", "copy the directory of the run under the cursor to the clipboard (OSC 52), and into a file"),
    Key("Y", "copy_line", "", "copy the run in one line: state, step, losses, verdict"),
    Key("escape", "clear_filter", "all", "show all runs; take all marks away", "esc"),
)

COMPARE = (
    Key("v", "figure", "figure", "the next figure: held-out and training loss, rate, grad norm, tokens/s"),
    Key("f", "full", "full", "the chart alone on the screen, or with the table"),
    *(replace(key, label=_ALSO_SHOWN.get(key.action, "")) for key in VIEW),
    Key("y", "copy", "", "copy the table, tabs between its columns, to the clipboard (OSC 52), and into a file"),
    Key("escape,c,q", "back", "back", "back to the runs", "esc"),
)

SCREENS: dict[str, tuple[Key, ...]] = {"data": DATA, "launch": LAUNCH, "run": RUN, "runs": RUNS}
PUSHED: dict[str, tuple[Key, ...]] = {"Compare": COMPARE}  # screens above one of them, by title


def bindings(keys: tuple[Key, ...]) -> list[BindingType]:
    """Textual bindings of a part of the table."""
    return [
        Binding(k.key, k.action, k.label or k.help, show=bool(k.label), key_display=k.display, tooltip=k.help)
        for k in keys
        if k.action
    ]
