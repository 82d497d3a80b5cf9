"""Runs of ``python -P -m engine train`` that cannot go on: one line on stderr, the same in the ``stop`` event."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from engine import events, process
from engine.checkpoint import complete
from engine.train import Trainer
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


def fails(run: Path, capfd: pytest.CaptureFixture[str], *texts: str) -> str:
    """The run fails in one line on stderr, which the stop event repeats."""
    assert train(run) == 1
    err = capfd.readouterr().err
    assert err.count("\n") == 1, err
    assert all(text in err for text in texts), err
    stop = events_of(run)[-1]
    assert stop["event"] == "stop" and stop["reason"] == "failed" and stop["text"] == err.strip()
    return err


@pytest.mark.parametrize(
    ("changes", "texts"),
    [
        ({"data__paths": ["/nowhere/x.parquet"]}, ["/nowhere/x.parquet", "no such file"]),
        ({"data__paths": []}, ["data.paths is empty"]),
        ({"data__column": "body"}, ["a.parquet", "body"]),
        ({"model__vocab_size": 50000}, ["model.vocab_size 50000", "50257", "model.vocab_size=50304"]),
        ({"train__device": "cuda:77"}, ["cuda:77", "train.device=auto"]),
        ({"train__device": "abacus"}, ["abacus"]),
        ({"train__init_from": "/nowhere"}, ["/nowhere"]),
        ({"model__n_embd": 1 << 20, "model__n_layer": 96}, ["GiB", "smaller model"]),
        ({"train__micro_batch": 1 << 24}, ["GiB", "train.micro_batch"]),
    ],
)
def test_what_cannot_run_is_said_in_one_line(
    make_run: MakeRun, capfd: pytest.CaptureFixture[str], changes: dict[str, Any], texts: list[str]
) -> None:
    fails(make_run(**changes), capfd, *texts)


def test_bad_shards_among_good_ones_are_named_and_left_out(make_run: MakeRun, shard: Path, tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    shutil.copy(shard, tmp_path / "shards/a.parquet")
    (tmp_path / "shards/b.parquet").write_bytes(shard.read_bytes()[:-100])
    run = make_run(data__paths=[str(tmp_path / "shards")], train__max_steps=1)
    assert train(run) == 0
    assert "b.parquet" in data_of(run)["errors"][0]["file"]
    assert any(e["event"] == "warning" and "b.parquet" in e["text"] for e in events_of(run))


@pytest.mark.parametrize("harm", ["changed", "gone", "more"])
def test_other_shards_than_the_run_began_with(
    make_run: MakeRun, tmp_path: Path, capfd: pytest.CaptureFixture[str], harm: str
) -> None:
    folder = tmp_path / "shards"
    folder.mkdir()
    write_shard(folder / "a.parquet", texts_of(30, 1))
    write_shard(folder / "b.parquet", texts_of(30, 2))
    run = make_run(data__paths=[str(folder)], train__max_steps=2)
    assert train(run) == 0
    rewrite(run, train__max_steps=4, schedule__decay_steps=2)
    capfd.readouterr()
    if harm == "changed":
        write_shard(folder / "b.parquet", texts_of(30, 3))
    elif harm == "gone":
        (folder / "b.parquet").unlink()
    else:
        write_shard(folder / "c.parquet", texts_of(30, 3))
    fails(run, capfd, "c.parquet" if harm == "more" else "b.parquet", "start a new run")


def test_a_checkpoint_of_another_configuration(make_run: MakeRun, capfd: pytest.CaptureFixture[str]) -> None:
    run = make_run()
    assert train(run) == 0
    forget_the_end(run)
    rewrite(run, optim__lr=0.5)
    capfd.readouterr()
    fails(run, capfd, "optim.lr was 0.003, is 0.5", "step-00000012")
    rewrite(run, optim__lr=3e-3, model__n_embd=32)
    capfd.readouterr()
    fails(run, capfd, "model.n_embd was 16, is 32", "step-00000012")
    rewrite(run, model__n_embd=16, model__n_layer=2)
    capfd.readouterr()
    fails(run, capfd, "model.n_layer was 1, is 2", "step-00000012")
    for changes, says in (({"model__n_embd": 32}, "has shape"), ({"model__n_layer": 2}, "is in the model alone")):
        other = make_run(f"from {says}", train__init_from=str(complete(run)[0]), **changes)
        capfd.readouterr()
        fails(other, capfd, says, "train with the model section")


def test_a_broken_configuration(make_run: MakeRun, capfd: pytest.CaptureFixture[str]) -> None:
    run = make_run()
    (run / "config.toml").write_text("[optim]\nlearning_rate = 3")
    fails(run, capfd, "learning_rate", "config.toml")


def test_an_fp8_head_needs_its_card(make_run: MakeRun, capfd: pytest.CaptureFixture[str]) -> None:
    fails(make_run(train__fp8_head=True), capfd, "compute capability 8.9", "set train.fp8_head=false")


def test_no_run_directory(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert train(tmp_path / "none") == 1
    assert "no such run directory" in capfd.readouterr().err


def test_one_process_a_run(make_run: MakeRun, capfd: pytest.CaptureFixture[str]) -> None:
    run = make_run(train__max_steps=100_000, eval__every=0, train__checkpoint_every=0)
    engine = start(run)
    try:
        wait_for(lambda: "step" in kinds(run) if (run / "events.jsonl").exists() else False, engine)
        before = process.read(run)
        assert train(run) == 1
        assert "runs it already" in capfd.readouterr().err
        assert process.read(run) == before, "the other's identity stays"
        engine.send_signal(signal.SIGHUP)  # a closed terminal is nothing
        time.sleep(0.2)
        assert engine.poll() is None
    finally:
        engine.send_signal(signal.SIGINT)
        engine.communicate(timeout=60)
    assert engine.returncode == 0
    found = events_of(run)
    assert [e["event"] for e in found].count("stop") == 1 and found[-1]["reason"] == "stopped"
    assert complete(run)[0].name == f"step-{found[-1]['step']:08d}"


def test_a_run_of_another_host_is_left_alone_while_it_speaks(make_run: MakeRun) -> None:
    run = make_run(train__max_steps=1)
    (run / "process.json").write_text(json.dumps({"pid": 1, "start_time": "x", "host": "elsewhere"}))
    writer = events.EventWriter(run)
    writer.write("start")
    assert train(run) == 1
    old = time.time() - 1000
    os.utime(run / "events.jsonl", (old, old))
    assert train(run) == 0


def test_steps_that_are_not_finite_are_skipped_and_then_end_the_run(
    make_run: MakeRun, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bad: set[int] = {3}
    weights: dict[int, torch.Tensor] = {}
    original = Trainer._train

    def poisoned(self: Trainer, step: int) -> Any:
        weights[step] = self.model.wte.weight.detach().clone()
        call = self.call
        if step in bad:
            self.call = lambda *a: call(*a) * math.nan
        try:
            return original(self, step)
        finally:
            self.call = call

    monkeypatch.setattr(Trainer, "_train", poisoned)
    one = make_run("one")
    assert train(one) == 0
    assert torch.equal(weights[3], weights[4]) and not torch.equal(weights[4], weights[5])
    assert any(e["event"] == "warning" and "step 3: the loss is not finite" in e["text"] for e in events_of(one))
    assert math.isnan(History.of(events_of(one)).steps["loss"][2])

    bad.update(range(6, 12))
    capfd.readouterr()
    err = fails(make_run("many"), capfd, "5 steps in a row (up to step 10)", "step-00000005", "optim.lr")
    assert "step-00000010" not in err
    assert torch.isfinite(weights[10]).all()


def test_a_full_disk_is_a_warning_until_the_last_checkpoint(
    make_run: MakeRun, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine import checkpoint

    original = checkpoint.save

    def full(run: Path, step: int, *rest: Any) -> checkpoint.Saved:
        if step > 5:
            raise checkpoint.CheckpointError(f"checkpoint of step {step} could not be written: No space left on device")
        return original(run, step, *rest)

    monkeypatch.setattr(checkpoint, "save", full)
    run = make_run()
    fails(run, capfd, "No space left on device", "step-00000005 stays the newest")
    assert any(e["event"] == "warning" and "step 10" in e["text"] for e in events_of(run))
    monkeypatch.undo()
    assert train(run) == 0
    assert losses_of(run).keys() == set(range(1, 13))


def test_out_of_memory_says_what_to_change(
    make_run: MakeRun, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(self: Trainer, step: int) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB\nmore lines")

    monkeypatch.setattr(Trainer, "_train", exhausted)
    fails(make_run(train__micro_batch=6), capfd, "out of memory", "train.micro_batch=3 and train.grad_accum=2")


def test_out_of_memory_in_the_middle_is_mended_as_it_says(
    make_run: MakeRun, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Trainer._train

    def exhausted(self: Trainer, step: int) -> Any:
        if step > 7 and self.config.train.micro_batch > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return original(self, step)

    whole, run = (make_run(name, train__micro_batch=6) for name in ("whole", "run"))
    assert train(whole) == 0
    monkeypatch.setattr(Trainer, "_train", exhausted)
    fails(run, capfd, "train.micro_batch=3 and train.grad_accum=2")
    rewrite(run, train__micro_batch=2, train__grad_accum=3)
    assert train(run) == 0
    assert losses_of(run) == pytest.approx(losses_of(whole), rel=1e-5)


def test_what_nobody_foresaw_is_one_line_and_a_trace(
    make_run: MakeRun, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trainer, "build", lambda self: 1 / 0)
    run = make_run()
    assert train(run) == 1
    assert "Traceback" in capfd.readouterr().err
    assert "internal error: ZeroDivisionError" in events_of(run)[-1]["text"]
