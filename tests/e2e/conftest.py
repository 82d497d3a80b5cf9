"""Fixtures of the end-to-end tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from workbench.runs import launch
from workbench.runs.store import list_runs


@pytest.fixture
def env(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Environment of the terminal; runs left behind are stopped."""
    folders = {"GPTBENCH_CACHE": "cache", "XDG_CONFIG_HOME": "config", "XDG_STATE_HOME": "state"}
    yield {
        "TERM": "tmux-256color",
        "LANG": "C.UTF-8",
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        **{key: str(tmp_path / name) for key, name in folders.items()},
    }
    for run in list_runs(tmp_path / "runs") + list_runs(tmp_path / "demo" / "runs"):
        if run.state == "running":
            launch.stop(Path(run.run), wait=30)
