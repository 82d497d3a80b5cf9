"""Whole runs of ``python -P -m engine train``: what they write, how they stop, resume and fail."""

from __future__ import annotations

import itertools
import json
import math
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine import config, events, process
from engine.__main__ import main
from engine.checkpoint import complete
from engine.schedule import learning_rate
from engine.train import Trainer
from tests.engine.conftest import data_of, events_of, losses_of, start, texts_of, write_shard
from workbench.runs.history import History

MakeRun = Callable[..., Path]


def train(run_dir: Path) -> int:
    """The engine, in this process."""
    return main(["train", str(run_dir)])


def kinds(run_dir: Path) -> list[str]:
    return [e["event"] for e in events_of(run_dir)]


def wait_for(condition: Callable[[], Any], of: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert of.poll() is None, of.communicate()
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.03)


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


def forget_the_end(run: Path) -> None:
    """As if the run had been killed before it could say that it had finished."""
    lines = (run / "events.jsonl").read_bytes().splitlines(keepends=True)
    assert b'"stop"' in lines[-1]
    (run / "events.jsonl").write_bytes(b"".join(lines[:-1]))


def test_steps_can_be_added_where_the_rate_stays_what_it_was(make_run: MakeRun) -> None:
    run = make_run(train__max_steps=6, schedule__decay_steps=12)
    assert train(run) == 0
    rewrite(run, train__max_steps=12)
    assert train(run) == 0
    straight = make_run("straight", train__max_steps=12, schedule__decay_steps=12)
    assert train(straight) == 0
    assert losses_of(run) == losses_of(straight)


def rewrite(run: Path, **changes: Any) -> None:
    path = run / "config.toml"
    overrides = {key.replace("__", "."): value for key, value in changes.items()}
    path.write_text(config.resolve(path, overrides=overrides).to_toml())


def test_starting_from_the_weights_of_another_run(make_run: MakeRun) -> None:
    first = make_run("first", train__max_steps=40, optim__lr=1e-2, eval__every=0)
    assert train(first) == 0
    second = make_run("second", train__init_from=str(complete(first)[0]), train__max_steps=1)
    assert train(second) == 0
    ended = History.of(events_of(first)).val["loss"][-1]
    assert History.of(events_of(second)).val["loss"][0] == pytest.approx(ended, rel=1e-6)


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
