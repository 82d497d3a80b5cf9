"""Shards deleted, replaced or cut short under a running engine: packed ones are not missed, of the others one line
names the file; the run is never continued on other data than it began with."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engine.conftest import events_of, losses_of, texts_of, write_shard
from tests.faults.conftest import MakeRun
from tests.faults.programs import ENGINE, engine, environment, gptbench, started, wait_for
from tests.faults.runs import same, whole
from tests.faults.tally import Tally

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]
LONG: dict[str, Any] = {"train__max_steps": 100, "eval__every": 50, "train__checkpoint_every": 20}
STREAMED: dict[str, Any] = {"data__shuffle_window": 2, "train__max_steps": 120, "eval__every": 50}
Harm = Callable[[Path], object]

# The engine, which packs its first shard, and the others once a file is there.
GATED = """
import sys, time
from pathlib import Path
import engine.feed as feed
given, packed = feed.pack_shards, []
def one_by_one(paths, **more):
    for path in paths:
        while packed and not Path(sys.argv[2]).exists() and not more["cancelled"]():
            time.sleep(0.02)
        yield from given([path], **more)
        packed.append(path)
feed.pack_shards = one_by_one
from engine.__main__ import main
sys.exit(main(["train", sys.argv[1]]))
"""


def replaced(path: Path) -> None:
    """By other documents, of the same name."""
    new = path.with_name("new")
    write_shard(new, texts_of(40, 99))
    new.replace(path)


def swapped(path: Path) -> None:
    """By a folder of that name."""
    path.unlink()
    path.mkdir()


class Shards:
    """Shards of 40 documents in a folder, and how they were."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for i in range(5):
            write_shard(folder / f"{i}.parquet", texts_of(40, i))
        self._kept = {path: (path.read_bytes(), path.stat()) for path in sorted(folder.iterdir())}

    @property
    def paths(self) -> list[Path]:
        return list(self._kept)

    def undo(self) -> None:
        """Put them back."""
        for path, (content, stat) in self._kept.items():
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            path.write_bytes(content)
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


HARMS: dict[str, Harm] = {
    "deleted": lambda path: path.unlink(),
    "replaced by other documents": replaced,
    "replaced by a folder": swapped,
    "cut short": lambda path: os.truncate(path, path.stat().st_size // 2),
    "emptied": lambda path: os.truncate(path, 0),
    "overwritten in place": lambda path: path.write_bytes(b"\x1b[2Jno parquet" * 100),
}


@pytest.fixture(scope="module")
def same_shards(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    return Shards(tmp_path_factory.mktemp("shards"))


@pytest.fixture
def shards(same_shards: Shards) -> Iterator[Shards]:
    """For every harm the same ones, so that one unbroken run does for all."""
    yield same_shards
    same_shards.undo()


@pytest.mark.parametrize("harm", HARMS, ids=str)
def test_packed_ones(harm: str, shards: Shards, make_run: MakeRun, straight: Callable[..., Path], fault: Tally) -> None:
    """The run goes on; killed, it refuses to resume until its shards are back."""
    changes = {**LONG, "data__paths": [str(shards.folder)], "data__shuffle_window": 0}
    run, unbroken = make_run(**changes), straight(**changes)
    with fault("shards changed under an engine: packed ones", detail=harm):
        process = started([*ENGINE, str(run)])
        wait_for(lambda: losses_of(run), "its first steps")
        HARMS[harm](shards.paths[0])
        seen = len(losses_of(run))
        wait_for(lambda: len(losses_of(run)) > seen or process.poll() is not None, "its going on")
        assert process.poll() in (None, 0)
        process.send_signal(signal.SIGKILL)
        process.wait()
    with fault("shards changed under an engine: then resumed", detail=harm):
        line = engine(run).one_line("0.parquet")
        assert "start a new run" in line or "resume once" in line, line
        whole(run)
        shards.undo()
        assert engine(run).code == 0
        same(run, unbroken)


@pytest.mark.parametrize("harm", HARMS, ids=str)
def test_ones_still_to_be_packed(
    harm: str, shards: Shards, make_run: MakeRun, tmp_path: Path, straight: Callable[..., Path], fault: Tally
) -> None:
    """The run ends in one line that names the shard; with the shard as it was it goes on."""
    changes = {**STREAMED, "data__paths": [str(shards.folder)]}
    run = make_run(**changes, data__cache=str(tmp_path / "packs"))
    script, gate = tmp_path / "gated.py", tmp_path / "gate"
    script.write_text(GATED)
    with fault("shards changed under an engine: ones still to be packed", detail=harm):
        process = subprocess.Popen(
            [sys.executable, str(script), str(run), str(gate)], env=environment(), text=True, stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        wait_for(lambda: losses_of(run), "its first steps")
        packed = {path.name.partition(".")[0] for path in (tmp_path / "packs").glob("*.pack")}
        late = [path for path in shards.paths if path.stem not in packed]
        assert len(late) >= 2, "all was packed already"
        for path in late:
            HARMS[harm](path)
        gate.touch()
        _, said = process.communicate(timeout=120)
        lines = [line for line in said.splitlines() if line.strip()]
        assert process.returncode == 1 and len(lines) == 1 and "Traceback" not in said, said
        assert any(path.name in lines[0] for path in late) and "resume once" in lines[0], lines
        assert events_of(run)[-1]["text"] == lines[0]
        assert "failed" in gptbench("runs", "--runs", run.parent).ok()
        whole(run)
        shards.undo()
        assert engine(run).code == 0
        # Whatever was packed when: the same order, so the same losses.
        assert losses_of(run) == losses_of(straight(**changes))
