"""``gptbench probe`` on a real run: matched arms, interruption, what it records, and when it refuses."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.events import EventReader
from tests.conftest import REPO
from tests.workbench.probing import environment, gptbench, library_texts, shard, train
from workbench.probes import conduct, results
from workbench.probes.judge import read_plan
from workbench.runs.store import list_runs


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with far too much dropout."""
    base = tmp_path_factory.mktemp("probe")
    texts = shard(base / "a.parquet", library_texts(400))
    return train(base / "runs", "much-dropout", [texts], model__dropout=0.6, data__cache=str(base / "cache"))


@pytest.fixture
def run_dir(trained: Path, tmp_path: Path) -> Path:
    """A copy of it, not probed yet."""
    return Path(shutil.copytree(trained, tmp_path / "runs" / trained.name))


def arms_of(run_dir: Path, cause: str) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Each arm as planned, with its events."""
    plan = read_plan(run_dir, cause)
    assert plan is not None
    return [(arm, list(EventReader(run_dir / "probes/arms" / arm["name"]).read())) for arm in plan["arms"]]


def test_interrupted_and_continued_it_confirms_the_plant_with_matched_arms(run_dir: Path) -> None:
    command = [sys.executable, "-m", "workbench.cli", "probe", str(run_dir), "over_regularised", "--budget", "0.6"]
    first = subprocess.Popen(command, cwd=REPO, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while (progress := conduct.under_way(run_dir)) is None or not progress.done:
        assert time.monotonic() < deadline and first.poll() is None
        time.sleep(0.02)
    first.send_signal(signal.SIGINT)
    _, said = first.communicate(timeout=120)
    assert first.returncode == 130 and b"arms are done; the same command goes on from there" in said
    assert not conduct.running(run_dir) and not results.settle(run_dir)
    kept = {arm["name"]: len(events) for arm, events in arms_of(run_dir, "over_regularised") if events}
    done = gptbench("probe", run_dir, "over_regularised", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["confirmed"] is True and answer["gain"]["low"] > 0 and answer["gain"]["mid"] > 0.02
    assert 0.3 < answer["cost_measured"] <= 0.6 + 1e-6 and answer["seconds"] > 0
    assert abs(answer["cost_fraction"] - answer["cost_measured"]) < 0.01

    arms = arms_of(run_dir, "over_regularised")
    first_name = arms[0][0]["name"]
    assert len(arms) == 4 and len(arms[0][1]) == kept[first_name]  # what was done is not done again
    read: dict[int, set[str]] = {}
    for arm, events in arms:
        steps = [e for e in events if e["event"] == "step"]
        assert [e["step"] for e in steps][-1] == arm["last"] and events[-1]["reason"] == "finished"
        assert sum(e["step_tokens"] for e in steps) == answer["tokens"]
        rates = [e["lr"] for e in steps]
        assert rates[-1] == pytest.approx(rates[0] / len(rates)) and rates == sorted(rates, reverse=True)
        folder = run_dir / "probes/arms" / arm["name"]
        read.setdefault(arm["pair"], set()).add(str(steps[0]["epoch"]))
        windows = np.load(folder / "evals/heldout-documents.npy")
        own = np.load(run_dir / "evals/heldout-documents.npy")
        assert (windows == own[: len(windows)]).all() and len(windows) >= 8
        assert not list((folder / "checkpoints").glob("step-*"))  # the weights were wanted for nothing else
    losses = {(a["pair"], a["changed"]): a["loss"] for a in answer["arms"]}
    assert all(losses[pair, True] < losses[pair, False] for pair in (0, 1))
    assert [r.name for r in list_runs(run_dir.parent)] == [run_dir.name]  # arms are no runs of the list


def test_explain_takes_it_in_and_a_second_look_costs_nothing(run_dir: Path) -> None:
    before = json.loads(gptbench("explain", run_dir, "--json").stdout)
    found = {c["id"]: c for c in before["causes"]}
    dead, planned = found["dead_gradients"], found["over_regularised"]
    assert dead["confirmed"] is None and dead["probe"]["refused"] is None and 0 < dead["probe"]["cost_fraction"] <= 0.05
    assert dead["commands"]["probe"] == f"gptbench probe {run_dir.name} dead_gradients"
    assert planned["probe"]["what"].startswith("dropout 0") and "too few" in planned["probe"]["refused"]
    assert planned["commands"]["fix"].startswith(f"gptbench branch {run_dir.name} --from-step 400 --set model.dropout")
    nulls = {c["id"] for c in before["causes"] if c["probe"] is None}
    assert nulls >= {"capacity", "token_limited", "context_too_short", "data_order", "schedule_complete"}
    assert all(c["instead"] for c in before["causes"] if c["probe"] is None)

    assert gptbench("probe", run_dir, "dead_gradients").returncode == 0
    after = json.loads(gptbench("explain", run_dir, "--json").stdout)
    alive = next(c for c in after["causes"] if c["id"] == "dead_gradients")
    assert alive["confirmed"] is False and alive["probability"] <= 0.03
    assert "refuted by experiment" in alive["against"][0]["text"] and alive["experiment"]["cost_fraction"] > 0
    written = (run_dir / "probes/dead_gradients/result.json").stat().st_mtime_ns
    again = gptbench("probe", run_dir, "dead_gradients")
    assert "REFUTED dead_gradients" in again.stdout and "arm" not in again.stdout
    assert (run_dir / "probes/dead_gradients/result.json").stat().st_mtime_ns == written


def test_a_rate_is_probed_from_the_start_by_matched_short_runs(run_dir: Path) -> None:
    done = gptbench("probe", run_dir, "lr_too_high", "--budget", "0.6", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["confirmed"] is None and answer["step"] == 0  # the rate is none too high, and nothing could refute it
    assert abs(answer["cost_fraction"] - answer["cost_measured"]) < 0.01
    arms = {(arm["pair"], arm["changed"]): events for arm, events in arms_of(run_dir, "lr_too_high")}
    for pair in (0, 1):
        plain, third = ([e for e in arms[pair, changed] if e["event"] == "step"] for changed in (False, True))
        assert [e["step"] for e in plain] == [e["step"] for e in third] == list(range(1, answer["steps"] + 1))
        rates = [e["lr"] for e in plain]
        assert max(rates) == pytest.approx(3e-3, rel=0.06) and abs(rates.index(max(rates)) - 19) <= 1
        assert rates[0] < 3e-4 and rates[-1] < 1.2e-4
        assert [e["lr"] for e in third] == pytest.approx([r / 3 for r in rates])
        assert sum(e["step_tokens"] for e in plain) == sum(e["step_tokens"] for e in third) == answer["tokens"]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["capacity"], 1, "no short experiment settles it; what would: a larger model on the same tokens"),
        (["lr_decayed_early"], 1, "the rate still stands at 100% of its peak"),
        (["under_regularised", "--budget", "0.6"], 1, "there is nothing to change"),
        (["lr_too_hig"], 2, "did you mean lr_too_high?"),
        (["lr_too_high", "--budget", "0.0001"], 1, "too few to tell anything"),
        (["lr_too_high", "--budget", "2"], 2, "--budget 2"),
        (["--stop"], 1, "no probe is under way"),
    ],
)
def test_it_refuses_in_one_line(run_dir: Path, words: list[str], code: int, says: str) -> None:
    done = gptbench("probe", run_dir, *words)
    assert done.returncode == code and says in done.stderr and len(done.stderr.splitlines()) == 1


def test_it_refuses_without_checkpoint_or_shards_and_of_a_log(run_dir: Path, shared: Path, tmp_path: Path) -> None:
    config = (run_dir / "config.toml").read_text()
    (run_dir / "config.toml").write_text(config.replace("a.parquet", "gone.parquet"))
    gone = gptbench("probe", run_dir, "lr_too_high")
    assert gone.returncode == 1 and "gone.parquet: this shard" in gone.stderr
    (run_dir / "config.toml").write_text(config)
    shutil.rmtree(run_dir / "checkpoints")
    assert "no checkpoint is kept yet" in gptbench("probe", run_dir, "lr_too_high").stderr
    log = tmp_path / "log.csv"
    log.write_text("step,loss,val_loss\n" + "".join(f"{i},{4 - i / 100},{4 - i / 100}\n" for i in range(0, 100, 5)))
    imported = json.loads(gptbench("import", log, "--runs", tmp_path / "runs", "--json").stdout)["run"]
    said = gptbench("probe", imported, "lr_too_high")
    assert said.returncode == 1 and "imported log" in said.stderr and "by hand" in said.stderr and "÷ 3" in said.stderr
    assert not (Path(imported) / "probes").exists()
