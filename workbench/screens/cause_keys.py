"""Keys that act on the cause under the cursor of the Run screen: probe it, apply its fix; and branch the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.screens.base import WorkbenchScreen
from workbench.widgets.plateau_pane import PlateauPane

NO_RUN = "no run is open: 4 lists the runs, 1 chooses shards for a new one"


class CauseKeys(WorkbenchScreen):
    """A screen with a ``PlateauPane`` about ``app.run_dir``."""

    def action_probe(self) -> None:
        """Settle the cause under the cursor by experiment."""
        if self.bench.run_dir is None or (cause := self._cause()) is None:
            return
        from workbench.screens import acting

        facts = (self.query_one(PlateauPane).diagnosis or {}).get("facts") or {}
        acting.probe(self, self.bench.run_dir, cause, facts)

    def action_fix(self) -> None:
        """Apply the fix of the cause under the cursor."""
        if self.bench.run_dir is None or (cause := self._cause()) is None:
            return
        from workbench.screens import acting

        acting.apply_fix(self, self.bench.run_dir, cause)

    def action_branch(self) -> None:
        """Branch the run."""
        from workbench.screens import acting

        if self.bench.run_dir is None:
            self.say(NO_RUN, wrong=True)
        else:
            acting.branch(self, self.bench.run_dir)

    def _cause(self) -> Mapping[str, Any] | None:
        """The cause under the cursor; says so where there is none."""
        cause = self.query_one(PlateauPane).current
        if cause is None:
            self.say(NO_RUN if self.bench.run_dir is None else "no cause is under the cursor yet", wrong=True)
        return cause
