"""Whole runs of ``python -P -m engine train``: what they write, how they stop, resume and fail."""

from __future__ import annotations

import itertools
import math
import random
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from engine import config, process
from engine.checkpoint import complete
from engine.schedule import learning_rate
from tests.engine.conftest import (
    MakeRun,
    data_of,
    events_of,
    forget_the_end,
    kinds,
    losses_of,
    rewrite,
    start,
    texts_of,
    train,
    wait_for,
    write_shard,
)
from workbench.runs.history import History


def test_a_run_from_beginning_to_end(make_run: MakeRun, shard: Path) -> None:
    run = make_run()
    assert train(run) == 0
    found = events_of(run)
    assert all(isinstance(e["time"], float) for e in found)
    assert [e["time"] for e in found] == sorted(e["time"] for e in found)
    h = History.of(found)
    c = config.load(run / "config.toml")
    assert list(h.steps["step"]) == list(range(1, 13))
    assert list(h.steps["tokens"]) == [64 * s for s in range(1, 13)]
    assert h.steps["lr"] == pytest.approx([learning_rate(c, s) for s in range(1, 13)])
    assert list(h.val["step"]) == list(h.seen["step"]) == [0, 4, 8, 12]
    assert h.val["loss"][0] == pytest.approx(math.log(50304), abs=0.3)
    assert h.val["loss"][-1] < h.val["loss"][0]
    assert [m["step"] for m in h.checkpoints] == [5, 10, 12]
    assert [p["name"] for p in h.phases] == ["import", "device", "pack", "build", "first evaluation", "first step"]
    assert h.stop is not None and h.stop["reason"] == "finished" and h.stop["step"] == 12
    for key in ("schema", "parameters", "tokens_per_step", "max_steps", "device", "device_name", "versions",
                "config_hash", "flops_per_token"):  # fmt: skip
        assert h.start[key], key
    step = next(e for e in found if e["event"] == "step")
    assert {"epoch", "grad_norm", "clipped", "step_time", "data_wait", "tokens_per_s", "memory"} <= step.keys()
    assert step["mfu"] is None  # a CPU's peak is not known

    data = data_of(run)
    assert data["files"][0]["path"] == str(shard) and data["files"][0]["documents"] == 60
    assert data["documents"] + data["held_out"]["documents"] == 60 and data["held_out"]["leaked_documents"] == 0
    assert step["epoch"] == pytest.approx(64 / data["tokens"])
    heldout = next(e for e in found if e["event"] == "eval" and e["split"] == "heldout")
    losses, tokens = np.load(run / "evals/heldout-00000000.npy"), np.load(run / "evals/heldout-tokens.npy")
    assert heldout["loss"] == pytest.approx((losses * tokens).sum() / tokens.sum(), rel=1e-5)
    assert heldout["tokens"] == tokens.sum() and heldout["documents"] == len(tokens) == 4
    assert heldout["bpb"] > 0 and heldout["se"] > 0
    assert process.read(run) is not None

    before = (run / "events.jsonl").read_bytes()
    assert train(run) == 0, "a finished run has nothing to do"
    assert (run / "events.jsonl").read_bytes() == before


def test_memorising_lowers_the_seen_loss_far_below_the_held_out_one(make_run: MakeRun, tmp_path: Path) -> None:
    few = write_shard(tmp_path / "few.parquet", texts_of(12))
    run = make_run(
        train__max_steps=80, eval__every=0, train__checkpoint_every=0, optim__lr=2e-2, eval__documents=6,
        eval__seen=20, data__paths=[str(few)],
    )  # fmt: skip
    assert train(run) == 0
    h = History.of(events_of(run))
    assert list(h.val["step"]) == [80]
    assert h.seen["loss"][-1] < h.val["loss"][-1] - 0.1
    assert [p.name for p in complete(run)] == ["step-00000080"]


def test_epochs_decide_the_steps(make_run: MakeRun) -> None:
    run = make_run(train__epochs=1, eval__every=0)
    assert train(run) == 0
    h = History.of(events_of(run))
    assert h.max_steps == data_of(run)["tokens"] // 64 == len(h.steps)
    assert 0.97 < h.steps["epoch"][-1] <= 1


def test_gradient_accumulation_is_one_larger_batch(make_run: MakeRun) -> None:
    one = make_run("one", train__micro_batch=4, train__max_steps=4)
    many = make_run("many", train__micro_batch=1, train__grad_accum=4, train__max_steps=4)
    assert train(one) == train(many) == 0
    assert list(losses_of(one).values()) == pytest.approx(list(losses_of(many).values()), rel=1e-5)


