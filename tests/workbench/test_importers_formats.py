"""Each trainer's format from a short excerpt of its shape, with its traps. The real logs that every importer has read
to their last step are named in the importers' docstrings; those beside the checkout are read here."""

from __future__ import annotations

import json
import math
import os
import struct
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workbench.errors import UserError
from workbench.plateau.diagnose import diagnose
from workbench.runs.facts import facts_of_log
from workbench.runs.history import History
from workbench.runs.importers import read as read_module
from workbench.runs.importers.read import LogReader, read_history
from workbench.runs.importers.tensorboard import masked_crc

LLMC = """\
| sequence length T     | 512                                                |
| total batch size      | 32768                                              |
| learning rate (LR)    | 5.000000e-04                                       |
| final LR fraction     | 1.000000e-01                                       |
| num_parameters        | 30044544                                           |
val loss 10.998877
step    1/40 | loss 10.997766 (+nanz)| norm 14.2000 (+nanz)| lr 2.50e-06 | 900.10 ms | -100.0% bf16 MFU | 36407 tok/s
step    2/40 | loss 10.812000 (+nanz)| norm nan (+nanz)| lr 5.00e-06 | 120.00 ms | 31.0% bf16 MFU | 273066 tok/s
val loss 10.700000
step   40/40 | loss 7.100000 (-0.50z)| norm 1.2000 (+0.10z)| lr 5.00e-05 | 119.00 ms | 31.1% bf16 MFU | 275361 tok/s
val loss 7.050000
"""
MODDED = """\
import torch
class Hyperparameters:
    batch_size : int = 4*16 # batch size, in sequences, across all devices
    sequence_length : int = 512 # sequence length, in tokens
    learning_rate : float = 0.002
    for step in range(10):
        print0(f"step:{step+1}/{args.num_iterations} train_loss:{loss.item():.4f} train_time:{t:.0f}ms")
====================================================================================================
step:0/20 val_loss:10.9000 train_time:120ms step_avg:nanms
step:1/20 train_loss:10.8900 train_time:4000ms step_avg:nanms
step:2/20 train_loss:9.4000 train_time:4200ms step_avg:200.10ms
step:20/20 train_loss:6.1000 train_time:8000ms step_avg:201.00ms
step:20/20 val_loss:6.0500 train_time:8001ms step_avg:201.00ms
"""
MODDED_NEW = """\
step:0/9 val_loss:10.82584 val_ema_loss:10.9 train_time:0.001s step_avg:nanms
step:1/9 train_time:76ms step_avg:75.79ms
step:2/9 train_time:99ms step_avg:49.31ms
step:9/9 val_loss:4.5 val_avg_loss:4.6 train_time:0.7s step_avg:75.00ms extrap:none
"""
BUILD_LOG = (
    "0 val 10.9500\n0 hella 0.2489\n0 train 10.953100\n1 train 10.900000\n2 val 10.8000\n2 hella 0.2500\n2 train nan\n"
)
BUILD_OUT = """\
total desired batch size: 65536
num decayed parameter tensors: 50, with 1,000,000 parameters
num non-decayed parameter tensors: 98, with 2,000 parameters
validation loss: 10.9500
HellaSwag accuracy: 2500/10042=0.2490
step     0 | loss: 10.953100 | lr 1.0000e-06 | norm: 15.1000 | dt: 20000.00ms | tok/sec: 3276.80
step     1 | loss: 10.900000 | lr 2.0000e-06 | norm: 14.0000 | dt: 400.00ms | tok/sec: 163840.00
validation loss: 10.8000
step     2 | loss: 10.810000 | lr 3.0000e-06 | norm: 13.0000 | dt: 400.00ms | tok/sec: 163840.00
"""
NANOCHAT = """\
Overriding: depth = 4
Number of parameters: 36,700,160
Total batch size 524,288 => gradient accumulation steps: 8
Step 00000 | Validation bpb: 3.3000
step 00000/00003 (0.00%) | loss: 11.090355 | lrm: 1.00 | dt: 9643.02ms | tok/sec: 54,000 | mfu: 0.58 | total time: 0.00m
^[[B^[[Bstep 00001/00003 (33.3%) | loss: 10.100000 | grad norm: 0.7670 | lrm: 1.00 | dt: 630.00ms | tok/sec: 820,214
step 00002/00003 (66.7%) | loss: 9.200000 | lrm: 0.50 | dt: 631.00ms | tok/sec: 820,300 | mfu: 36.20 | total time: 0.02m
Step 00003 | Validation bpb: 2.1000
Step 00000 | Validation bpb: 1.9000
step 00001 (0.28%) | loss: 1.274502 | lrm: 1.00 | dt: 642.65ms | tok/sec: 36,554 | mfu: 1.61 | total time: 0.00m
Step 00150 | Validation bpb: 1.8000
Step 00000 | Validation loss: 1.009291
Step 00000/00651 | Training loss: 0.843050| lrm: 1.000000| num_tokens: 15,432
"""
LITGPT = """\
Total parameters: 14,067,712
 'train': TrainArgs(save_interval=1000, global_batch_size=64, lr_warmup_steps=10, max_seq_length=512)
Epoch 1 | iter 8 step 1 | loss train: 10.900, val: n/a | iter time: 412.20 ms (step) remaining time: 1 day, 0:01:54
Epoch 1 | iter 16 step 2 | loss train: 10.100, val: n/a | iter time: 112.20 ms (step) remaining time: 0:01:54
Epoch 1 | iter 24 step 3 | loss train: 9.800, val: 9.950 | iter time: 112.20 ms (step) remaining time: 0:01:50
Epoch 2 | iter 32 step 4 | loss train: 9.500, val: 9.950 | iter time: 112.20 ms (step) remaining time: 0:01:40
"""
LITGPT_OLD = """\
iter 8 | step 1: loss 10.9000, iter time: 263.85 ms (optimizer.step)
iter 12 | step 1: loss 10.8000, iter time: 89.96 ms
iter 16: val loss 10.5000, val time: 3778.02 ms
iter 16 | step 2: loss 10.4000, iter time: 89.96 ms (optimizer.step)
iter 24 step 3: loss 10.1000, LR: 0.000300, iter time: 95.83ms
"""
TITAN = "".join(
    f"\x1b[32m[rank{rank}]:\x1b[0m[titan] 2025-03-12 11:10:2{step} - root - INFO - \x1b[31mstep: {step:2}  "
    f"\x1b[32mloss: {9 - step:8.4f}  \x1b[38;2;180;60;0mgrad_norm:  1.2{rank}00  \x1b[36mmemory:  1.41GiB(1.79%)  "
    f"\x1b[34mtps: 193,831  \x1b[36mtflops: 18.36  \x1b[35mmfu: 1.86%\x1b[39m\n"
    for step, rank in [(1, 0), (1, 1), (2, 1), (2, 0), (3, 0), (4, 0), (3, 1), (4, 1)]
)
MEGATRON = """\
3: ------------------------ arguments ------------------------
3:   seq_length ...................................... 512
3:   global_batch_size ............................... 64
3:   rampup_batch_size ............................... None
3:   lr .............................................. 0.0003
3:   lr_decay_style .................................. cosine
3:   clip_grad ....................................... 1.0
7:  iteration      100/    1000 | consumed samples:         6400 | elapsed time per iteration (ms): 322.5 | \
learning rate: 1.500E-04 | global batch size:    64 | lm loss: 9.980914E+00 | loss scale: 1024.0 | grad norm: 2.586 |
7: valid loss at iteration 100 | lm loss value: 9.913764E+00 | lm loss PPL: 2.020659E+04 |
7:  iteration      200/    1000 | consumed samples:        12800 | elapsed time per iteration (ms): 322.5 | \
learning rate: 3.000E-04 | global batch size:    64 | loss scale: 512.0 | grad norm: nan | number of nan iterations: 1 |
7: validation loss at iteration 200 | lm loss value: 9.5E+00 | lm loss PPL: 1.3E+04 |
"""


