"""A suite that counts: a table at its end beside what passed and failed, and a number that it must come to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest


class Table(Protocol):
    """What the properties of tests' reports add up to."""

    def add(self, properties: Sequence[tuple[str, Any]]) -> None:
        """Take in those of one test."""

    def lines(self) -> list[str]:
        """The table, as it is printed."""

    def total(self) -> int:
        """How many were counted."""

    def missing(self) -> list[str]:
        """What the whole suite is to count and did not."""


class Counting:
    """The pytest plugin; a conftest registers it. ``least`` is the option that says how many are to be counted."""

    def __init__(self, config: pytest.Config, table: Table, title: str, least: str) -> None:
        self._config, self._table, self._title, self._least = config, table, title, least

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count."""
        if report.when == "teardown":
            self._table.add(report.user_properties)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print the table."""
        if self._table.total():
            terminalreporter.section(self._title)
            for line in self._table.lines():
                terminalreporter.write_line(line)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail where too few were counted; with a ``least``, what ran was the whole suite."""
        least = self._config.getoption(self._least, 0)
        if not least or hasattr(self._config, "workerinput"):
            return
        lacking = self._table.missing()
        if self._table.total() < least:
            lacking.append(f"{self._table.total()} were counted, {least} were to be")
        for text in lacking:
            print(f"\n{self._title}: {text}", flush=True)
            session.exitstatus = 1


def own_folders(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders of the programs' own below ``home``, and one thread for each program."""
    for name in ("GPTBENCH_CACHE", "GPTBENCH_STATE", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(home / name.lower()))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def verdict(tally: Any, what: str) -> None:
    """Fail a test where anything of its ``tally.failures`` was counted."""
    if tally.failures:
        pytest.fail(f"{len(tally.failures)} {what}\n" + "\n".join(tally.failures), pytrace=False)
