"""Over a real SSH line: a run is started from inside the workbench, the line breaks twice, and nothing is lost."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.e2e.ssh import SshServer
from tests.e2e.terminal import GPTBENCH, Terminal, shown_step, wait_until
from workbench.runs.store import list_runs

pytestmark = pytest.mark.e2e


def processes(word: str) -> list[int]:
    """Processes whose command line holds a word."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and word in (entry / "cmdline").read_text().split("\0"):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def test_a_line_that_breaks_in_mid_run_loses_nothing(tmp_path: Path, shared: Path, env: dict[str, str]) -> None:
    shard, runs = shared / "corpus" / "train-00015-of-00016.parquet", tmp_path / "runs"
    opened = [f"{GPTBENCH} --runs {runs} --data {shard}", f"{GPTBENCH} --runs {runs}"]
    with SshServer(tmp_path / "ssh") as server:
        with Terminal(server.command(opened[0], cwd=tmp_path, env=env), cwd=tmp_path, env=env) as terminal:
            terminal.wait_for("train-00015")
            (bench,) = processes(str(runs))
            assert b"SSH_CONNECTION=127.0.0.1 " in Path(f"/proc/{bench}/environ").read_bytes()
            terminal.press("Space", "l")
            terminal.wait_for("model.preset")
            for downwards, value in ((0, "demo-1m"), (1, "100000"), (2, "2")):  # preset, steps, micro-batch
                terminal.press(*["j"] * downwards, "Enter")
                terminal.wait_for(lambda s: "enter edit" not in s)  # the keys go into the line now
                terminal.press(value, "Enter")
                terminal.wait_for("enter edit")
            terminal.press("C-g")
            before = shown_step(terminal.wait_for(lambda s: shown_step(s) >= 3, 180))
            server.drop()
            terminal.wait_for("exit code 255")
        wait_until(lambda: not Path(f"/proc/{bench}").exists())  # the workbench is gone with its terminal
        (run,) = list_runs(runs)
        assert run.state == "running"
        wait_until(lambda: list_runs(runs)[0].step > before)
        with Terminal(server.command(opened[1], cwd=tmp_path, env=env), cwd=tmp_path, env=env) as terminal:
            terminal.wait_for("running")
            terminal.press("Enter")
            again = shown_step(terminal.wait_for(lambda s: shown_step(s) > before, 60))
            (client,) = processes(str(server.port))
            os.kill(client, signal.SIGKILL)
            terminal.wait_for("exit code 137")
        with Terminal(server.command(opened[1], cwd=tmp_path, env=env), cwd=tmp_path, env=env) as terminal:
            terminal.wait_for("running")
            terminal.press("Enter")
            terminal.wait_for(lambda s: shown_step(s) > again, 60)
            terminal.press("s")
            terminal.wait_for("stopped")
            terminal.press("q")
            terminal.wait_for("exit code 0")
    events = [json.loads(line) for line in (Path(run.run) / "events.jsonl").read_text().splitlines()]
    steps = [event["step"] for event in events if event["event"] == "step"]
    assert steps == list(range(1, steps[-1] + 1)) and steps[-1] > again
    assert [event["event"] for event in events].count("start") == 1 and events[-1]["event"] == "stop"
    assert not any(event["event"] == "resume" for event in events)
