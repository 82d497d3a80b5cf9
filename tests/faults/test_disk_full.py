"""A disk that is really full: the last good state stays, one line says so, and with room made all goes on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.checkpoint import Checkpoint, newest
from tests.engine.conftest import events_of, losses_of, texts_of, write_shard
from tests.faults.conftest import configure
from tests.faults.disk import disk, parses
from tests.faults.programs import engine, gptbench
from tests.faults.runs import said, whole
from tests.faults.tally import Tally
from tests.workbench.folders import make_run as make_told

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]
MIB = 1 << 20


@pytest.mark.parametrize("size", [2 * MIB, 7 * MIB, 11 * MIB, 14 * MIB, 20 * MIB, 26 * MIB])
def test_checkpoints(
    size: int, tmp_path: Path, shard: Path, cache: Path, straight: Callable[..., Path], fault: Tally
) -> None:
    with disk(tmp_path / "disk", size) as small, fault("disk full: checkpoints", detail=size):
        run = small.path / "run"
        run.mkdir()
        (run / "config.toml").write_text(configure(shard, cache, train__keep_best=False))
        failed = engine(run, limit=small.limit)
        failed.one_line(small.reason, "free some space")
        stop = events_of(run)[-1]
        assert stop["reason"] == "failed" and small.reason in stop["text"]
        whole(run)
        small.grow()
        assert engine(run).code == 0
        assert losses_of(run) == losses_of(straight(train__keep_best=False))
        assert isinstance(next(newest(run)), Checkpoint)


@pytest.mark.parametrize("room", [1 << 10, 3 << 10, 6 << 10, 9 << 10, 14 << 10])
def test_events(
    room: int, tmp_path: Path, shard: Path, cache: Path, straight: Callable[..., Path], fault: Tally
) -> None:
    """The run's own folder is full; its checkpoints lie on another disk. None is ahead of what the events tell."""
    changes = {"train__max_steps": 60, "eval__every": 20}
    with disk(tmp_path / "disk", 4 * MIB) as small, fault("disk full: events", detail=room):
        run, elsewhere = small.path / "run", tmp_path / "checkpoints"
        run.mkdir()
        elsewhere.mkdir()
        (run / "checkpoints").symlink_to(elsewhere)
        (run / "config.toml").write_text(configure(shard, cache, **changes))
        if small.mounted:  # all but so much is taken, beside what the run writes before its events
            (small.path / "ballast").write_bytes(bytes(4 * MIB - (64 << 10) - room))
        failed = engine(run, limit=None if small.mounted else room)
        assert failed.code == 1 and "Traceback" not in failed.err, failed
        assert 1 <= failed.err.count("\n") <= 3 and small.reason in failed.err, failed
        told, last = said(run), len(losses_of(run))
        assert all(found.step <= last for found in newest(run) if isinstance(found, Checkpoint))
        (small.path / "ballast").unlink(missing_ok=True)
        small.grow()
        assert engine(run).code == 0
        assert said(run).startswith(told) and losses_of(run) == losses_of(straight(**changes))


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shard of some hundred kilobytes of tokens."""
    return write_shard(tmp_path_factory.mktemp("many") / "a.parquet", texts_of(4000))


@pytest.mark.parametrize("size", [16 << 10, 64 << 10, 128 << 10, 256 << 10])
def test_packs(size: int, tmp_path: Path, many: Path, fault: Tally) -> None:
    with disk(tmp_path / "disk", size) as small:
        words = ("data", "pack", many, "-o", small.path / "packs")
        with fault("disk full: packs", detail=size):
            gptbench(*words, limit=small.limit).one_line(small.reason)
            assert not list((small.path / "packs").glob("*.pack"))
            small.grow()
            gptbench(*words).ok()
            assert len(list((small.path / "packs").glob("*.pack"))) == 1
            assert not [p for p in (small.path / "packs").rglob("*") if p.name.startswith(".") and p.is_dir()]


@pytest.mark.parametrize("size", [16 << 10, 128 << 10])
def test_packs_of_a_run(size: int, tmp_path: Path, many: Path, fault: Tally) -> None:
    """The engine packs at its start; it fails in one line and, with room, begins."""
    with disk(tmp_path / "disk", size) as small, fault("disk full: packs", detail=f"engine, {size}"):
        run = tmp_path / "run"
        run.mkdir()
        (run / "config.toml").write_text(configure(many, small.path / "cache", train__max_steps=2))
        engine(run, limit=small.limit).one_line(small.reason)
        assert events_of(run)[-1]["reason"] == "failed"
        small.grow()
        assert engine(run).code == 0 and events_of(run)[-1]["reason"] == "finished"


@pytest.mark.parametrize("size", [16 << 10, 64 << 10, 128 << 10, 256 << 10])
def test_sketches(size: int, tmp_path: Path, many: Path, fault: Tally) -> None:
    """Statistics that cannot be kept are told, or refused in one line; with room they are as ever."""
    with disk(tmp_path / "disk", size) as small, fault("disk full: sketches", detail=size):
        words = ("data", "stats", many, "--exact", "--json")
        full = gptbench(*words, env={"GPTBENCH_CACHE": str(small.path / "cache")}, limit=small.limit)
        assert "Traceback" not in full.err and "error of gptbench itself" not in full.err, full
        roomy = gptbench(*words, env={"GPTBENCH_CACHE": str(tmp_path / "cache")}).ok()
        if full.code == 0:
            assert full.out == roomy
        elif not full.out:
            full.one_line(small.reason)
        else:
            assert small.reason in full.out, full
        small.grow()
        assert gptbench(*words, env={"GPTBENCH_CACHE": str(small.path / "cache")}).ok() == roomy


@pytest.mark.parametrize("words", [("explain",), ("export",), ("import",), ("train",), ("branch",)], ids=str)
def test_what_the_workbench_writes(
    words: tuple[str, ...], tmp_path: Path, shard: Path, straight: Callable[..., Path], fault: Tally
) -> None:
    """A command whose files find no room leaves none of them half."""
    with disk(tmp_path / "disk", 24 * MIB) as small, fault("disk full: what the workbench writes", detail=words):
        runs = small.path / "runs"
        told = make_told(runs, steps=200)
        shutil.copytree(straight(), runs / "trained")
        log = tmp_path / "log.csv"
        log.write_text("step,loss\n" + "".join(f"{i},{5 - i / 3000:.4f}\n" for i in range(4000)))
        rest = {
            "explain": [told.name], "export": [told.name], "import": [log], "train": [shard],
            "branch": ["trained", "--from-step", "9", "--set", "optim.weight_decay=0.2", "--no-start"],
        }[words[0]]  # fmt: skip
        before = {p: p.read_bytes() for p in runs.rglob("*") if p.is_file() and p.name != ".lock"}
        if small.mounted:
            filled = (small.path / "ballast").open("wb", buffering=0)
            try:
                while filled.write(bytes(4096)):
                    pass
            except OSError:
                filled.close()
        done = gptbench(*words, *rest, "--runs", runs, limit=None if small.mounted else 0)
        if done.code:
            done.one_line(small.reason)
        else:  # what it is asked for it says; that it could not keep it is no failure
            assert words[0] == "explain" and "Traceback" not in done.err, done
        assert {p: p.read_bytes() for p in before} == before
        assert all(parses(p) for p in runs.rglob("*.json"))
        assert not list(runs.glob("*/.*.tmp*")) and not list(runs.glob("*/.summary*"))
        (small.path / "ballast").unlink(missing_ok=True)
        small.grow()
        again = gptbench(*words, *rest, "--runs", runs)
        again.ok()
