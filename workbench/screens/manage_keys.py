"""Keys that act on the run under the cursor of a list: stop, resume, branch, delete, rename, note, copy."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.screens.queue_keys import QueueKeys
from workbench.widgets.run_header import RunStatus, one_line

if TYPE_CHECKING:
    from workbench.runs.store import RunSummary

_NONE = "no run under the cursor"


class ManageKeys(QueueKeys):
    """A screen that lists runs; ``current`` is the one under the cursor."""

    @property
    def current(self) -> RunSummary | None:
        """The run under the cursor."""
        raise NotImplementedError

    def moved(self, old: Path, new: Path | None) -> None:
        """A run directory has another name, or is gone; subclasses may know it by its old one."""
        if self.bench.run_dir == old:
            self.bench.run_dir = new
            self.bench.remember_here("opened", str(new or ""))

    def action_branch(self) -> None:
        """Branch the run."""
        from workbench.screens import acting

        if (run_dir := self._chosen()) is not None:
            acting.branch(self, run_dir)

    def action_delete(self) -> None:
        """Delete the run, if the person says yes."""
        from workbench.runs import manage
        from workbench.widgets.prompt import Confirm

        if (run_dir := self._chosen()) is None:
            return

        def delete(run: Path) -> None:
            manage.delete(run)
            self.app.call_from_thread(self.moved, run, None)

        def answered(yes: bool | None) -> None:
            if yes:
                self._act(run_dir, f"deleted {run_dir.name}", delete)

        self.app.push_screen(Confirm(f"Delete {run_dir.name}, with its checkpoints, for good?"), answered)

    def action_rename(self) -> None:
        """Rename the run."""
        from workbench.runs import manage
        from workbench.widgets.prompt import Ask

        if (run_dir := self._chosen()) is None:
            return

        def rename(run: Path, name: str) -> None:
            self.app.call_from_thread(self.moved, run, manage.rename(run, name))

        def answered(name: str | None) -> None:
            if name and name != run_dir.name:
                self._act(run_dir, f"renamed to {name}", lambda run: rename(run, name))

        self.app.push_screen(Ask(f"New name of {run_dir.name}", run_dir.name), answered)

    def action_note(self) -> None:
        """Write a note about the run."""
        from workbench.runs import manage
        from workbench.widgets.prompt import Ask

        if (run_dir := self._chosen()) is None or self.current is None:
            return

        def answered(note: str | None) -> None:
            if note is not None:
                self._act(run_dir, "noted" if note.strip() else "note removed", lambda run: manage.annotate(run, note))

        self.app.push_screen(Ask(f"Note about {run_dir.name}", self.current.note), answered)

    def action_copy(self) -> None:
        """Copy the run's directory."""
        if (run_dir := self._chosen()) is not None:
            self.copy(str(run_dir))

    def action_copy_line(self) -> None:
        """Copy the run in one line."""
        if (run := self.current) is None:
            self.say(_NONE, wrong=True)
            return
        val, best, speed = (math.nan if v is None else v for v in (run.val_loss, run.best_val, run.tokens_per_s))
        shown = RunStatus(run.name, run.state, run.step, run.max_steps, val_loss=val, best_val=best, tokens_per_s=speed)
        self.copy(one_line(shown, run.verdict or ""))

    def action_stop(self) -> None:
        """Stop the run."""
        from workbench.runs import launch

        if (run_dir := self._chosen()) is not None:
            self._act(run_dir, f"stopping {run_dir.name}", launch.stop)

    def action_resume(self) -> None:
        """Resume the run."""
        from workbench.runs import launch

        if (run_dir := self._chosen()) is not None:
            self._act(run_dir, f"resumed {run_dir.name}", launch.resume)

    def _chosen(self) -> Path | None:
        """The directory of the run under the cursor; says so where there is none."""
        if (run := self.current) is None:
            self.say(_NONE, wrong=True)
        return None if run is None else Path(run.run)

    def _act(self, run_dir: Path, said: str, act: Callable[[Path], object]) -> None:
        def acted() -> str:
            act(run_dir)
            return said

        self.in_thread(acted, lambda done: self.look_again() if done else None)
