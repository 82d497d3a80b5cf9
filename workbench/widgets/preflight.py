"""What a plan implies, before it is started."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from textual.content import Content

from workbench.text import plain
from workbench.widgets.format import UNKNOWN, count, duration, share, size
from workbench.widgets.sheet import beside
from workbench.widgets.text_pane import TextPane


class Plan(Protocol):
    """As ``engine.plan.Plan``."""

    @property
    def parameters(self) -> int: ...
    @property
    def tokens_per_step(self) -> int: ...
    @property
    def max_steps(self) -> int: ...
    @property
    def total_tokens(self) -> int: ...
    @property
    def cooldown_steps(self) -> int | None: ...
    @property
    def epochs(self) -> float | None: ...
    @property
    def memory(self) -> int: ...
    @property
    def memory_available(self) -> int | None: ...
    @property
    def seconds(self) -> float | None: ...
    @property
    def warnings(self) -> Sequence[str]: ...


@dataclass(frozen=True)
class Basis:
    """What the plan rests on. Tokens are None while they are not counted."""

    shards: int
    train_tokens: int | None
    unique_tokens: int | None
    device: str
    note: str = ""  # what is still being worked out
    effective_tokens: float | None = None
    loss: str = ""  # expected at the end, with its interval; empty where nothing is known
    loss_basis: str = ""
    warnings: Sequence[str] = ()
    proposal: Sequence[str] = ()  # what would reach the goal that was named


class Preflight(TextPane):
    """``show`` a plan, or ``wrong`` why there is none."""

    def __init__(self) -> None:
        super().__init__()
        self._plan: tuple[Plan, Basis] | None = None
        self._wrong = ""

    def show(self, plan: Plan, basis: Basis) -> None:
        """Show what the plan implies."""
        self._plan = plan, basis
        self.lay_out()

    def wrong(self, text: str) -> None:
        """Say why there is no plan."""
        self._plan, self._wrong = None, text
        self.lay_out()

    def lines(self, width: int) -> Iterable[Content]:
        if self._plan is None:
            return Content.styled(plain(self._wrong), "$text-error").wrap(width)
        return sheet(*self._plan, width).split("\n")


def sheet(plan: Plan, basis: Basis, width: int) -> Content:
    """What a plan implies, as text of so many cells: what would reach the goal, figures, warnings."""
    tokens = f"{count(basis.unique_tokens)} unique tokens" if basis.unique_tokens else basis.note
    available = plan.memory_available
    taken = "" if available is None else f"of {size(available)} ({share(plan.memory / available)})"
    effective: list[tuple[str, str, str]] = []
    if basis.effective_tokens:
        passes = plan.total_tokens / basis.effective_tokens
        effective = [("", f"{passes:,.2f}", f"over {count(basis.effective_tokens)} effective unique tokens")]
    rows: list[tuple[str, str, str]] = [
        ("shards", str(basis.shards), tokens),
        ("parameters", count(plan.parameters), f"at 20 tokens each: {count(20 * plan.parameters)}"),
        ("tokens", count(plan.total_tokens), f"{plan.max_steps:,} steps of {plan.tokens_per_step:,}"),
        ("epochs", UNKNOWN if plan.epochs is None else f"{plan.epochs:,.2f}", _epoch_basis(basis)),
        *effective,
        ("final loss", basis.loss or UNKNOWN, basis.loss_basis),
        ("memory", size(plan.memory), taken),
        ("time", duration(plan.seconds), f"on {plain(basis.device)}"),
    ]
    if plan.cooldown_steps is not None:
        rows.insert(3, ("cooldown", f"{plan.cooldown_steps:,}", "last steps, in which the learning rate falls"))
    lines = [
        beside(
            Content.styled(f"{label:<12}", "$text-muted"),
            Content.assemble((value, "bold"), (f"  {note}" if note else "", "$text-muted")),
            width,
        )
        for label, value, note in rows
    ]
    goal = [
        beside(Content("  " if i else ""), Content.styled(plain(line), "$text-accent"), width)
        for i, line in enumerate(basis.proposal)
    ]
    nothing = () if basis.shards else ("no shards: 1 opens Data, space selects there, l comes back",)
    warned = (*nothing, *plan.warnings, *basis.warnings)
    mark = Content.styled("! ", "$text-warning")
    lines += [beside(mark, Content.styled(plain(warning), "$text-warning"), width) for warning in warned]
    return Content("\n").join([*goal, *lines])


def _epoch_basis(basis: Basis) -> str:
    if basis.unique_tokens:
        return "over the unique tokens trained on"
    return "over the tokens trained on" if basis.train_tokens else "known once tokens are counted"
