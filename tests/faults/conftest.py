"""The fault suite (``make faults``): the real programs under faults, and a table of how many were survived.

Nothing is skipped: what needs root (a small disk, a read-only mount) has another way without.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import process
from engine.config import resolve
from tests.counting import Counting, own_folders, verdict
from tests.engine.conftest import TINY, MakeRun, cache, shard
from tests.faults.programs import engine
from tests.faults.tally import Table, Tally

__all__ = ["MakeRun", "cache", "shard"]  # fixtures that pytest finds here


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--least-faults", type=int, default=0, help="fail where fewer faults than these were injected")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Counting(config, Table(), "faults", "--least-faults"))


@pytest.fixture
def fault(request: pytest.FixtureRequest) -> Iterator[Tally]:
    """``with fault(kind):`` counts a fault."""
    tally = Tally(request.node.user_properties)
    yield tally
    verdict(tally, "not survived")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Folders of the programs' own, one thread each; engines left behind are killed."""
    own_folders(tmp_path / "home", monkeypatch)
    monkeypatch.setenv("COLUMNS", "200")
    yield tmp_path
    for file in tmp_path.rglob(process.FILE_NAME):
        if process.alive(file.parent) and (found := process.read(file.parent)):
            os.kill(int(found["pid"]), signal.SIGKILL)


def configure(shard: Path, cache: Path, **changes: Any) -> str:
    """A tiny run's config.toml; ``section__key`` sets a value."""
    overrides = {**TINY, "data.paths": [str(shard)], "data.cache": str(cache), "model.dropout": 0.2,
                 "train.max_steps": 12, "train.checkpoint_every": 3, "train.keep_checkpoints": 2}  # fmt: skip
    overrides.update({key.replace("__", "."): value for key, value in changes.items()})
    return resolve(overrides=overrides).to_toml()


@pytest.fixture
def make_run(tmp_path: Path, shard: Path, cache: Path) -> MakeRun:
    """A run directory in ``tmp_path/runs``."""

    def build(name: str = "run", root: Path | None = None, **changes: Any) -> Path:
        folder = (root or tmp_path / "runs") / name
        folder.mkdir(parents=True, mode=0o700)
        (folder / "config.toml").write_text(configure(shard, cache, **changes))
        return folder

    return build


@pytest.fixture(scope="session")
def straight(tmp_path_factory: pytest.TempPathFactory, shard: Path, cache: Path) -> Callable[..., Path]:
    """The run of a configuration that nothing ever befell; trained once."""
    known: dict[str, Path] = {}

    def trained(**changes: Any) -> Path:
        config = configure(shard, cache, **changes)
        if config not in known:
            run = known[config] = tmp_path_factory.mktemp("straight") / "run"
            run.mkdir()
            (run / "config.toml").write_text(config)
            done = engine(run)
            assert done.code == 0, done.err
        return known[config]

    return trained
