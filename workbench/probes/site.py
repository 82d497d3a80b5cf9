"""What a probe finds in a run directory: its configuration, the checkpoints that are kept, its data. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.bounded import read_array, read_json
from engine.config import Config, load
from engine.schedule import learning_rate
from workbench.errors import UserError

FOLDER, PLAN, RESULT = "probes", "plan.json", "result.json"


class NoProbe(UserError):
    """Why a cause cannot be settled by experiment here: one line, with what would settle it."""


@dataclass(frozen=True)
class Kept:
    """A checkpoint: its folder, step, and tokens trained on up to it; ``origin``: the step its run branched off at."""

    path: Path
    step: int
    position: int
    origin: int
    planned: int  # optimiser steps of the plan when it was written


@dataclass(frozen=True)
class Site:
    """A native run.

    Attributes:
        checkpoints: whole ones, the newest first. data: what ``data.json`` says.
        evaluated: tokens of each held-out document that the run evaluates, int64 [documents].
    """

    run_dir: Path
    config: Config
    checkpoints: tuple[Kept, ...]
    data: dict[str, Any]
    evaluated: tuple[int, ...]

    @property
    def spent(self) -> int:
        """Tokens that stand behind the newest checkpoint: the compute that a probe's cost is a share of."""
        return self.checkpoints[0].position

    def rate(self, kept: Kept) -> float:
        """Learning rate of the step behind a checkpoint."""
        config = self.config.replace(train={"max_steps": kept.planned})
        return learning_rate(config, kept.step + 1)

    @property
    def tokens(self) -> int:
        """Training tokens, copies included; 0 where the run does not say."""
        return int(self.data.get("tokens") or 0)


def visit(run_dir: Path) -> Site:
    """Look at a run.

    Raises:
        NoProbe: an imported log, no checkpoint, or shards that are gone.
        engine.config.ConfigError: its configuration cannot be read.
    """
    name = run_dir.name
    if not (run_dir / "config.toml").is_file():
        raise NoProbe(f"{name} is an imported log: there is no checkpoint to branch here")
    config = load(run_dir / "config.toml")
    checkpoints = tuple(kept for path in _folders(run_dir) if (kept := _read(path)) is not None)
    if not checkpoints:
        raise NoProbe(f"{name}: no checkpoint is kept yet: a probe branches from one (train.checkpoint_every)")
    for path in (*config.data.paths, *config.data.val_paths):
        if "://" not in path and not Path(path).exists():
            raise NoProbe(f"{path}: this shard of {name} is gone: put it back, a probe trains on the run's own data")
    try:
        data = read_json(run_dir / "data.json")
    except (OSError, ValueError):
        data = {}
    try:
        counts = read_array(run_dir / "evals" / "heldout-tokens.npy")
        evaluated = tuple(int(n) for n in counts.reshape(-1))
    except (OSError, ValueError):
        evaluated = ()
    return Site(run_dir, config, checkpoints, data if isinstance(data, dict) else {}, evaluated)


def _folders(run_dir: Path) -> list[Path]:
    try:
        found = [p for p in (run_dir / "checkpoints").iterdir() if p.name.startswith("step-")]
    except OSError:
        return []
    return sorted(found, key=lambda path: path.name, reverse=True)


def _read(path: Path) -> Kept | None:
    """What ``state.json`` says of a checkpoint; None for one that is not whole."""
    try:
        state = read_json(path / "state.json")
        for name, stated in state["files"].items():
            if (path / name).stat().st_size != stated["bytes"]:
                return None
        origin = int(state.get("origin", [0, 0])[0])
        planned = int(state["config"]["train"]["max_steps"])
        return Kept(path, int(state["step"]), int(state["position"]), origin, planned)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        return None
