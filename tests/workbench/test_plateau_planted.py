"""The planted-cause suite itself: its plan, its records, its labels; and that the explainer cannot read it."""

from __future__ import annotations

import gzip
import hashlib
import json
import math
from pathlib import Path
from typing import Any

import pytest

import workbench
from engine.config import resolve
from tests.benchmarks.planted import labels, make, plan, record, score
from workbench.plateau.cause import all_causes


@pytest.mark.parametrize("subset", list(plan.BASES))
def test_every_plant_has_a_configuration_a_twin_and_a_known_cause(subset: str) -> None:
    plants = {p.name: p for p in plan.plants(subset)}
    known = {c.ID for c in all_causes()}
    for p in plants.values():
        base = next(b for b in plan.BASES[subset] if b.name == p.base)
        resolve(None, (), plan.options(p, base))
        assert set(p.causes) <= known
        assert bool(p.causes) == bool(p.twin)
        if p.twin:
            assert not plants[p.twin].causes and plants[p.twin].split == p.split
    planted, healthy = (
        [p for p in plants.values() if bool(p.causes) == wanted and (p.cut == 1 or not p.causes)]
        for wanted in (True, False)
    )
    if subset != "cpu2":  # the second held-out set of the CPU stands beside the first
        assert len(planted) + len(healthy) >= 40 and len(healthy) >= 15
        assert sum(len(p.causes) == 2 for p in planted) >= 2


@pytest.mark.parametrize("subset", ["cpu", "cuda"])
def test_held_out_plants_differ_from_the_others_by_base_and_by_dose(subset: str) -> None:
    seen: dict[str, set[tuple[str, Any]]] = {plan.DEV: set(), plan.HELDOUT: set()}
    for p in plan.plants(subset):
        seen[p.split].add((p.base, p.causes))
    assert not seen[plan.DEV] & {k for k in seen[plan.HELDOUT] if k[1] and k[1] != ("capacity",)}
    doses = [
        {(p.causes, p.dose) for p in plan.plants(subset) if p.split == split and p.dose not in (0, 1, 16, 5)}
        for split in (plan.DEV, plan.HELDOUT)
    ]
    assert doses[0] and doses[1] and not doses[0] & doses[1]


def test_a_record_that_was_changed_is_refused(tmp_path: Path) -> None:
    text = json.dumps({"plant": {"name": "a"}})
    (tmp_path / "cpu-dev.jsonl.gz").write_bytes(gzip.compress((text + "\n").encode()))
    manifest = {"cpu-dev.jsonl.gz": {"sha256": hashlib.sha256(text.encode()).hexdigest(), "runs": {}}}
    (tmp_path / record.MANIFEST).write_text(json.dumps(manifest))
    assert record.names(tmp_path, "cpu") == {"a"} and not record.names(tmp_path, "cuda")
    (tmp_path / "cpu-dev.jsonl.gz").write_bytes(gzip.compress((text + " \n").encode()))
    with pytest.raises(ValueError, match="not those of the manifest"):
        record.names(tmp_path, "cpu")


def test_records_of_another_machine_are_added_and_none_is_changed(tmp_path: Path) -> None:
    def line(name: str, split: str, loss: float) -> dict[str, Any]:
        return {"plant": {"name": name, "split": split}, "loss": loss}

    here, there = tmp_path / "here", tmp_path / "there"
    record.save("cuda", [line("a", plan.DEV, 1.0), line("h", plan.HELDOUT, 2.0)], here)
    before = json.loads((here / record.MANIFEST).read_text())
    record.save("cuda", [line("a", plan.DEV, 9.0), line("b", plan.DEV, 3.0)], there)
    record.merge(there, here)
    assert {v["plant"]["name"]: v["loss"] for v in record.read(here, "cuda")} == {"a": 1.0, "b": 3.0, "h": 2.0}
    after = json.loads((here / record.MANIFEST).read_text())
    assert after["cuda-heldout.jsonl.gz"] == before["cuda-heldout.jsonl.gz"]
    assert after["cuda-dev.jsonl.gz"]["runs"]["a"] == before["cuda-dev.jsonl.gz"]["runs"]["a"]


def test_a_run_is_started_only_where_it_would_end_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(make.time, "monotonic", lambda: now)
    plants = {p.name: p for p in plan.plants("cuda")}
    m = make.Making("cuda", tmp_path, "", False, 0.0, 400.0, plants=plants)
    assert m.room() == math.inf  # nothing has ended: the speed is unknown
    m.ended, m._spent, m._moving = 8, 80.0, 60.0  # twice as fast as planned, so far
    assert m.room() == pytest.approx(2 * 300 / make.CAREFUL)
    now = 395.0
    assert m.room() < plants["30m-healthy-1"].seconds