def read(folder: Path, text: str | bytes, name: str = "some.log") -> tuple[History, LogReader]:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_history(path)


def points(history: History, split: str = "heldout") -> list[tuple[float, float]]:
    columns = history.evals[split]
    return list(zip(columns["step"].tolist(), columns["loss"].tolist(), strict=True))


def test_llmc_output(tmp_path: Path) -> None:
    history, reader = read(tmp_path, LLMC)
    assert reader.format == "llm.c output" and list(history.steps["step"]) == [1, 2, 40]
    assert points(history) == [(0, 10.998877), (2, 10.7), (40, 7.05)]
    assert math.isnan(history.steps["mfu"][0]) and history.steps["mfu"][1] == pytest.approx(0.31)
    facts = facts_of_log(reader.facts, history)
    assert facts.number("tokens_per_step") == 32768 and facts.number("parameters") == 30_044_544
    assert facts.number("min_lr") == pytest.approx(5e-5) and facts.number("tokens_seen") == 40 * 32768
    assert history.max_steps == 40 and history.stop is not None


def test_modded_nanogpt_of_two_generations(tmp_path: Path) -> None:
    history, reader = read(tmp_path, MODDED)
    assert reader.format == "modded-nanogpt" and list(history.steps["step"]) == [1, 2, 20]
    assert points(history) == [(0, 10.9), (20, 6.05)] and math.isnan(history.steps["step_time"][0])
    assert reader.facts["tokens_per_step"].value == 64 * 512 and reader.facts["lr"].value == 0.002
    history, _ = read(tmp_path, MODDED_NEW)
    assert points(history) == [(0, 10.82584), (9, 4.5)] and history.max_steps == 9
    assert list(history.steps["step"]) == [1, 2] and history.stop is not None


