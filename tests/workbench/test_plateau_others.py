"""The planted runs of other trainers: their plan, what is changed of nanoGPT's text, their records, and the answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.benchmarks.planted.others import make, nanogpt, plan, record, score
from tests.benchmarks.planted.plan import DEV, HELDOUT, Plant
from workbench.plateau.cause import all_causes

TRAIN = """torch.manual_seed(1337 + seed_offset)
ix = torch.randint(len(data) - block_size, (batch_size,))
y = data[i+1:i+1+block_size]
torch.save(checkpoint)
    scaler.update()
"""


def test_every_plant_has_a_twin_and_a_known_cause() -> None:
    plants = {p.name: p for p in plan.all_plants()}
    assert len(plants) == len(plan.all_plants())
    known = {c.ID for c in all_causes()}
    for p in plants.values():
        assert set(p.causes) <= known and bool(p.causes) == bool(p.twin)
        assert not p.twin or (not plants[p.twin].causes and plants[p.twin].base == p.base)
        assert plan.options(p)["learning_rate"] > 0
    doses = [{(p.causes, p.dose) for p in plants.values() if p.split == s and p.dose not in (0, 1, 16)}
             for s in (DEV, HELDOUT)]  # fmt: skip
    assert doses[0] and not doses[0] & doses[1]


def test_of_nanogpt_only_seed_checkpoint_and_fault_are_changed() -> None:
    plain = nanogpt.changed(TRAIN, "7", "")
    assert "manual_seed(7 +" in plain and "torch.save" not in plain and "data[i+1:i+1+block_size]" in plain
    assert "data[i:i+block_size]" in nanogpt.changed(TRAIN, "7", "identity")
    shifted = nanogpt.changed(TRAIN, "7", "offset-3")
    assert "data[i+3:i+3+block_size]" in shifted and "len(data) - block_size - 3," in shifted
    assert "if iter_num == 40:" in nanogpt.changed(TRAIN, "7", "dead-40")
    for text, fault in ((TRAIN, "nonsense"), ("another trainer", "")):
        with pytest.raises(ValueError, match=r"fault|train.py has no"):
            nanogpt.changed(text, "7", fault)


def test_a_log_is_cut_by_its_steps_and_says_no_path() -> None:
    log = "Overriding: dataset = /somewhere/epochs-30\nOverriding: max_iters = 10\n" + "".join(
        f"step {i}: train loss 3.1, val loss 3.2\niter {i}: loss 3.0\n" for i in range(11)
    )
    cut = record._cut(log, 0.6)
    assert "epochs-30" not in cut and "max_iters = 10" in cut
    assert "iter 6:" in cut and "step 7:" not in cut and "iter 7:" not in cut
    state = json.dumps({"global_step": 10, "log_history": [{"step": i, "eval_runtime": 1.0} for i in (2, 6, 8)]})
    assert json.loads(record._cut_state(state, 0.6)) == {"global_step": 6, "log_history": [{"step": 2}, {"step": 6}]}


def test_a_finished_run_becomes_a_record(tmp_path: Path) -> None:
    p = next(p for p in plan.all_plants() if p.name == "nano12-tiny")
    folder = tmp_path / p.name
    folder.mkdir()
    (folder / "told.json").write_text(json.dumps({"val_documents": 2, "val_tokens": 1500}))
    (folder / "log").write_text("step 0: train loss 10.8, val loss 10.7\nstep 5: train loss 9.0, val loss nan\n")
    (folder / "done").touch()
    record.write(tmp_path, tmp_path / "out")
    kept = record.read(tmp_path / "out")[p.name]
    assert [e["loss"] for e in kept["events"]] == [10.7, None] and kept["events"][0]["se"] > 0.3
    assert kept["told"]["val_tokens"] == 1500


@pytest.mark.parametrize("p", plan.all_plants(), ids=lambda p: p.name)
def test_every_plant_can_be_tried_on_next_to_nothing(p: Plant) -> None:
    small = make._tiny(plan.options(p))
    assert small.get("max_iters", small.get("max_steps")) <= 40 and small["n_embd"] == 16


def test_causes_of_development_runs_are_named_and_healthy_ones_left_in_peace(tmp_path: Path) -> None:
    lines = record.read()
    chosen = [v for v in record.kept(DEV) if score.stands(v, lines)[0]]
    assert len(chosen) >= 30
    for view, least in ((score.TOLD, 0.9), (score.PRINTED, 0.8)):
        scored = [score.scored(v, tmp_path, view) for v in chosen]
        planted = [s for s in scored if s.causes]
        assert sum(s.hit(1) for s in planted) >= least * len(planted)
        assert not [s.name for s in scored if s.named and not s.causes]