@pytest.mark.parametrize("p", plan.plants("cuda"), ids=lambda p: p.name)
def test_every_plant_can_be_tried_on_next_to_nothing(p: plan.Plant) -> None:
    base = next(b for b in plan.BASES["cuda"] if b.name == p.base)
    c = resolve(None, (), make.tiny(plan.options(p, base)))
    assert c.train.device == "cpu" and c.train.max_steps <= 40 and c.tokens_per_step <= 256


def test_an_error_of_the_engine_is_no_end_of_a_run() -> None:
    assert record.of_itself({"reason": "finished"})
    assert record.of_itself({"reason": "failed", "text": "5 steps without a finite loss"})
    assert not record.of_itself({"reason": "failed", "text": "internal error: AttributeError"})


def test_labels_stand_only_against_a_moving_twin_beyond_seeds() -> None:
    def line(name: str, end: float, fall: float, causes: tuple[str, ...] = (), by: str = "loss") -> dict[str, Any]:
        events = [
            {"event": "eval", "split": "heldout", "step": s, "loss": end + fall * (1 - s / 100)}
            for s in range(5, 101, 5)
        ]
        twin = "a-healthy-1" if causes else ""
        return {"plant": {"name": name, "base": "a", "causes": causes, "twin": twin, "by": by}, "events": events}

    lines = {f"a-healthy-{i}": line(f"a-healthy-{i}", 3 + 0.01 * i, 1.0) for i in (1, 2, 3)}
    assert labels.stands(line("p", 3.2, 0.1, ("capacity",)), lines)[0]
    assert not labels.stands(line("p", 3.02, 0.1, ("capacity",)), lines)[0]  # within the seeds
    assert labels.stands(line("p", 3.5, 0.05, ("instability",), "flat"), lines)[0]
    assert not labels.stands(line("p", 3.5, 1.0, ("instability",), "flat"), lines)[0]  # not flat
    still = {k: line(k, 3 + 0.01 * i, 0.0) for i, k in enumerate(lines)}
    assert not labels.stands(line("p", 3.5, 0.0, ("instability",), "flat"), still)[0]  # its twin is flat too


def test_scores_count_ranks_alarms_and_probabilities() -> None:
    right = score.Scored("a", ("capacity",), (("capacity", 0.9), ("lr_too_low", 0.6)), (0.1, 0.2, 0.3), 0.25)
    second = score.Scored("b", ("lr_too_low",), (("capacity", 0.9), ("lr_too_low", 0.6)))
    silent = score.Scored("c", ("lr_too_low",), (("lr_too_low", 0.4),))
    alarm = score.Scored("d", (), (("capacity", 0.7),))
    found = score.summary([right, second, silent, alarm])
    assert found["top1"].startswith("1/3") and found["top2"].startswith("2/3")
    assert found["false_alarms"].startswith("1/1") and found["gain_inside"] == "1/1"
    assert found["gain_error"] == pytest.approx(0.05)
    expected = (0.1**2 + 0.6**2 + 0.9**2 + 0.4**2 + 0.6**2 + 0.7**2) / (4 * len(all_causes()))
    assert found["brier"] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("subset", ["cpu", "cuda"])
def test_causes_of_development_runs_are_named_and_healthy_ones_left_in_peace(subset: str, tmp_path: Path) -> None:
    lines = {v["plant"]["name"]: v for v in record.read(record.RECORDED, subset) if v["plant"]["split"] == plan.DEV}
    scored = [
        score.explained(v, record.unpack(v, tmp_path), False, None)
        for v in lines.values()
        if labels.stands(v, lines)[0]
    ]
    planted, healthy = [s for s in scored if s.causes], [s for s in scored if not s.causes]
    assert len(planted) >= 15 and len(healthy) >= 12
    assert sum(s.hit(1) for s in planted) >= 0.85 * len(planted)
    assert not [s.name for s in healthy if s.named]
    logs = [score.as_log(lines[s.name], tmp_path / s.name) for s in scored]
    assert sum(s.hit(1) for s in logs if s.causes) >= 0.7 * len(planted)
    assert not [s.name for s in logs if s.named and not s.causes]


def test_the_explainer_cannot_read_the_suite() -> None:
    for file in Path(str(workbench.__file__)).parent.rglob("*.py"):
        text = file.read_text()
        assert "tests.benchmarks" not in text and "jsonl.gz" not in text, file