def test_a_script_alone_is_no_log(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no known log format"):
        read(tmp_path, "\n".join(MODDED.splitlines()[:8]) * 50)


def test_build_nanogpt_of_both_forms(tmp_path: Path) -> None:
    for text in (BUILD_LOG, BUILD_OUT):
        history, reader = read(tmp_path, text)
        assert reader.format == "build-nanogpt"
        assert points(history) == [(0, 10.95), (2, 10.8)] and list(history.steps["step"]) == [0, 1, 2]
    assert reader.facts["parameters"].value == 1_002_000 and reader.facts["tokens_per_step"].value == 65536
    assert history.steps.last("lr") == 3e-6


def test_nanochat_keeps_its_first_stage(tmp_path: Path) -> None:
    history, reader = read(tmp_path, NANOCHAT.replace("\n", "\r\n"))
    assert reader.format == "nanochat" and list(history.steps["loss"]) == [11.090355, 10.1, 9.2]
    assert points(history, "bits_per_byte") == [(0, 3.3), (3, 2.1)] and "heldout" not in history.evals
    assert sum("another stage" in w["text"] for w in history.warnings) == 2 and not history.resumes
    assert reader.facts["parameters"].value == 36_700_160 and history.max_steps == 3
    assert history.steps.last("lr") == 0.5 and "lr" not in reader.facts  # logged as a share of an unknown peak


def test_litgpt_of_three_generations(tmp_path: Path) -> None:
    history, reader = read(tmp_path, LITGPT)
    assert reader.format == "litgpt" and list(history.steps["step"]) == [1, 2, 3, 4]
    assert points(history) == [(3, 9.95)]  # repeated by each line, counted once
    assert reader.facts["tokens_per_step"].value == 64 * 512 and reader.facts["warmup_steps"].value == 10
    history, _ = read(tmp_path, LITGPT_OLD)
    assert points(history) == [(1, 10.5)] and list(history.steps["loss"]) == [10.8, 10.4, 10.1]
    assert history.steps.last("lr") == 3e-4


def test_torchtitan_counts_one_rank(tmp_path: Path) -> None:
    history, reader = read(tmp_path, TITAN)
    assert reader.format == "torchtitan" and list(history.steps["step"]) == [1, 2, 3, 4] and not history.resumes
    assert list(history.steps["grad_norm"]) == [1.2] * 4
    without = TITAN.replace("[rank0]:", "").replace("[rank1]:", "")  # colours only: copies of a line are known
    history, _ = read(tmp_path, without)
    assert list(history.steps["step"]) == [1, 2, 3, 4] and not history.resumes


def test_megatron_with_rank_labels(tmp_path: Path) -> None:
    history, reader = read(tmp_path, MEGATRON)
    assert reader.format == "Megatron-LM" and points(history) == [(100, 9.913764), (200, 9.5)]
    assert history.steps.last("tokens") == 12800 * 512 and math.isnan(history.steps.last("loss"))
    facts = facts_of_log(reader.facts, history)
    assert facts.number("tokens_per_step") == 64 * 512 and facts.text("schedule") == "cosine"
    assert facts.number("max_steps") == 1000 and facts.number("step_seconds") == pytest.approx(0.3225)


@pytest.mark.parametrize("indent", [2, None])
def test_trainer_state(tmp_path: Path, indent: int | None) -> None:
    rows: list[dict[str, object]] = []
    for step in range(10, 3001, 10):
        rows.append({"epoch": step / 1000, "grad_norm": 1.5, "learning_rate": 1e-4, "loss": 3 + 5 / step, "step": step})
        if step % 1000 == 0:
            rows.append({"epoch": step / 1000, "eval_loss": 3.1, "eval_runtime": 2.0, "step": step})
    rows.append({"epoch": 3.0, "step": 3000, "total_flos": 1e18, "train_loss": 3.4, "train_runtime": 100.0})
    state: dict[str, object] = {"best_metric": None, "log_history": rows, "max_steps": 3000, "num_train_epochs": 3,
             "stateful_callbacks": {"a": {"args": {}}}, "train_batch_size": 8}  # fmt: skip
    history, reader = read(tmp_path, json.dumps(state, indent=indent), "anything")
    assert "trainer_state" in reader.format and len(history.steps) == 300
    assert points(history) == [(1000, 3.1), (2000, 3.1), (3000, 3.1)]
    assert history.steps.last("loss") == pytest.approx(3 + 5 / 3000)  # not the mean of the whole run
    facts = facts_of_log(reader.facts, history)
    assert facts.number("epochs") == 3 and facts.number("max_steps") == 3000 and history.stop is not None


def record(step: int, tag: str, value: float, tensor: bool = False, padding: int = 0) -> bytes:
    """One TFRecord of a scalar, as TensorFlow and PyTorch write it."""

    def block(number: int, data: bytes) -> bytes:
        return varint(number << 3 | 2) + varint(len(data)) + data

    def varint(n: int) -> bytes:
        out = b""
        while n > 0x7F:
            out, n = out + bytes([n & 0x7F | 0x80]), n >> 7
        return out + bytes([n])

    inner = block(1, tag.encode())
    if tensor:
        inner += block(8, b"\x08\x01" + block(4, struct.pack("<f", value)))
    else:
        inner += b"\x15" + struct.pack("<f", value)
    event = b"\x09" + struct.pack("<d", 1.7e9 + step) + b"\x10" + varint(step) + block(5, block(1, inner))
    event += block(99, b"x" * padding) if padding else b""
    size = struct.pack("<Q", len(event))
    return size + struct.pack("<I", masked_crc(size)) + event + struct.pack("<I", masked_crc(event))


def test_tensorboard_events(tmp_path: Path) -> None:
    assert masked_crc(b"123456789") == ((0xE3069283 >> 15 | 0xE3069283 << 17) + 0xA282EAD8) & 0xFFFFFFFF
    parts = [record(0, "text/notes", 0.0, padding=200_000)]
    for step in (10, 20, 30):
        parts += [
            record(step, "train/loss", 4 - step / 10, tensor=step == 20),
            record(step, "train/learning_rate", 1e-3),
        ]
    parts.append(record(30, "eval/loss", 1.5))
    whole = b"".join(parts)
    history, reader = read(tmp_path, whole, "x")
    assert reader.format == "TensorBoard event file" and list(history.steps["loss"]) == [3, 2, 1]
    assert list(history.steps["lr"]) == pytest.approx([1e-3] * 3) and points(history) == [(30, 1.5)]
    history, _ = read(tmp_path, whole[:-9], "torn")
    assert history.step == 30 and not history.val and not history.warnings
    spoilt = whole[: -len(parts[-1])] + b"\0" * 40
    history, _ = read(tmp_path, spoilt, "spoilt")
    assert history.step == 30 and "checksum" in history.warnings[0]["text"]


def test_curves_of_add_scalars_are_told_by_their_folders(tmp_path: Path) -> None:
    whole = b"".join(record(step, "loss", 4 - step / 100) for step in (10, 20, 30))
    for folder, held in (("loss_train", False), ("loss_val", True), ("val_loss_run", False), ("loss_other", False)):
        (tmp_path / folder).mkdir()
        history, _ = read(tmp_path / folder, whole, "events.out.tfevents.1.host")
        assert (len(history.val), len(history.steps)) == ((3, 0) if held else (0, 3))


@pytest.mark.parametrize(
    ("name", "format_", "step", "loss"),
    [("modded_nanogpt_2024-10-10.txt", "modded-nanogpt", 6200, 3.2785),
     ("megatron_noisy.out", "Megatron-LM", 4300, 8.848313),
     ("nanochat_speedrun.log", "nanochat", 21400, 2.719005)],
)  # fmt: skip
def test_real_logs_to_their_last_step(shared: Path, name: str, format_: str, step: int, loss: float) -> None:
    history, reader = read_history(shared / "logs" / name)
    assert (reader.format, history.step) == (format_, step)
    assert (history.val.last("loss") if len(history.val) else history.steps.last("loss")) == loss
    if name.startswith("megatron"):
        assert diagnose(history, facts_of_log(reader.facts, history)).causes


ALL = [LLMC, MODDED, MODDED_NEW, BUILD_LOG, BUILD_OUT, NANOCHAT, LITGPT, LITGPT_OLD, TITAN, MEGATRON]
LINES = sorted({line for text in ALL for line in text.splitlines()})


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from([*LINES, "nan", "\x00", "[" * 500, '{"step": 1e999, "loss": NaN}']), max_size=40),
       st.sampled_from(["\n", "\r", "\r\n"]), st.integers(0, 30))  # fmt: skip
