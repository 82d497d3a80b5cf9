"""The explainer on recorded runs whose cause was planted (recorded/README.md says how each was made)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from workbench.plateau.diagnose import Diagnosis, diagnose
from workbench.plateau.evidence import gather
from workbench.plateau.report import report_lines
from workbench.runs.read import Source, read_run

RECORDED = Path(__file__).parent / "recorded"


def unpack(name: str, folder: Path, until: int | None = None) -> Path:
    """A run directory as the engine leaves it, cut behind step ``until``."""
    run_dir = folder / name
    run_dir.mkdir(parents=True)
    for file in ("config.toml", "data.json"):
        shutil.copy(RECORDED / name / file, run_dir)
    lines = (RECORDED / name / "events.jsonl").read_text().splitlines()
    kept = [line for line in lines if until is None or json.loads(line).get("step", 0) <= until]
    (run_dir / "events.jsonl").write_text("\n".join(kept) + "\n")
    (run_dir / "evals").mkdir()
    with np.load(RECORDED / name / "evals.npz") as arrays:
        for key in arrays.files:
            np.save(run_dir / "evals" / f"{key}.npy", arrays[key])
    return run_dir


def explain(name: str, folder: Path, until: int | None = None) -> tuple[Diagnosis, Source]:
    source = read_run(unpack(name, folder, until))
    return diagnose(source.history, source.facts, source.run_dir), source


def test_repeated_data_are_named_with_their_epochs_and_gap(tmp_path: Path) -> None:
    d, source = explain("repetition", tmp_path)
    assert d.verdict.name in ("plateau", "overfitting")
    first = d.causes[0]
    assert first.id == "data_repetition" and first.probability > 0.8
    assert all(c.probability < 0.5 for c in d.causes[1:])
    figures = {k: v for f in first.speaking_for for k, v in f.figures.items()}
    assert figures["epochs"] == pytest.approx(20.2, abs=0.1)
    assert figures["gap"] == pytest.approx(3.17, abs=0.02) and figures["growth"] > 1.5
    assert first.assessment.gain is not None
    # Its twin on fresh data (the healthy run) ended 1.2 lower, on fewer steps.
    assert first.assessment.gain.low < 1.2 < first.assessment.gain.high
    lines = report_lines(d, source.history)
    # A command may be longer, by a path that must stay in one piece.
    assert all(len(line) <= 80 or "--config" in line for line in lines) and any(
        "epoch 20 done" in line for line in lines
    )


def test_repetition_is_named_before_the_run_ends(tmp_path: Path) -> None:
    d, _ = explain("repetition", tmp_path, until=240)  # 12 epochs; whether the loss still falls is drowned in noise
    assert d.causes[0].id == "data_repetition" and d.causes[0].probability > 0.5
    d, _ = explain("repetition", tmp_path / "early", until=60)  # 3 epochs: nothing can be said yet
    assert d.verdict.name == "not_enough_evidence" and not d.probable


@pytest.mark.parametrize("until", [None, 260, 180, 100])
def test_a_healthy_run_has_no_cause(tmp_path: Path, until: int | None) -> None:
    d, _ = explain("healthy", tmp_path, until)
    assert d.verdict.name == ("finished" if until is None else "improving") or until == 100
    assert d.verdict.name in ("finished", "improving", "not_enough_evidence")
    assert not d.probable


def test_an_unstable_run_is_named_though_its_trend_cannot_be_told(tmp_path: Path) -> None:
    d, _ = explain("unstable", tmp_path)
    assert d.causes[0].id == "instability" and d.causes[0].probability > 0.5
    assert all(c.probability < 0.5 for c in d.causes[1:])
    assert d.causes[0].assessment.action.set["optim.grad_clip"] == 1.0


def test_a_rate_that_decayed_early_is_named(tmp_path: Path) -> None:
    d, _ = explain("decayed_early", tmp_path)
    assert d.verdict.name == "plateau"
    first = d.causes[0]
    assert first.id == "lr_decayed_early" and first.probability > 0.8
    assert all(c.probability < 0.5 for c in d.causes[1:])
    assert d.evidence.rate is not None and d.evidence.rate.floor_since == pytest.approx(60, abs=2)
    assert first.assessment.action.set["schedule.decay_steps"] == 200


def test_paired_documents_give_less_noise_than_the_level_has(tmp_path: Path) -> None:
    source = read_run(unpack("healthy", tmp_path))
    with_documents = gather(source.history, source.facts, source.run_dir)
    assert with_documents.noise.level_se is not None and with_documents.noise.over_documents is not None
    assert with_documents.noise.over_documents < 0.2 * with_documents.noise.level_se
    assert with_documents.noise.basis.startswith("paired differences of 24 documents")
    without = gather(source.history, source.facts, None)
    assert without.noise.over_documents is None and without.noise.basis.startswith("residuals")


def test_spoilt_document_losses_are_left_out(tmp_path: Path) -> None:
    run_dir = unpack("healthy", tmp_path)
    for i, path in enumerate(sorted((run_dir / "evals").glob("heldout-0*.npy"))):
        if i % 3 == 0:
            path.write_bytes(b"\x93NUMPY spoilt")
        elif i % 3 == 1:
            np.save(path, np.zeros(3, dtype=np.float32))
    source = read_run(run_dir)
    d = diagnose(source.history, source.facts, run_dir)
    assert d.verdict.name == "finished" and not d.probable
