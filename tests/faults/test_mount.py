"""The runs folder on a mount that turns read-only, or vanishes: what is asked for is answered or refused in one line,
nothing is damaged, and once the mount is well again all goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine import process
from engine.events import FILE_NAME
from tests.engine.conftest import events_of, losses_of
from tests.faults.conftest import configure
from tests.faults.disk import Disk, disk
from tests.faults.programs import ENGINE, GPTBENCH, Terminal, engine, gptbench, started, wait_for
from tests.faults.runs import said, same, whole
from tests.faults.tally import Tally
from tests.faults.test_torn import halve
from tests.workbench.folders import make_run as make_told

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]
READ_ONLY, GONE = "runs folder read-only", "runs folder's mount gone"
REFUSED = "Read-only file system|Permission denied"
LONG = {"train__max_steps": 300, "eval__every": 50, "train__checkpoint_every": 20}


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Disk]:
    with disk(tmp_path / "mount") as made:
        yield made


def test_commands(
    mount: Disk, shard: Path, cache: Path, straight: Callable[..., Path], tmp_path: Path, fault: Tally
) -> None:
    """What reads is answered, what writes is refused in one line that names the place."""
    runs = mount.path / "runs"
    told = make_told(runs, "told", steps=200)
    halve(straight(), runs / "dead")
    (runs / "new").mkdir()
    (runs / "new" / "config.toml").write_text(configure(shard, cache))
    log, elsewhere = tmp_path / "log.csv", tmp_path / "elsewhere"
    log.write_text("step,loss\n" + "".join(f"{i},{5 - i / 300:.3f}\n" for i in range(400)))
    elsewhere.mkdir()
    before = {p: p.read_bytes() for p in runs.rglob("*") if p.is_file()}
    mount.read_only()
    answered = [
        ("runs",), ("explain", "told"), ("export", "told", "-o", elsewhere / "a.md"), ("queue",),
        ("sample", "dead", "--prompt", "the", "--tokens", "3"), ("hf", "dead", "-o", elsewhere / "hf"),
        ("queue", "start"),
    ]  # fmt: skip
    refused = [
        ("export", "told"), ("export", "told", "--html"), ("import", log), ("train", shard), ("resume", "dead"),
        ("branch", "dead", "--from-step", "9", "--set", "optim.weight_decay=0.2"), ("queue", "add", shard),
        ("probe", "told"),
    ]  # fmt: skip
    for words in answered:
        with fault(f"{READ_ONLY}: a command that reads", detail=words):
            gptbench(*words, "--runs", runs).ok()
    for words in refused:
        with fault(f"{READ_ONLY}: a command that writes", detail=words):
            line = gptbench(*words, "--runs", runs).one_line(REFUSED if words[0] != "probe" else ".")
            assert str(mount.path) in line or words[0] == "probe", line
    with fault(f"{READ_ONLY}: a command that writes", detail="an engine started by hand"):
        engine(runs / "new").one_line(REFUSED, str(runs / "new"))
    with fault(f"{READ_ONLY}: a command that writes", detail="nothing has changed"):
        assert {p: p.read_bytes() for p in runs.rglob("*") if p.is_file()} == before
    mount.read_only(False)
    assert engine(runs / "new").code == 0 and not (told / "diagnosis.json").exists()


@pytest.mark.parametrize("harm", ["read-only", "gone"])
def test_under_an_engine(
    harm: str, mount: Disk, shard: Path, cache: Path, straight: Callable[..., Path], fault: Tally
) -> None:
    """It ends in one line once it cannot write a checkpoint, and resumes to the same losses."""
    run = mount.path / "runs" / "run"
    run.mkdir(parents=True, mode=0o700)
    (run / "config.toml").write_text(configure(shard, cache, **LONG))
    with fault(f"{READ_ONLY}: under an engine" if harm == "read-only" else f"{GONE}: under an engine"):
        one = started([*ENGINE, str(run)])
        wait_for(lambda: losses_of(run), "its first steps")
        (mount.read_only if harm == "read-only" else mount.vanish)()
        wait_for(lambda: one.poll() is not None, "its end")
        assert one.returncode == 1
        (lambda: mount.read_only(False))() if harm == "read-only" else mount.back()
        whole(run)
        told = said(run)
        assert engine(run).code == 0
        assert said(run).startswith(told)
        same(run, straight(**LONG))


@pytest.mark.parametrize("harm", ["read-only", "gone"])
def test_under_a_workbench(harm: str, mount: Disk, tmp_path: Path, fault: Tally) -> None:
    """Whatever key is pressed, it says what cannot be done and goes on; once the mount is back it shows the runs."""
    runs = mount.path / "runs"
    run = make_told(runs, "told", steps=200)
    keys = {"x": "explain", "e": "export", "b": "branch", "r": "resume", "4": "Runs", "w": "queue",
            "W": "the queue's process", "y": "copy", "3": "Run", "m": "charts", "2": "Launch", "1": "Data"}  # fmt: skip
    kind = f"{READ_ONLY}: under a workbench" if harm == "read-only" else f"{GONE}: under a workbench"
    with Terminal([*GPTBENCH, "--runs", str(runs)], tmp_path) as terminal:
        terminal.wait_for("told")
        terminal.press("\r")
        terminal.wait_for("loss")
        (mount.read_only if harm == "read-only" else mount.vanish)()
        for key, what in keys.items():
            with fault(kind, detail=what):
                terminal.press(key)
                terminal.settle()
                terminal.press("\x1b")  # out of a question that it asks
                terminal.settle()
                assert terminal.process.poll() is None and "Traceback" not in terminal.text
        (lambda: mount.read_only(False))() if harm == "read-only" else mount.back()
        with fault(kind, detail="a note, once it is back"):
            terminal.press("4")
            terminal.settle(1.5)  # the runs are looked for again
            terminal.press("N")
            terminal.settle()
            terminal.press("well again\r")
            wait_for(lambda: (run / "note.txt").exists(), "a note", 20)
            assert (run / "note.txt").read_text() == "well again\n"
        terminal.press("q")
        assert terminal.ended() == 0
    assert len(events_of(run)) > 200 and (run / FILE_NAME).exists()


def test_commands_while_it_is_gone(mount: Disk, straight: Callable[..., Path], shard: Path, fault: Tally) -> None:
    runs, run = mount.path / "runs", mount.path / "runs" / "dead"
    halve(straight(), run)
    mount.vanish()
    for words in (("explain", "dead"), ("export", "dead"), ("resume", "dead"), ("stop", "dead"), ("sample", "dead")):
        with fault(f"{GONE}: a command", detail=words):
            gptbench(*words, "--runs", runs).one_line("no run 'dead'", str(runs))
    with fault(f"{GONE}: a command", detail="runs"):
        assert "no runs" in gptbench("runs", "--runs", runs).ok()
    with fault(f"{GONE}: a command", detail="an engine started by hand"):
        engine(run).one_line("no such run directory")
    if runs.exists():
        shutil.rmtree(runs)
    mount.back()
    with fault(f"{GONE}: a command", detail="once it is back"):
        assert [r["state"] for r in json.loads(gptbench("runs", "--json", "--runs", runs).ok())] == ["dead"]
        gptbench("resume", "dead", "--wait", "--runs", runs).ok()
        assert not process.alive(run)
        same(run, straight())