def test_mixed_and_cut_lines_give_ordered_columns(tmp_path: Path, lines: list[str], end: str, cut: int) -> None:
    try:
        history, reader = read(tmp_path, end.join(lines)[: -cut or None])
    except UserError as error:
        assert "\n" not in str(error).replace(str(tmp_path), "")
        return
    for columns in (history.steps, *history.evals.values()):
        assert list(columns["step"]) == sorted(set(columns["step"]))
    assert all(fact is None or fact.source for fact in facts_of_log(reader.facts, history).values())


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 60), st.binary(max_size=30)), max_size=6))
def test_wild_event_files(tmp_path: Path, damage: list[tuple[int, bytes]]) -> None:
    data = bytearray(b"".join(record(s, "loss", s / 3) for s in range(1, 20)))
    for at, junk in damage:
        data[12 + at : 12 + at + len(junk)] = junk
    history, _ = read(tmp_path, bytes(data))
    assert history.step <= 19


def test_a_sparse_file_of_one_endless_line_costs_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "endless.log"
    with path.open("wb") as file:
        file.write(LLMC.encode() * 400)
        file.seek(1 << 31, os.SEEK_CUR)
        file.write(b"\nstep   41/41 | loss 7.000000 (-0.50z)| norm 1.2 (+0.10z)| lr 5.00e-05 | 119.00 ms\n")
    tracemalloc.start()
    history, _ = read_history(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert history.step == 41 and peak < 40e6


def test_a_log_of_very_many_steps_is_thinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_module, "DENSE", 1000)
    text = "".join(f"{s} train 3.5\n" + (f"{s} val 3.4\n" if s % 1000 == 0 else "") for s in range(40_000))
    history, _ = read(tmp_path, text)
    assert len(history.steps) < 6500 and history.step >= 39_900 and len(history.val) == 40
