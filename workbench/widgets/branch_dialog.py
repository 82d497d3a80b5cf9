"""Where a branch begins and what it changes: two lines to type, checked as they are."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from workbench.text import plain
from workbench.widgets.line import Line

Answer = tuple[int, list[str]]


class BranchDialog(ModalScreen[Answer | None]):
    """Asks for a step and options; answers both once ``check`` has nothing against them, None where one leaves.

    Args:
        steps: of the checkpoints, newest first.
        check: says what is wrong with a step and options (``key=value``), "" if nothing is.
    """

    DEFAULT_CSS = """
    BranchDialog { align: center middle; }
    BranchDialog > Vertical { width: 76; max-width: 96%; height: auto; padding: 0 1; }
    BranchDialog > Vertical { background: $surface; border: round $primary; }
    BranchDialog Static, BranchDialog Input { width: 1fr; height: auto; }
    BranchDialog #branch-wrong { color: $text-error; }
    """
    BINDINGS = [
        Binding("escape", "leave", "Leave", show=False),
        Binding("ctrl+g", "start", "Start", show=False, priority=True),
    ]

    def __init__(
        self, title: str, steps: Sequence[int], check: Callable[[int, list[str]], str], sets: Sequence[str] = (),
        step: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.question, self.steps, self.check = title, list(steps), check
        self.step = self.steps[0] if step is None else step
        self.sets = shlex.join(sets)

    def compose(self) -> ComposeResult:
        """The step, the options, what is wrong with them, and the keys."""
        there = ", ".join(map(str, self.steps[:8])) + (" …" if len(self.steps) > 8 else "")
        with Vertical():
            yield Static(Content.styled(plain(self.question), "bold"))
            yield Static(Content.styled(f"from the checkpoint of step (there are: {there})", "$text-muted"))
            yield Line(str(self.step), compact=True, id="branch-step")
            yield Static(Content.styled("changed options, such as optim.lr=1e-4 train.max_steps=3000", "$text-muted"))
            yield Line(self.sets, compact=True, id="branch-sets")
            yield Static("", id="branch-wrong")
            keys = (("enter", "next, then start"), ("^g", "start"), ("esc", "leave"))
            yield Static(Content("   ").join(Content.assemble((k, "bold $text-accent"), f" {d}") for k, d in keys))

    def on_mount(self) -> None:
        """The options are what one most often changes."""
        box = self.query_one("#branch-sets", Input)
        box.focus()
        box.cursor_position = len(box.value)

    @on(Input.Submitted, "#branch-step")
    def _step_given(self) -> None:
        self.query_one("#branch-sets").focus()

    @on(Input.Changed)
    def _typed(self) -> None:
        self.query_one("#branch-wrong", Static).update("")

    @on(Input.Submitted, "#branch-sets")
    def action_start(self) -> None:
        """Answer, if both lines can be."""
        text = self.query_one("#branch-step", Input).value.strip()
        try:
            sets = shlex.split(self.query_one("#branch-sets", Input).value)
        except ValueError as error:
            self._wrong(f"the options: {error}")
            return
        if not (text.isascii() and text.isdigit()) or int(text) not in self.steps:
            self._wrong(f"no checkpoint of step {text or '–'}")
            return
        if wrong := self.check(int(text), sets):
            self._wrong(wrong)
            return
        self.dismiss((int(text), sets))

    def _wrong(self, text: str) -> None:
        self.query_one("#branch-wrong", Static).update(Content(plain(text)))

    def action_leave(self) -> None:
        """Answer nothing."""
        self.dismiss(None)
