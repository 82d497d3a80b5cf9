"""Hostile input, counted (``make hostile``): the real programs, and a table of doors times sinks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.hostile.table import Counted, Table

_table = Table()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--least-hostile", type=int, default=0, help="fail where fewer hostile texts than these arrived")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "teardown":
        _table.add(report.user_properties)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if _table.reached:
        terminalreporter.section("hostile input")
        for line in _table.lines():
            terminalreporter.write_line(line)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    least = session.config.getoption("--least-hostile", 0)
    if not hasattr(session.config, "workerinput") and _table.reached.total() < least:
        print(f"\n{_table.reached.total()} hostile texts reached a sink, {least} were to", flush=True)
        session.exitstatus = 1


@pytest.fixture
def counted(request: pytest.FixtureRequest) -> Iterator[Counted]:
    """Counts what reached a sink."""
    made = Counted(request.node.user_properties)
    yield made
    if made.failures:
        pytest.fail(f"{len(made.failures)} had effect\n" + "\n".join(made.failures), pytrace=False)


@pytest.fixture(autouse=True)
def home(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders of the programs' own."""
    for name in ("GPTBENCH_CACHE", "GPTBENCH_STATE", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home" / name.lower()))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
