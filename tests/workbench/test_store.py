"""The runs folder: states told from what lies in it, without trusting a bare pid."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine import process
from engine.config import Config
from engine.events import FILE_NAME, EventWriter
from workbench.errors import UserError
from workbench.runs.follow import Follower
from workbench.runs.store import find_run, list_runs, state_of, summarise


def make(root: Path, name: str = "a-20260101-000000") -> Path:
    run = root / name
    run.mkdir(parents=True)
    (run / "config.toml").write_text(Config().to_toml())
    return run


def events(run: Path, *extra: dict, steps: int = 3) -> None:
    writer = EventWriter(run)
    writer.write("start", max_steps=10)
    writer.write_many([{"event": "step", "step": s, "loss": 5.0, "tokens_per_s": 100.0} for s in range(1, steps + 1)])
    writer.write("eval", step=steps, split="heldout", loss=4.5, se=0.1)
    writer.write_many(list(extra))
    writer.close()


def test_a_run_that_was_never_started_is_queued(tmp_path: Path) -> None:
    assert state_of(make(tmp_path)) == "queued"


@pytest.mark.parametrize("reason", ["finished", "stopped", "failed"])
def test_the_stop_event_says_how_it_ended(tmp_path: Path, reason: str) -> None:
    run = make(tmp_path)
    events(run, {"event": "stop", "reason": reason})
    assert state_of(run) == reason


def test_a_run_whose_process_is_gone_without_a_word_is_dead(tmp_path: Path) -> None:
    run = make(tmp_path)
    events(run)
    (run / process.FILE_NAME).write_text(json.dumps({**process.identity(), "pid": os.getpid(), "start_time": "0"}))
    assert state_of(run) == "dead"


def test_a_living_process_is_running_even_after_an_earlier_stop(tmp_path: Path) -> None:
    run = make(tmp_path)
    events(run, {"event": "stop", "reason": "stopped"})
    process.write(run)
    assert state_of(run) == "running"


def test_on_another_host_silence_decides(tmp_path: Path) -> None:
    run = make(tmp_path)
    events(run)
    (run / process.FILE_NAME).write_text(json.dumps({**process.identity(), "host": "elsewhere"}))
    assert state_of(run) == "running"
    os.utime(run / FILE_NAME, (0, 0))
    assert state_of(run) == "dead"


def test_imported(tmp_path: Path) -> None:
    run = tmp_path / "log"
    run.mkdir()
    (run / "facts.toml").write_text("")
    events(run)
    assert state_of(run) == "imported"


@pytest.mark.parametrize("steps", [3, 300, 900, 20_000])
def test_the_summary_reads_the_ends_of_any_length(tmp_path: Path, steps: int) -> None:
    run = make(tmp_path)
    events(run, steps=steps)
    summary = summarise(run)
    assert (summary.step, summary.max_steps, summary.val_loss) == (steps, 10, 4.5)


def test_runs_are_listed_newest_first_and_strangers_left_out(tmp_path: Path) -> None:
    for i, name in enumerate(["old", "new"]):
        os.utime(make(tmp_path, name) / "config.toml", (i, i))
    (tmp_path / "not a run").mkdir()
    (tmp_path / "file").write_text("")
    assert [run.name for run in list_runs(tmp_path)] == ["new", "old"]
    assert list_runs(tmp_path / "missing") == []


def test_a_broken_run_does_not_hide_the_others(tmp_path: Path) -> None:
    make(tmp_path, "good")
    bad = make(tmp_path, "bad")
    (bad / FILE_NAME).write_bytes(os.urandom(5000))
    (bad / "diagnosis.json").write_text("[")
    (bad / process.FILE_NAME).write_text("{")
    assert {run.name for run in list_runs(tmp_path)} == {"good", "bad"}


def test_find_by_name_beginning_or_path(tmp_path: Path) -> None:
    run = make(tmp_path, "alpha-20260101-000000")
    make(tmp_path, "beta-20260101-000000")
    make(tmp_path, "beta-20260101-000001")
    assert find_run(tmp_path, "alpha") == run == find_run(tmp_path, str(run)) == find_run(tmp_path, run.name)
    with pytest.raises(UserError, match="beginning of 2 runs"):
        find_run(tmp_path, "beta")
    with pytest.raises(UserError, match="did you mean alpha"):
        find_run(tmp_path, "alpa-20260101-000000")


def test_a_follower_reads_on_and_starts_anew_when_replaced(tmp_path: Path) -> None:
    run = make(tmp_path)
    follower = Follower(run)
    assert not follower.poll() and follower.log_tail() == []
    events(run)
    assert follower.poll() and follower.history.step == 3 and not follower.poll()
    (run / FILE_NAME).unlink()
    events(run, steps=1)
    assert follower.poll() and follower.history.step == 1
    (run / "engine.log").write_bytes(b"one\ntwo \xff\nthree")
    assert follower.log_tail(2) == ["two \ufffd", "three"]


def test_two_followers_agree_with_a_writer_beside_them(tmp_path: Path) -> None:
    """A real second process appends while this one reads: nothing is lost or doubled."""
    run = make(tmp_path)
    script = (
        "import sys; from engine.events import EventWriter; w = EventWriter(sys.argv[1])\n"
        "for i in range(1, 3001): w.write('step', step=i, loss=1.0)\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", script, str(run)])
    follower = Follower(run)
    while writer.poll() is None:
        follower.poll(max_bytes=4096)
    while follower.poll():
        pass
    assert follower.history.steps["step"].tolist() == list(range(1, 3001))


def test_an_imported_log_is_followed_while_it_grows(tmp_path: Path) -> None:
    from tests.workbench.test_cli import gptbench

    log = tmp_path / "train.csv"
    log.write_text(
        "step,loss,val_loss\n" + "".join(f"{s},{5 - s / 1000},{5.1 - s / 1000}\n" for s in range(0, 1000, 100))
    )
    done = gptbench("import", log, "--runs", tmp_path / "runs", "--json")
    assert done.returncode == 0, done.stderr
    follower = Follower(Path(json.loads(done.stdout)["run"]))
    follower.poll()
    assert follower.history.step == 900 and follower.state() == "imported"
    with log.open("a") as file:
        file.write("1000,4.0,4.1\n1100,3.9,4.0\n")
    assert follower.poll() and follower.history.step == 1100
