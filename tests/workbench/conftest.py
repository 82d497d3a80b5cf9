"""Fixtures of the screen tests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from textual.pilot import Pilot

from tests.workbench.folders import make_run, make_shard

Wait = Callable[[Pilot[None], Callable[[], object]], Awaitable[None]]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, entered, so that what is shown of paths does not vary."""
    monkeypatch.chdir(tmp_path)
    for variable in ("SSH_CONNECTION", "NO_COLOR", "TEXTUAL_ANIMATIONS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("GPTBENCH_POLL", "0.05")
    return tmp_path


@pytest.fixture
def runs(here: Path) -> Path:
    """A runs folder with three runs."""
    root = here / "runs"
    make_run(root)
    make_run(root, "seed-40m-20250614-110000", steps=800, max_steps=800, stop="finished", age=90_000.0, overfit=False)
    make_run(root, "gpt2-10m-20250615-155500", steps=120, stop="stopped", age=300.0)
    return root


@pytest.fixture
def shards(here: Path) -> Path:
    """A folder of two good shards, one truncated, and one whose name is markup."""
    folder = here / "shards"
    texts = [f"Document {i}. " + "The quick brown fox jumps over the lazy dog. " * (i % 7 + 1) for i in range(260)]
    make_shard(folder / "a.parquet", [*texts, "evil \x1b[31m [red]markup[/red]", "same", "same"])
    make_shard(folder / "b.parquet", [*texts[:50], "new"])
    make_shard(folder / "[red]c.parquet", ["one\n\ntwo"])
    (folder / "bad.parquet").write_bytes(b"PAR1 and no footer")
    return folder


@pytest.fixture
def until() -> Wait:
    """``await until(pilot, condition)``: let the app work until the condition holds; fail after 20 s."""

    async def wait(pilot: Pilot[None], condition: Callable[[], object]) -> None:
        for _ in range(400):
            await pilot.pause(0.05)
            if condition():
                await pilot.pause()
                return
        raise AssertionError("what was waited for did not come within 20 s")

    return wait
