"""The Launch screen: selected shards and a preset become a run, and what the plan implies is said beforehand."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.containers import Container, Vertical
from textual.content import Content
from textual.message import Message
from textual.suggester import SuggestFromList
from textual.widgets import DataTable, Input, Static
from textual.worker import get_current_worker

from engine.config import Config, ConfigError
from workbench.screens.keys import LAUNCH, bindings
from workbench.screens.messages import Done
from workbench.screens.options import Options, choices_of, help_of
from workbench.screens.starting import StartKeys
from workbench.text import plain
from workbench.widgets.line import Line
from workbench.widgets.preflight import Basis, Plan, Preflight
from workbench.widgets.sheet import Sheet
from workbench.widgets.table import Column, Table

COLUMNS = (
    Column("key", "option", 22),
    Column("value", "value", 16),
    Column("help", "", hide_below=70),
)
NAME = "name"  # the run's name stands among the options, though it is none
GOAL = "goal"  # nor is what the run is to reach
_NAME_HELP = "name of the run's folder; empty: the preset's"
_NO_SHARDS = "no shards are selected: 1 opens the Data screen, space selects there, l comes back"


@dataclass
class Planned(Message):
    """What the options imply now."""

    plan: Plan
    basis: Basis
    proposed: dict[str, Any]  # options that would reach the goal; none: there is no goal, or nothing does

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, Planned)


@dataclass
class ShardsCounted(Message):
    """The selected shards' tokens are known."""

    paths: frozenset[str]
    figures: dict[str, Any]


