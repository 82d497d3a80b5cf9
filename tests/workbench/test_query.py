"""Choosing runs by text: words, comparisons, AND, OR, NOT; and what may be done to a run."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import process
from tests.workbench.folders import make_run
from workbench.errors import UserError
from workbench.runs import manage
from workbench.runs.query import parse
from workbench.runs.store import RunSummary, list_runs, summarise


@pytest.fixture
def run(tmp_path: Path) -> RunSummary:
    return summarise(make_run(tmp_path, "demo-1m", steps=60))


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("", True), ("demo", True), ("DEMO dead", True), ("demo finished", False), ("demo or finished", True),
        ("not finished", True), ("not (demo or finished)", False), ("step>50", True), ("step > 50 and step<=60", True),
        ("step=60", True), ("step!=60", False), ("lr>1e-9", True), ("lr>1k", False), ("max_steps<0.8k", False),
        ("max_steps=0.8k", True), ("preset~1M", True), ("model.preset=demo-1m", True), ("verdict=plateau", False),
        ("verdict!=plateau", True), ("layers>0 finished or state=dead", True), ('"demo-1m"', True), ("(demo", True),
        ("demo and", True), ("step>abc", False),
    ],
)  # fmt: skip
def test_queries(run: RunSummary, text: str, holds: bool) -> None:
    assert parse(text)(run) is holds


@pytest.mark.parametrize(("text", "near"), [("layrs=3", "layers"), ("optim.lrr>1", "optim.lr"), ("vall<3", "val")])
def test_an_unknown_field_names_the_nearest(text: str, near: str) -> None:
    with pytest.raises(UserError, match=f"did you mean {near}"):
        parse(text)


@given(st.text(alphabet='ab(<>=!~) "1.elrandot', max_size=40))
def test_no_text_breaks_it(text: str) -> None:
    summary = RunSummary("/none", "ab", "dead", 1, None, None, None, 0.0, None)
    with contextlib.suppress(UserError):
        assert parse(text)(summary) in (True, False)


def test_a_running_run_is_neither_deleted_nor_renamed(tmp_path: Path) -> None:
    import os

    run_dir = make_run(tmp_path, steps=3)
    process.write(run_dir, os.getpid())
    for act in (manage.delete, lambda run: manage.rename(run, "x")):
        with pytest.raises(UserError, match="is running"):
            act(run_dir)
    with pytest.raises(UserError, match="no run directory"):
        manage.delete(tmp_path)
    assert run_dir.is_dir()


@pytest.mark.parametrize("name", ["", "..", "a/b", "taken"])
def test_a_name_that_cannot_be_is_refused(tmp_path: Path, name: str) -> None:
    run_dir = make_run(tmp_path, steps=3)
    (tmp_path / "taken").mkdir()
    with pytest.raises(UserError):
        manage.rename(run_dir, name)


def test_a_list_read_again_sees_what_changed(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path, steps=3)
    assert list_runs(tmp_path) == list_runs(tmp_path) and list_runs(tmp_path)[0].note == ""
    manage.annotate(run_dir, "first\x1b[31m try\n")
    assert list_runs(tmp_path)[0].note.startswith("first")
    renamed = manage.rename(run_dir, "other")
    assert [run.name for run in list_runs(tmp_path)] == ["other"]
    manage.delete(renamed)
    assert list_runs(tmp_path) == []


def test_the_newest_evaluation_is_found_far_behind_the_end(tmp_path: Path) -> None:
    import json

    run_dir = make_run(tmp_path, steps=3)
    with (run_dir / "events.jsonl").open("a") as file:
        file.write(json.dumps({"event": "eval", "step": 9, "split": "heldout", "loss": 1.25}) + "\n")
        for step in range(10, 3000):
            file.write(json.dumps({"event": "step", "time": 1.0, "step": step, "loss": 2.0, "pad": "x" * 60}) + "\n")
    summary = summarise(run_dir)
    assert (summary.val_loss, summary.step, summary.max_steps) == (1.25, 2999, 800)
