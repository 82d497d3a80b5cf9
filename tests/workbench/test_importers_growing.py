"""An imported log that grows, is cut, replaced, or vanishes; one writer at a time."""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engine.events import EventReader
from workbench.commands import why
from workbench.runs.facts import read_toml
from workbench.runs.history import History
from workbench.runs.importers import growing
from workbench.runs.importers.growing import LOCK_NAME, catch_up
from workbench.runs.read import read_run


def lines(first: int, last: int) -> str:
    return "".join(
        (f"step {s}: train loss 3.{s}, val loss 3.{s}5\n" if s % 20 == 0 else "") + f"iter {s}: loss 3.{s}, time 10ms\n"
        for s in range(first, last, 10)
    )


HEAD = "Overriding: max_iters = 300\ntokens per iteration will be: 1,000\n"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "train.log"
    path.write_text(HEAD + lines(0, 50))
    return path


@pytest.fixture
def run_dir(log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    known = {"json": True, "fact": ["parameters=1e6"], "name": None, "runs": str(tmp_path / "runs"), "target": str(log)}
    assert why.import_log(argparse.Namespace(**known)) == 0
    growing._readers.clear()
    return Path(json.loads(capsys.readouterr().out)["run"])


def steps(run_dir: Path) -> list[float]:
    return list(read_run(run_dir).history.steps["step"])


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


@pytest.mark.parametrize("fresh_process", [True, False])
def test_what_a_log_gains_is_appended_once(log: Path, run_dir: Path, fresh_process: bool) -> None:
    reader, history = EventReader(run_dir), History()
    for event in reader.read():
        history.apply(event)
    assert not catch_up(run_dir)  # nothing new
    for last in (80, 110):
        append(log, lines(last - 30, last))
        if fresh_process:
            growing._readers.clear()
        assert catch_up(run_dir) and not catch_up(run_dir)
    for event in reader.read():
        history.apply(event)
    assert list(history.steps["step"]) == list(range(0, 110, 10)) and not reader.restarted
    assert list(history.val["step"]) == [0, 20, 40, 60, 80, 100] and not history.resumes
    facts, where = read_toml(run_dir / "facts.toml")
    assert where["bytes"] == log.stat().st_size and where["lines"] == 2 + 11 + 6
    assert facts["parameters"].source == "given by --fact" and facts["max_steps"].source == "log line 1"
    assert read_run(run_dir).facts.number("tokens_seen") == 100_000  # derived anew
    assert len((run_dir / "events.jsonl").read_text().splitlines()) == 1 + 11 + 12  # start, steps, two splits


def test_half_a_line_waits_for_its_end(log: Path, run_dir: Path) -> None:
    append(log, lines(50, 60) + "iter 60: loss 3.6")
    assert catch_up(run_dir)
    assert steps(run_dir)[-1] == 50
    append(log, "5, time 10ms\n")
    assert catch_up(run_dir)
    assert read_run(run_dir).history.steps.last("loss") == 3.65


def test_a_log_that_was_replaced_is_read_anew(log: Path, run_dir: Path) -> None:
    log.write_text("Overriding: max_iters = 90\n" + lines(0, 30))
    assert catch_up(run_dir)
    history = read_run(run_dir).history
    assert list(history.steps["step"]) == [0, 10, 20] and list(history.val["step"]) == [0, 20]
    assert any("replaced" in w["text"] for w in history.warnings)
    assert read_run(run_dir).facts.number("max_steps") == 90
    append(log, lines(30, 100))
    assert catch_up(run_dir)
    history = read_run(run_dir).history
    assert history.steps.last("step") == 90 and history.stop is not None  # the plan is done


def test_a_vanished_log_leaves_the_run_as_it_is(log: Path, run_dir: Path) -> None:
    before = (run_dir / "events.jsonl").read_bytes()
    log.unlink()
    assert not catch_up(run_dir)
    log.mkdir()
    assert not catch_up(run_dir)
    log.rmdir()
    log.write_text("no log at all\n")
    assert not catch_up(run_dir)
    assert (run_dir / "events.jsonl").read_bytes() == before
    assert not catch_up(run_dir / "nowhere")


def test_one_writer_at_a_time(log: Path, run_dir: Path) -> None:
    append(log, lines(50, 80))
    handle = os.open(run_dir / LOCK_NAME, os.O_RDWR | os.O_CREAT)
    fcntl.flock(handle, fcntl.LOCK_EX)
    assert not catch_up(run_dir)
    os.close(handle)
    assert catch_up(run_dir) and steps(run_dir)[-1] == 70


def test_threads_of_one_workbench_append_each_line_once(log: Path, run_dir: Path) -> None:
    begin = threading.Barrier(4)

    def follow() -> int:
        begin.wait()
        return sum(catch_up(run_dir) for _ in range(20))

    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(follow) for _ in range(4)]
        for last in range(80, 320, 30):
            append(log, lines(last - 30, last))
        appended = sum(future.result() for future in waiting)  # none raised
    appended += catch_up(run_dir)
    assert appended >= 1 and not catch_up(run_dir)
    events = list(EventReader(run_dir).read())
    assert [e["step"] for e in events if e["event"] == "step"] == list(range(0, 290, 10))
    assert not [path for path in run_dir.iterdir() if path.name.startswith(".facts")]


def test_another_process_may_have_read_on(log: Path, run_dir: Path) -> None:
    append(log, lines(50, 80))
    assert catch_up(run_dir)
    mine = growing._readers.popitem()
    append(log, lines(80, 110))
    assert catch_up(run_dir)  # as another process would, with a reader of its own
    growing._readers[mine[0]] = mine[1]
    append(log, lines(110, 140))
    assert catch_up(run_dir)
    events = list(EventReader(run_dir).read())
    assert [e["step"] for e in events if e["event"] == "step"] == list(range(0, 140, 10))


def test_a_document_written_anew_is_taken_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "trainer_state.json"

    def write(count: int) -> None:
        rows = [{"epoch": s / 100, "loss": 4 - s / 1000, "step": s} for s in range(10, count, 10)]
        path.write_text(json.dumps({"log_history": rows, "max_steps": 1000}, indent=2))

    write(100)
    known = {"json": True, "fact": [], "name": None, "runs": str(tmp_path / "runs"), "target": str(path)}
    why.import_log(argparse.Namespace(**known))
    run_dir = Path(json.loads(capsys.readouterr().out)["run"])
    write(200)
    assert catch_up(run_dir) and steps(run_dir) == list(range(10, 200, 10))
