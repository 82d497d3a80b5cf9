"""Shards deleted, replaced or cut short under a running engine: packed ones are not missed, of the others one line
names the file; the run is never continued on other data than it began with."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.engine.conftest import events_of, losses_of, texts_of, write_shard
from tests.engine.test_streaming import SLOW
from tests.faults.conftest import MakeRun
from tests.faults.programs import ENGINE, engine, environment, gptbench, started, wait_for
from tests.faults.runs import same, whole
from tests.faults.tally import Tally

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]
LONG: dict[str, Any] = {"train__max_steps": 150, "eval__every": 50, "train__checkpoint_every": 20}
STREAMED: dict[str, Any] = {"data__shuffle_window": 2, "train__max_steps": 200, "eval__every": 50}
Harm = Callable[[Path], object]


def replaced(path: Path) -> None:
    """By other documents, of the same name."""
    new = path.with_name("new")
    write_shard(new, texts_of(40, 99))
    new.replace(path)


def swapped(path: Path) -> None:
    """By a folder of that name."""
    path.unlink()
    path.mkdir()


def undo(path: Path, kept: bytes) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    path.write_bytes(kept)


HARMS: dict[str, Harm] = {
    "deleted": lambda path: path.unlink(),
    "replaced by other documents": replaced,
    "replaced by a folder": swapped,
    "cut short": lambda path: os.truncate(path, path.stat().st_size // 2),
    "emptied": lambda path: os.truncate(path, 0),
    "overwritten in place": lambda path: path.write_bytes(b"\x1b[2Jno parquet" * 100),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "shards"
    made.mkdir()
    for i in range(5):
        write_shard(made / f"{i}.parquet", texts_of(40, i))
    return made


@pytest.mark.parametrize("harm", HARMS, ids=str)
def test_packed_ones(
    harm: str, folder: Path, make_run: MakeRun, cache: Path, straight: Callable[..., Path], fault: Tally
) -> None:
    """The run goes on; killed, it refuses to resume until its shards are back."""
    changes = {**LONG, "data__paths": [str(folder)], "data__shuffle_window": 0}
    run, one = make_run(**changes), folder / "0.parquet"
    unbroken, kept, stamp = straight(**changes), one.read_bytes(), one.stat()
    with fault("shards changed under an engine: packed ones", detail=harm):
        process = started([*ENGINE, str(run)])
        wait_for(lambda: losses_of(run), "its first steps")
        HARMS[harm](one)
        seen = len(losses_of(run))
        wait_for(lambda: len(losses_of(run)) > seen or process.poll() is not None, "its going on")
        assert process.poll() in (None, 0)
        process.send_signal(signal.SIGKILL)
        process.wait()
    with fault("shards changed under an engine: then resumed", detail=harm):
        line = engine(run).one_line("0.parquet")
        assert "start a new run" in line or "resume once" in line, line
        whole(run)
        undo(one, kept)
        os.utime(one, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
        assert engine(run).code == 0
        same(run, unbroken)


@pytest.mark.parametrize("harm", HARMS, ids=str)
def test_ones_still_to_be_packed(
    harm: str, folder: Path, make_run: MakeRun, tmp_path: Path, straight: Callable[..., Path], fault: Tally
) -> None:
    """The run ends in one line that names the shard; with the shard as it was it goes on."""
    changes = {**STREAMED, "data__paths": [str(folder)], "data__cache": str(tmp_path / "packs")}
    run, script = make_run(**changes), tmp_path / "slow.py"
    script.write_text(SLOW)
    kept = {path: path.read_bytes() for path in folder.glob("*.parquet")}
    with fault("shards changed under an engine: ones still to be packed", detail=harm):
        process = subprocess.Popen(
            [sys.executable, str(script), str(run), "1.5"], env=environment(), text=True, stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        wait_for(lambda: losses_of(run), "its first steps")
        packed = {path.name.partition(".")[0] for path in (tmp_path / "packs").glob("*.pack")}
        late = [path for path in kept if path.stem not in packed]
        assert len(late) >= 2, "all was packed already"
        for path in late:
            HARMS[harm](path)
        _, said = process.communicate(timeout=120)
        lines = [line for line in said.splitlines() if line.strip()]
        assert process.returncode == 1 and len(lines) == 1 and "Traceback" not in said, said
        assert any(path.name in lines[0] for path in late) and "resume once" in lines[0], lines
        assert events_of(run)[-1]["text"] == lines[0]
        assert "failed" in gptbench("runs", "--runs", run.parent).ok()
        whole(run)
        for path in late:
            undo(path, kept[path])
        assert engine(run).code == 0
        # Whatever was packed when: the same order, so the same losses.
        assert losses_of(run) == losses_of(straight(**{**changes, "data__cache": str(tmp_path / "others")}))
