"""Branches: a run that goes on from another's checkpoint, the same where nothing changes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from engine import checkpoint, config
from engine.__main__ import main
from engine.errors import RunError
from engine.schedule import learning_rate
from tests.engine.conftest import MakeRun, data_of, events_of
from workbench.runs import launch


def steps_of(run: Path) -> dict[int, dict[str, float]]:
    return {e["step"]: e for e in events_of(run) if e["event"] == "step"}


@pytest.fixture
def parent(make_run: MakeRun) -> Path:
    """A run of 12 steps with checkpoints at 5, 10 and 12, dropout on."""
    run = make_run("parent", model__dropout=0.1, train__keep_checkpoints=0)
    assert main(["train", str(run)]) == 0
    return run


def test_without_changes_it_goes_on_identically(parent: Path, tmp_path: Path) -> None:
    made = launch.branch(parent, 5, [], tmp_path / "runs")
    assert made.name.startswith("parent-from-5-")
    shutil.rmtree(parent / "checkpoints")  # the branch needs nothing of its parent
    assert main(["train", str(made)]) == 0
    was, now = steps_of(parent), steps_of(made)
    assert list(now) == list(range(6, 13))
    for step, event in now.items():
        for key in ("loss", "grad_norm", "lr", "tokens", "epoch"):
            assert event[key] == was[step][key], (step, key)
    evals = {(e["step"], e["split"]): e["loss"] for e in events_of(parent) if e["event"] == "eval"}
    assert all(evals[e["step"], e["split"]] == e["loss"] for e in events_of(made) if e["event"] == "eval")
    assert config.load(made / "config.toml").train.branched_from == str(parent / "checkpoints/step-00000005")
    assert data_of(made)["files"] == data_of(parent)["files"]


def test_a_cooldown_branched_off(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("constant", schedule__kind="constant", train__max_steps=8)
    assert main(["train", str(run)]) == 0
    sets = ["schedule.kind=wsd", "schedule.cooldown_steps=5", "train.max_steps=10", "schedule.min_lr=0"]
    made = launch.branch(run, 5, sets, tmp_path / "runs", name="cool")
    assert main(["train", str(made)]) == 0
    c = config.load(made / "config.toml")
    rates = [event["lr"] for event in steps_of(made).values()]
    assert rates == [learning_rate(c, step) for step in range(6, 11)] and rates[-1] < rates[0] / 2
    assert main(["train", str(made)]) == 0, "a finished branch has nothing to do"


def test_a_branch_that_is_cut_short_resumes_exactly(parent: Path, tmp_path: Path) -> None:
    """With another batch: positions count on from the checkpoint's."""
    sets = ["train.micro_batch=3", "train.checkpoint_every=2", "optim.lr=1e-3"]
    whole, cut = (launch.branch(parent, 5, sets, tmp_path / name) for name in "ab")
    assert main(["train", str(whole)]) == 0
    assert [e["tokens"] for e in steps_of(whole).values()] == [5 * 64 + 96 * n for n in range(1, 8)]
    assert main(["train", str(cut)]) == 0
    shutil.rmtree(cut / "checkpoints/step-00000012")
    lines = (cut / "events.jsonl").read_bytes().splitlines(keepends=True)
    (cut / "events.jsonl").write_bytes(b"".join(lines[:-1]))
    assert main(["train", str(cut)]) == 0
    assert any(e["event"] == "resume" and e["step"] == 10 for e in events_of(cut))
    assert {s: e["loss"] for s, e in steps_of(cut).items()} == {s: e["loss"] for s, e in steps_of(whole).items()}


@pytest.mark.parametrize(
    ("step", "sets", "says"),
    [
        (7, [], "no checkpoint of step 7; there are: 5, 10, 12"),
        (5, ["model.n_embd=32"], "model.n_embd would change"),
        (5, ["train.max_steps=5"], "train.max_steps 5 leaves nothing to train behind step 5"),
        (5, ["optim.kind=muon"], "optim.kind would change"),
    ],
)
def test_what_cannot_be_branched_is_one_line_and_leaves_nothing(
    parent: Path, tmp_path: Path, step: int, sets: list[str], says: str
) -> None:
    with pytest.raises(RunError, match=says):
        launch.branch(parent, step, sets, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_damaged_checkpoint(parent: Path, tmp_path: Path) -> None:
    (parent / "checkpoints/step-00000005/state.json").write_text("{")
    with pytest.raises(RunError, match="cannot be branched off"):
        launch.branch(parent, 5, [], tmp_path / "runs")
    assert list((tmp_path / "runs").iterdir()) == []


def test_the_best_is_kept(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(train__checkpoint_every=4, train__keep_checkpoints=1, train__max_steps=16)
    monkeypatch.setattr("engine.train.learning_rate", lambda c, step: 3e-3 if step <= 8 else 30.0)
    assert main(["train", str(run)]) == 0
    losses = {e["step"]: e["loss"] for e in events_of(run) if e["event"] == "eval" and e["split"] == "heldout"}
    del losses[0]
    best = min(losses, key=lambda step: losses[step])
    assert best == 8, "the rate behind it is meant to ruin the model"
    assert [checkpoint.step_of(p) for p in checkpoint.complete(run)] == [16, best]
    assert checkpoint.find(run, "best").name == f"step-{best:08d}"
    state = json.loads((checkpoint.find(run, "best") / "state.json").read_text())
    assert state["heldout"] == {"step": best, "loss": losses[best]}