class LaunchScreen(StartKeys):
    """Starts a run on ``app.selected``."""

    MODE = "launch"
    CSS_PATH = "launch.tcss"
    BINDINGS = bindings(LAUNCH)
    AUTO_FOCUS = "#options"

    def __init__(self) -> None:
        super().__init__()
        self.options = Options()
        self.run_name = self.goal = ""
        self.proposed: dict[str, Any] = {}
        self.every = False
        self._editing: str | None = None
        self._counted_for: frozenset[str] = frozenset()
        self._recipe = ""
        self._cancel = threading.Event()

    def body(self) -> ComposeResult:
        """Options left, what they imply right; the line to type into below."""
        with Container(id="plan"):
            yield Table(COLUMNS, id="options")
            yield Preflight()
        yield Sheet("", id="option-help")
        yield Sheet("", id="starting")
        with Vertical(id="edit"):
            yield Sheet("", id="edit-help")
            yield Line(id="edit-value", compact=True)
            yield Sheet("", id="edit-error")

    def on_screen_resume(self) -> None:
        """Plan on the shards selected meanwhile."""
        if self.bench.planned_options is not None:
            self.options.changes, self.bench.planned_options = self.bench.planned_options, None
            self._recipe = self.bench.recipe
        shards = len(self.bench.selected)
        self.place(f"{shards} shard{'s' * (shards != 1)}" if shards else "no shards")
        if self.bench.recipe != self._recipe:
            self._recipe = self.bench.recipe
            self.options.changes["data.recipe"] = self._recipe
        self._show_options()
        self._count_if_needed()
        self._replan()

    def on_unmount(self) -> None:
        """Let a count go, and a start that is not yet a run."""
        self._cancel.set()
        self.cancel_start()

    # Keys

    def action_edit(self) -> None:
        """Change the option under the cursor."""
        key = self.query_one(Table).current_key
        if key is None:
            return
        choices = choices_of(key) if key != NAME else ()
        what = _NAME_HELP if key == NAME else help_of(key)
        self._edit(key, what, self.run_name if key == NAME else self._value(key), choices)

    def action_goal(self) -> None:
        """Name a loss or hours."""
        self._edit(GOAL, "a loss to reach, such as 3.2, or hours to spend, such as 8h; empty: none", self.goal)

    def _edit(self, name: str, what: str, value: str, choices: Sequence[str] = ()) -> None:
        self._editing = name
        box = self.query_one("#edit-value", Input)
        box.suggester = SuggestFromList(choices) if choices else None
        box.value = value
        self.add_class("-editing")
        self.query_one("#edit-help", Static).update(Content.assemble((name, "bold"), (f"  {what}", "$text-muted")))
        self._say_wrong(self._wrong(value))
        box.focus()
        box.action_select_all()

    def action_take_proposal(self) -> None:
        """Plan the run that would reach the goal."""
        if not self.proposed:
            self.say("nothing is proposed: t names a goal", wrong=True)
            return
        self.options.changes.update(self.proposed)
        self.options.reset("train.epochs")
        self._changed()

    def action_leave_edit(self) -> None:
        """Leave the option as it was; else stop a start whose recipe is being resolved."""
        if self._editing is None and self.cancel_start():
            return
        self._editing = None
        self.remove_class("-editing")
        self.query_one(Table).focus()

    def action_next_preset(self) -> None:
        """Next preset."""
        self.options.next_preset()
        self._changed()

    def action_toggle_all(self) -> None:
        """Every option, or the main ones."""
        self.every = not self.every
        self._show_options()

    def action_reset_option(self) -> None:
        """The preset's value again."""
        key = self.query_one(Table).current_key
        if key == NAME:
            self.run_name = ""
        elif key is not None:
            self.options.reset(key)
        self._changed()

    def plan_to_start(self) -> tuple[Config, str | None] | None:
        """What the options say, if a run can be made of it."""
        if self._editing is not None:
            self.say("finish the option first: enter takes it, esc leaves it", wrong=True)
            return None
        if not self.bench.selected:
            self.say(_NO_SHARDS, wrong=True)
            return None
        try:
            return self.options.config(self.bench.selected), self.run_name or None
        except ConfigError as error:
            self.say(str(error), wrong=True)
            return None

    # Editing

    @on(DataTable.RowHighlighted, "#options")
    def _row_highlighted(self) -> None:
        """The whole help of the option under the cursor."""
        if (key := self.query_one(Table).current_key) is not None:
            self.query_one("#option-help", Static).update(Content(_NAME_HELP if key == NAME else help_of(key)))

    @on(Input.Changed, "#edit-value")
    def _typed(self, event: Input.Changed) -> None:
        self._say_wrong(self._wrong(event.value))

    def _say_wrong(self, wrong: str | None) -> None:
        text = (plain(wrong), "$text-error") if wrong else ("enter takes it, esc leaves it", "$text-muted")
        self.query_one("#edit-error", Static).update(Content.styled(*text))

    @on(Input.Submitted, "#edit-value")
    def _submitted(self, event: Input.Submitted) -> None:
        if self._editing is None or self._wrong(event.value):
            return
        if self._editing == NAME:
            self.run_name = event.value.strip()
        elif self._editing == GOAL:
            self.goal = event.value.strip()
        else:
            self.options.put(self._editing, event.value)
        self.action_leave_edit()
        self._changed()

    def _wrong(self, text: str) -> str | None:
        if self._editing == GOAL:
            from workbench.plateau.propose import Unreachable
            from workbench.screens.forecast import goal_of

            try:
                goal_of(text or "0")
            except Unreachable as error:
                return str(error)
            return None
        return None if self._editing in (None, NAME) else self.options.check(str(self._editing), text)

    def _value(self, key: str) -> str:
        try:
            return self.options.shown(self.options.config(), key)
        except ConfigError:
            return str(self.options.changes.get(key, ""))

    def _changed(self) -> None:
        self._show_options()
        self._replan()

    def recolour(self) -> None:
        """Options changed by hand stand out."""
        self._show_options()

    def _show_options(self) -> None:
        changed = self.app.theme_variables.get("text-warning", "")[:7]
        rows: dict[str, list[str | Text]] = {}
        for key in self.options.keys(self.every):
            by_hand = key in self.options.changes and key != "model.preset"
            value = Text(self._value(key) or "–", changed if by_hand and changed.startswith("#") else "")
            rows[key] = [key, value, help_of(key)]
        rows[NAME] = ["run name", self.run_name or "–", _NAME_HELP]
        self.query_one(Table).show(rows)

    # Planning

    def _replan(self) -> None:
        try:
            config = self.options.config(self.bench.selected)
        except ConfigError as error:
            self.query_one(Preflight).wrong(str(error))
            return
        self.bench.planned_tokens = config.tokens_per_step * config.train.max_steps
        self._plan(config, list(self.bench.selected), self.goal)

    def _count_if_needed(self) -> None:
        paths = frozenset(self.bench.selected)
        if paths and paths not in self.bench.statistics and paths != self._counted_for:
            self._cancel.set()
            self._cancel = threading.Event()
            self._counted_for = paths
            self._count(paths, self._cancel)

    @on(Planned)
    def _planned(self, message: Planned) -> None:
        self.proposed = message.proposed
        self.query_one(Preflight).show(message.plan, message.basis)

    @on(ShardsCounted)
    def _shards_counted(self, message: ShardsCounted) -> None:
        self.bench.statistics[message.paths] = message.figures
        self._replan()

    # Work

    @work(thread=True, group="plan", exclusive=True, exit_on_error=False)
    def _plan(self, config: Config, paths: list[str], goal: str) -> None:
        from engine.plan import plan
        from workbench.plateau.propose import Unreachable
        from workbench.runs.machine import machine
        from workbench.runs.pace import pace
        from workbench.screens.forecast import forecast, options_for, proposal_for, proposal_lines

        worker = get_current_worker()
        figures = self.bench.statistics.get(frozenset(paths))
        train_tokens = unique_tokens = None
        effective: float | None = None
        if figures is not None and figures.get("tokens") is not None:
            # One separator ends each document; what is held out is not trained on.
            kept = 1.0 if config.data.val_paths else 1.0 - config.data.val_fraction
            documents = figures.get("documents") or 0
            copies = figures.get("exact_duplicate_rows") or 0
            train_tokens = int(kept * (figures["tokens"] + documents))
            if figures.get("unique_tokens") is not None:
                unique_tokens = int(kept * (figures["unique_tokens"] + documents - copies))
        previewed_for, effect = self.bench.recipe_effect or (None, None)
        if (
            config.data.recipe
            and config.data.recipe == self.bench.recipe
            and previewed_for == frozenset(paths)
            and effect
        ):
            train_tokens = effect["train_tokens"] + effect["train_documents"]
            unique_tokens = effect["unique_tokens"] + effect["unique_documents"]
            effective = effect["effective_tokens"]
        here = machine(config.train.device)
        found = plan(
            config,
            train_tokens=train_tokens,
            unique_tokens=unique_tokens,
            device_memory=here.memory,
            device_name=here.name,
            shards=here.shards(config),
        )
        device = here.name
        if found.seconds is None and (known := pace(self.bench.runs_root, here, found.parameters)):
            found = replace(found, seconds=found.flops / known.flops_per_second)
            device = f"{device}, at the pace of {known.run}"
        note = "" if figures or not paths else "counting tokens …"
        ahead = forecast(config, found, figures, effective)
        proposal: list[str] = []
        changes: dict[str, Any] = {}
        if goal:
            try:
                proposed = proposal_for(goal, found, ahead.effective, len(paths))
                family = config.model.family
                proposal = proposal_lines(goal, proposed, family, ahead.effective is not None)
                changes = options_for(proposed, family)
            except Unreachable as error:
                proposal = [f"goal {goal}: {error}"]
        basis = Basis(
            len(paths), train_tokens, unique_tokens, device, note, ahead.effective,
            "" if ahead.loss is None else str(ahead.loss), ahead.basis, ahead.warnings, proposal,
        )  # fmt: skip
        if not worker.is_cancelled:
            self.post_message(Planned(found, basis, changes))

    @work(thread=True, group="count", exit_on_error=False)
    def _count(self, paths: frozenset[str], cancel: threading.Event) -> None:
        from data.catalogue import Catalogue
        from data.statistics import statistics
        from data.workers import Cancelled

        worker = get_current_worker()

        def cancelled() -> bool:
            return cancel.is_set() or worker.is_cancelled

        try:
            with Catalogue(sorted(paths)) as catalogue:
                figures = statistics(catalogue, cancelled=cancelled).to_dict()
        except Cancelled:
            return
        except Exception as error:
            self.post_message(Done(f"tokens cannot be counted: {error}", wrong=True))
            return
        self.post_message(ShardsCounted(paths, figures))
