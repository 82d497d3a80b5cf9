"""What a run holds is its owner's alone, whatever the umask says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.config import resolve
from tests.workbench.folders import make_shard
from workbench.cli import main
from workbench.runs import launch


@pytest.fixture
def lax_umask() -> object:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("lax_umask")
def test_a_run_directory_is_closed_to_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shard = make_shard(tmp_path / "a.parquet", ["one", "two"])
    made = launch.create(resolve(overrides={"data.paths": [str(shard)]}), tmp_path / "runs")
    (tmp_path / "log.csv").write_text("step,loss\n1,3\n2,2.9\n3,2.8\n")
    assert main(["import", str(tmp_path / "log.csv"), "--runs", str(tmp_path / "runs")]) == 0
    imported = Path(capsys.readouterr().out.strip())
    for run_dir in (made, imported):
        assert run_dir.stat().st_mode & 0o077 == 0
    assert (imported / "events.jsonl").stat().st_mode & 0o077 == 0