def test_a_batch_schedule_resumes_exactly(make_run: MakeRun) -> None:
    def run_of(name: str, steps: int) -> Path:
        return make_run(
            name, train__max_steps=steps, train__batch_schedule=[[3, 4], [8, 8]], schedule__decay_steps=12,
            model__dropout=0.2,
        )  # fmt: skip

    whole, run = run_of("whole", 12), run_of("run", 7)
    assert train(whole) == train(run) == 0
    path = run / "config.toml"
    path.write_text(config.resolve(path, overrides={"train.max_steps": 12}).to_toml())
    assert train(run) == 0 and losses_of(run) == losses_of(whole)
    steps = [e for e in events_of(run) if e["event"] == "step"]
    assert [e["step_tokens"] // 32 for e in steps] == [2] * 3 + [4] * 5 + [8] * 4
    assert [e["tokens"] for e in steps] == list(itertools.accumulate(e["step_tokens"] for e in steps))
    path.write_text(config.resolve(path, overrides={"train.batch_schedule": [[3, 8]], "train.max_steps": 14}).to_toml())
    assert train(run) == 1 and "train.batch_schedule" in events_of(run)[-1]["text"]


def long_run(make_run: MakeRun, name: str) -> Path:
    return make_run(name, train__max_steps=60, train__checkpoint_every=7, eval__every=10, model__dropout=0.2)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[int, float]]:
    """Losses of the uninterrupted run, once it was made."""
    return {}


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_stopped_or_killed_run_resumes_bit_for_bit(
    make_run: MakeRun, straight: dict[str, dict[int, float]], how: signal.Signals
) -> None:
    if not straight:
        whole = long_run(make_run, "straight")
        assert train(whole) == 0
        straight["losses"] = losses_of(whole)
        straight["evals"] = {int(e["step"]): e["loss"] for e in events_of(whole) if e["event"] == "eval"}
    run = long_run(make_run, "broken")
    engine = start(run)
    wait_for(lambda: complete(run), engine)
    time.sleep(random.random() / 4)
    engine.send_signal(how)
    out, err = engine.communicate(timeout=60)
    if how == signal.SIGTERM:
        assert engine.returncode == 0 and not err
        stop = events_of(run)[-1]
        assert stop["event"] == "stop" and stop["reason"] in ("stopped", "finished")
        assert complete(run)[0].name == f"step-{stop['step']:08d}"
        assert f"at step {stop['step']}" in out
    assert train(run) == 0
    assert losses_of(run) == straight["losses"]
    h = History.of(events_of(run))
    assert {int(s): v for s, v in zip(h.seen["step"], h.seen["loss"], strict=True)} == straight["evals"]
    assert list(h.val["step"]) == [0, 10, 20, 30, 40, 50, 60]
    assert h.stop is not None and h.stop["reason"] == "finished"
    if kinds(run).count("start") > 1:
        assert "resume" in kinds(run)


def test_a_run_killed_before_its_first_checkpoint_begins_again(make_run: MakeRun) -> None:
    run = make_run()
    assert train(run) == 0
    whole = losses_of(run)
    shutil.rmtree(run / "checkpoints")
    lines = (run / "events.jsonl").read_bytes().splitlines(keepends=True)
    cut = next(i for i, line in enumerate(lines) if b'"step": 3,' in line)
    (run / "events.jsonl").write_bytes(b"".join(lines[: cut + 1]) + b'{"event": "step", "st')
    assert train(run) == 0
    assert losses_of(run) == whole
    found = events_of(run)
    assert next(e for e in found if e["event"] == "resume")["step"] == 0
    assert sum(e["event"] == "eval" and e["step"] == 0 for e in found) == 2, "not evaluated twice"


def test_a_damaged_newest_checkpoint_falls_back(make_run: MakeRun) -> None:
    run = make_run()
    assert train(run) == 0
    whole = losses_of(run)
    weights = run / "checkpoints/step-00000012/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-5])
    forget_the_end(run)
    assert train(run) == 0
    assert losses_of(run) == whole
    found = events_of(run)
    assert any(e["event"] == "warning" and "damaged checkpoint" in e["text"] for e in found)
    assert next(e for e in found if e["event"] == "resume")["step"] == 10


def test_steps_can_be_added_where_the_rate_stays_what_it_was(make_run: MakeRun) -> None:
    run = make_run(train__max_steps=6, schedule__decay_steps=12)
    assert train(run) == 0
    rewrite(run, train__max_steps=12)
    assert train(run) == 0
    straight = make_run("straight", train__max_steps=12, schedule__decay_steps=12)
    assert train(straight) == 0
    assert losses_of(run) == losses_of(straight)


def test_starting_from_the_weights_of_another_run(make_run: MakeRun) -> None:
    first = make_run("first", train__max_steps=40, optim__lr=1e-2, eval__every=0)
    assert train(first) == 0
    second = make_run("second", train__init_from=str(complete(first)[0]), train__max_steps=1)
    assert train(second) == 0
    ended = History.of(events_of(first)).val["loss"][-1]
    assert History.of(events_of(second)).val["loss"][0] == pytest.approx(ended, rel=1e-6)
