"""A suite that counts: a table at its end beside what passed and failed, and a number that it must come to."""

from __future__ import annotations

from collections.abc import Sequence
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
        """Fail where too few were counted."""
        least = self._config.getoption(self._least, 0)
        if not hasattr(self._config, "workerinput") and self._table.total() < least:
            print(f"\n{self._title}: {self._table.total()} were counted, {least} were to be", flush=True)
            session.exitstatus = 1
