"""Hostile input, counted (``make hostile``): the real programs, and a table of doors times sinks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.counting import Counting
from tests.hostile.table import Counted, Table


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--least-hostile", type=int, default=0, help="fail where fewer hostile texts than these arrived")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Counting(config, Table(), "hostile input", "--least-hostile"))


@pytest.fixture
def counted(request: pytest.FixtureRequest) -> Iterator[Counted]:
    """Counts what reached a sink."""
    made = Counted(request.node.user_properties)
    yield made
    if made.failures:
        pytest.fail(f"{len(made.failures)} had effect\n" + "\n".join(made.failures), pytrace=False)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders of the programs' own."""
    for name in ("GPTBENCH_CACHE", "GPTBENCH_STATE", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home" / name.lower()))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
