"""Earlier runs on the same held-out documents: which they are, what they promise, and what they say of causes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine import config
from tests.workbench.folders import make_run
from tests.workbench.synthetic import Run, anchor, explain
from workbench.cli import main
from workbench.runs import anchors

# Far outside what the law was fitted for: nothing but an earlier run tells what to expect.
SMALL = Run(parameters=3e6, tokens_per_step=8192.0, steps=3000, saturating=True, lr=2e-3)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Runs judged on the same documents: two finished ones, and one that is still to be told about."""
    for name in ("first", "second", "third"):
        judged(make_run(tmp_path, name, stop=None if name == "third" else "finished", overfit=False))
    return tmp_path


def judged(run_dir: Path, documents: int = 60) -> Path:
    folder = run_dir / "evals"
    folder.mkdir()
    np.save(folder / "heldout-documents.npy", np.arange(2 * documents, dtype=np.uint64).reshape(-1, 2))
    np.save(folder / "heldout-tokens.npy", np.full(documents, 256, np.int64))
    return run_dir


def names(run_dir: Path) -> set[str]:
    return {anchor.name for anchor in anchors.find(run_dir)}


def test_finished_runs_on_the_same_documents_are_anchors(root: Path) -> None:
    assert names(root / "third") == {"first", "second"}
    assert names(root / "first") == {"second"}, "never itself, nor one that has not finished"


def test_runs_that_differ_in_what_is_judged_or_trained_are_none(root: Path) -> None:
    judged(make_run(root, "other-documents", stop="finished"), documents=59)
    make_run(root, "no-documents", stop="finished")
    for name, changed in (
        ("muon", {"optim": {"kind": "muon"}}),
        ("modern", {"model": {"family": "modern"}}),
        ("longer", {"model": {"block_size": 512}}),
        ("branch", {"train": {"branched_from": str(root / "third" / "checkpoints" / "step-00000100")}}),
    ):
        run_dir = judged(make_run(root, name, stop="finished"))
        there = config.load(run_dir / "config.toml")
        (run_dir / "config.toml").write_text(there.replace(**changed).to_toml())
    (root / "second" / "diagnosis.json").write_text(json.dumps({"verdict": "overfitting"}))
    assert names(root / "third") == {"first"}
    assert "branch" in names(root / "first"), "one that only the third run is of one line with"


def test_what_hostile_neighbours_hold_is_passed_over(root: Path) -> None:
    (root / "first" / "config.toml").write_text("model = [")
    (root / "second" / "evals" / "heldout-tokens.npy").unlink()
    (root / "third" / "evals" / "heldout-documents.npy").write_bytes(b"")
    assert names(root / "third") == set()


def test_a_twin_of_another_seed_lies_where_the_first_one_promised() -> None:
    for seed in range(1, 9):
        found = explain(replace(SMALL, seed=seed), [SMALL])
        expected = found.evidence.level.loss
        assert expected is not None and expected.low < found.evidence.loss < expected.high
        assert found.verdict.concern < 0.5 and not found.probable


@pytest.mark.parametrize("until", [0.3, 0.5, 0.8])
def test_a_run_half_way_is_held_against_the_same_tokens(until: float) -> None:
    found = explain(replace(SMALL, until=until, seed=3), [SMALL])
    expected = found.evidence.level.loss
    assert expected is not None and expected.high - expected.low < 0.2
    assert expected.low < found.evidence.loss < expected.high


def test_the_published_law_is_moved_to_another_size_and_length() -> None:
    earlier = Run(parameters=124e6, steps=8000, heldout_shift=0.5)  # a corpus that is harder by half a nat
    later = Run(parameters=350e6, steps=20_000, heldout_shift=0.5, seed=4)
    alone, beside = explain(later), explain(later, [earlier])
    assert alone.evidence.above, "by the law's constant for web text it would be suspected"
    expected = beside.evidence.level.loss
    assert expected is not None and not beside.evidence.above and expected.high - expected.low < 0.3
    assert expected.low < beside.evidence.loss < expected.high


def test_a_run_above_an_earlier_one_is_told_by_what_it_has_differently() -> None:
    slow = replace(SMALL, lr=SMALL.lr / 20, slower=0.05, seed=2)
    alone, beside = explain(slow), explain(slow, [SMALL])
    assert beside.evidence.above and beside.verdict.concern >= 0.9
    (first, *_) = beside.causes
    assert first.id == "lr_too_low" and first.probability > 0.5
    assert first.probability > next(c.probability for c in alone.causes if c.id == "lr_too_low")
    assert any("run-0" in f.text and "lr" in f.text for f in first.speaking_for)
    dropout = next(c for c in beside.causes if c.id == "over_regularised")
    assert any("with the same dropout" in f.text for f in dropout.against)


def test_the_best_of_several_counts() -> None:
    slow = replace(SMALL, lr=SMALL.lr / 20, slower=0.05, seed=2)
    assert explain(slow, [replace(slow, seed=5), SMALL]).evidence.above
    assert not explain(slow, [replace(slow, seed=5)]).evidence.above
    assert not explain(replace(SMALL, seed=7), [slow, SMALL]).evidence.above


def test_another_optimiser_promises_nothing() -> None:
    other = anchor(SMALL, "other")
    other.facts.put("optimizer", "muon", "test")
    from workbench.plateau.anchored import anchored

    assert anchored([other], anchor(SMALL, "own").facts, None, None) is None


def test_explain_names_the_earlier_run(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", str(root / "third"), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert "the run first" in answer["expected_loss"]["basis"] or "the run second" in answer["expected_loss"]["basis"]
    low, high = answer["expected_loss"]["low"], answer["expected_loss"]["high"]
    assert low < answer["loss"] < high
