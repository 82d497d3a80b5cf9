"""Hostile input, counted (``make hostile``): the real programs, and a table of doors times sinks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.counting import Counting, own_folders, verdict
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
    verdict(made, "had effect")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders of the programs' own."""
    own_folders(tmp_path / "home", monkeypatch)
