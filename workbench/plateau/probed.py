"""What experiments add to a diagnosis: results of those made, and the plan of those that could be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from engine.config import ConfigError
from workbench.errors import UserError
from workbench.plateau.cause import Action, Assessment, Cause, Finding
from workbench.plateau.fixes import command_of, fix_of
from workbench.plateau.order import Planned
from workbench.probes import results as results_module
from workbench.probes.design import design
from workbench.probes.judge import Result
from workbench.probes.site import Site, visit
from workbench.text import quoted

CONFIRMED, REFUTED = 0.97, 0.03  # what a cause's probability is moved to, at least and at most
_WEIGHT = 6.0  # log-odds of an experiment's word, above any reading of the curves
_STALE = 1.5  # a result says nothing any more once the run is that many times as long


def results(run_dir: Path | None, step: int) -> dict[str, Result]:
    """Results of a run's probes that still hold at ``step``."""
    if run_dir is None:
        return {}
    return {name: r for name, r in results_module.settle(run_dir).items() if step <= _STALE * max(r.step, 1)}


def taken_in(assessment: Assessment, result: Result) -> Assessment:
    """An assessment with the experiment's finding; an undecided one is listed as missing."""
    if result.confirmed is None:
        return replace(assessment, missing=[*assessment.missing, f"the probe is undecided: {result.why}"])
    figures = {key: value for key, value in (result.gain or {}).items() if value is not None}
    said = "confirmed" if result.confirmed else "refuted"
    finding = Finding(f"{said} by experiment: {result.why}", _WEIGHT if result.confirmed else -_WEIGHT, figures)
    return replace(assessment, findings=[finding, *assessment.findings])


class Plans:
    """The probes that a run allows. Without a directory (a log) they stand with their nominal cost."""

    def __init__(self, run_dir: Path | None) -> None:
        native = run_dir is not None and (run_dir / "config.toml").is_file()
        self._run_dir = run_dir = run_dir if native else None
        self._site: Site | None = None
        self._refused = "" if run_dir is not None else "a log of another trainer: there is no checkpoint to branch here"
        if run_dir is not None:
            try:
                self._site = visit(run_dir)
            except (UserError, ConfigError) as error:
                self._refused = str(error)

    def of(self, cause: Cause) -> Planned | None:
        """The cause's experiment as it would be made now; None where no short one settles it."""
        experiment = cause.PROBE
        if experiment is None:
            return None
        if self._site is None:
            return Planned(experiment.what, experiment.cost, self._refused)
        try:
            return Planned(experiment.what, design(self._site, cause.ID, experiment).left)
        except UserError as error:
            return Planned(experiment.what, experiment.cost, str(error))

    def fix_command(self, action: Action) -> str:
        """What to type for a fix; "" as well for a branch of a log, which has no checkpoint here, and for other data of
        its: a log has no configuration to keep."""
        if self._run_dir is None and (action.kind == "branch" or not action.set):
            return ""
        name = "RUN" if self._run_dir is None else self._run_dir.name
        return command_of(fix_of(action.kind, action.set, action.from_step, self._site), self._run_dir, name)

    def probe_command(self, cause: str, probe: Planned | None) -> str:
        """What to type for a probe."""
        if probe is None or probe.refused or self._run_dir is None:
            return ""
        return f"gptbench probe {quoted(self._run_dir.name)} {cause}"
