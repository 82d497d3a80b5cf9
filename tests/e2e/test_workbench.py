"""The main job in a real terminal: start, watch, stop, resume and export by keys; losing the terminal costs nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.terminal import GPTBENCH, Terminal, shown_step
from workbench.runs.store import list_runs

pytestmark = pytest.mark.e2e


def small(tmp_path: Path, shards: str, steps: int) -> str:
    """A command that opens the workbench after starting nothing: the run is launched by hand with the command line."""
    sets = [
        "model.preset=demo-1m", "model.n_layer=1", "model.n_embd=32", "model.block_size=64", "train.micro_batch=4",
        "eval.every=5", "eval.documents=8", "eval.seen=8", "eval.document_tokens=64", f"train.max_steps={steps}",
    ]  # fmt: skip
    options = " ".join(f"--set {text}" for text in sets)
    return f"{GPTBENCH} train {shards} {options} --runs {tmp_path / 'runs'} --name corpus"


def test_a_run_on_the_corpus_watched_stopped_resumed_and_exported(
    tmp_path: Path, shared: Path, env: dict[str, str]
) -> None:
    shard = shared / "corpus" / "train-00015-of-00016.parquet"
    with Terminal(small(tmp_path, str(shard), 2000), cwd=tmp_path, env=env) as terminal:
        terminal.wait_for("exit code 0")
    with Terminal(f"{GPTBENCH} --runs runs", cwd=tmp_path, env=env) as terminal:
        terminal.wait_for("running")
        terminal.press("Enter")
        terminal.wait_for(lambda s: shown_step(s) >= 10, 120)
        terminal.press("s")
        terminal.wait_for("stopped", 60)
        (run,) = list_runs(tmp_path / "runs")
        assert run.state == "stopped" and run.step >= 10
        terminal.press("r")
        terminal.wait_for(lambda s: "running" in s and shown_step(s) > run.step, 90)
        terminal.press("e")
        terminal.wait_for("summary.md")
        assert (Path(run.run) / "summary.md").is_file()
        terminal.press("q")
        terminal.wait_for("exit code 0")
    assert list_runs(tmp_path / "runs")[0].state == "running"


def test_losing_the_terminal_leaves_the_run_and_a_new_workbench_follows_it(
    tmp_path: Path, shared: Path, env: dict[str, str]
) -> None:
    shard = shared / "corpus" / "train-00015-of-00016.parquet"
    with Terminal(small(tmp_path, str(shard), 5000), cwd=tmp_path, env=env) as terminal:
        terminal.wait_for("exit code 0")
    with Terminal(f"{GPTBENCH} --runs runs", cwd=tmp_path, env=env, width=80, height=24) as terminal:
        terminal.wait_for("running")
        terminal.press("Enter")
        before = shown_step(terminal.wait_for(lambda s: shown_step(s) >= 3, 120))
        terminal.kill()
    assert list_runs(tmp_path / "runs")[0].state == "running"
    with Terminal(f"{GPTBENCH} --runs runs", cwd=tmp_path, env=env, width=80, height=24) as terminal:
        terminal.wait_for("running")
        terminal.press("Enter")
        terminal.wait_for(lambda s: shown_step(s) > before, 60)


@pytest.mark.timeout(720)  # two minutes on two free cores, more than five on two that others keep busy
def test_the_demo_inside_the_workbench(tmp_path: Path, env: dict[str, str]) -> None:
    with Terminal(f"{GPTBENCH} demo", cwd=tmp_path, env=env) as terminal:
        terminal.wait_for("shards", 60)
        screen = terminal.wait_for(lambda s: "summary.md" in s, 600)
        assert "epoch" in screen
        terminal.press("q")
        terminal.wait_for("exit code 0")
    (run,) = list_runs(tmp_path / "demo" / "runs")
    summary = (Path(run.run) / "summary.md").read_text()
    assert run.state == "finished" and "data_repetition" in (Path(run.run) / "diagnosis.json").read_text()
    assert "TL;DR" in summary
