"""Several programs on one runs folder: two that resume one run, two workbenches and commands, many that queue."""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from engine import process
from tests.engine.conftest import events_of
from tests.faults.conftest import MakeRun
from tests.faults.disk import parses
from tests.faults.programs import ENGINE, GPTBENCH, Done, Terminal, environment, gptbench, wait_for
from tests.faults.runs import same
from tests.faults.tally import Tally
from tests.faults.test_torn import halve

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]


def together(*commands: list[str]) -> list[Done]:
    """Commands started at once, to their ends."""
    running = [
        subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for command in commands
    ]
    return [Done(one.wait(240), *one.communicate()) for one in running]


def ended(run: Path) -> bool:
    """Whether its engine has ended."""
    return not process.alive(run)


@pytest.mark.parametrize("number", range(6))
def test_two_resumes_of_one_run(number: int, straight: Callable[..., Path], tmp_path: Path, fault: Tally) -> None:
    """One resumes it, the other is refused; which of the two, chance decides."""
    unbroken, run = straight(), halve(straight(), tmp_path / "runs" / "run")
    words = [*GPTBENCH, "resume", "run", "--runs", str(run.parent)]
    by_hand = [*ENGINE, str(run)]
    with fault("two resumes of one run at once", detail=number):
        done = together(words, words if number < 4 else by_hand)
        if number < 4:
            assert sorted(one.code for one in done) == [0, 1], done
            next(one for one in done if one.code).one_line("already running|being started")
        else:  # an engine started by hand is another way to resume
            assert all(one.code in (0, 1) and "Traceback" not in one.err for one in done), done
        wait_for(lambda: ended(run), "the end")
        assert sum(e["event"] == "resume" for e in events_of(run)) == 1
        same(run, unbroken)
        shown = json.loads(gptbench("runs", "--json", "--runs", run.parent).ok())
        assert [r["state"] for r in shown] == ["finished"]


def test_two_workbenches_and_commands(
    make_run: MakeRun, straight: Callable[..., Path], tmp_path: Path, fault: Tally
) -> None:
    """While a run trains, two workbenches watch and explain it and commands do the same, at once."""
    changes = {"train__max_steps": 400, "eval__every": 5}
    run = make_run("busy", **changes)
    unbroken = straight(**changes)
    gptbench("resume", "busy", "--runs", run.parent).ok()
    opened = [*GPTBENCH, "--runs", str(run.parent)]
    with Terminal(opened, tmp_path) as one, Terminal(opened, tmp_path) as other:
        for terminal in (one, other):
            terminal.wait_for("busy")
            terminal.press("\r")
        verbs = itertools.cycle([["explain", "busy"], ["export", "busy"], ["runs"]])
        for number in range(6):
            with fault("two workbenches and commands on one runs folder", detail=number):
                asked = [[*GPTBENCH, *next(verbs), "--runs", str(run.parent)] for _ in range(2)]
                one.press("x")
                other.press("e")
                for done in together(*asked):
                    if done.code:
                        done.one_line("no events|no step|nothing")
                assert one.process.poll() is None and other.process.poll() is None
                assert all(parses(path) for path in run.glob("*.json"))
        with fault("two workbenches and commands on one runs folder", detail="both stop it"):
            for terminal in (one, other):
                terminal.press("s")
            wait_for(lambda: ended(run), "the stop")
            assert "Traceback" not in one.text + other.text
        with fault("two workbenches and commands on one runs folder", detail="both resume it"):
            for terminal in (one, other):
                terminal.press("r")
            wait_for(lambda: ended(run) and _finished(run), "the end")
            same(run, unbroken)
            assert one.process.poll() is None and other.process.poll() is None
        with fault("two workbenches and commands on one runs folder", detail="both quit"):
            for terminal in (one, other):
                terminal.press("q")
                assert terminal.ended() == 0
    assert not list(run.glob(".*.tmp*"))


def test_many_queue_at_once(tmp_path: Path, shard: Path, fault: Tally) -> None:
    runs = tmp_path / "runs"
    sets = ["model.preset=demo-1m", "model.n_layer=1", "model.n_embd=16", "model.n_head=2", "model.block_size=32",
            "train.micro_batch=2", "train.max_steps=2", "eval.documents=4", "eval.seen=3"]  # fmt: skip
    words = [*GPTBENCH, "queue", "add", str(shard), "--runs", str(runs), *(w for s in sets for w in ("--set", s))]
    done = together(*[[*words, "--name", f"q{i}"] for i in range(6)])
    names = {Path(one.out.strip()).name for one in done if one.code == 0}
    with fault(*["many commands that queue at once"] * 6, detail=done):
        assert len(names) == 6, done
        wait_for(lambda: all(_finished(runs / name) for name in names), "the end of all that waited", 240)
        assert len([p for p in runs.iterdir() if (p / "config.toml").is_file()]) == 6
        wait_for(lambda: not json.loads(gptbench("queue", "--json", "--runs", runs).ok())["waiting"], "an empty queue")
    gptbench("queue", "stop", "--runs", runs)


def _finished(run: Path) -> bool:
    told = events_of(run)
    return bool(told) and told[-1]["event"] == "stop" and told[-1]["reason"] == "finished"
