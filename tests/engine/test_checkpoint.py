from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from engine import checkpoint
from engine.checkpoint import Checkpoint, CheckpointError


def save(run: Path, step: int, keep: int = 0) -> checkpoint.Saved:
    model = {"wte.weight": torch.arange(12.0).view(3, 4) + step}
    return checkpoint.save(run, step, model, {"exp_avg.wte.weight": torch.ones(3, 4)}, {"position": step * 10}, keep)


def test_round_trip(tmp_path: Path) -> None:
    saved = save(tmp_path, 7)
    assert saved.path == "checkpoints/step-00000007" and saved.bytes > 96
    found = checkpoint.load(tmp_path / saved.path)
    assert found.step == 7 and found.state["position"] == 70
    assert torch.equal(found.model["wte.weight"], torch.arange(12.0).view(3, 4) + 7)
    assert torch.equal(found.optimizer["exp_avg.wte.weight"], torch.ones(3, 4))
    assert {p.name for p in (tmp_path / saved.path).iterdir()} == {
        "model.safetensors", "optimizer.safetensors", "state.json",
    }  # fmt: skip


def test_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (5, 10, 15, 100_000_000):
        save(tmp_path, step, keep=2)
    assert [checkpoint.step_of(p) for p in checkpoint.complete(tmp_path)] == [100_000_000, 15]
    assert not list((tmp_path / "checkpoints").glob(".*"))


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("harm", ["cut", "flip", "remove", "empty"])
def test_a_damaged_one_is_told_and_the_one_before_found(tmp_path: Path, name: str, harm: str) -> None:
    save(tmp_path, 5)
    path = tmp_path / save(tmp_path, 10).path / name
    data = bytearray(path.read_bytes())
    if harm == "cut":
        path.write_bytes(data[:-3])
    elif harm == "flip":
        data[len(data) // 2 if name != "state.json" else 0] ^= 1
        path.write_bytes(data)
    elif harm == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()
    bad, good = checkpoint.newest(tmp_path)
    assert isinstance(bad, CheckpointError) and "step-00000010" in str(bad) and "\n" not in str(bad)
    assert isinstance(good, Checkpoint) and good.step == 5


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 5, keep=1)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"step 10 could not be written: No space left on device"):
        save(tmp_path, 10, keep=1)
    monkeypatch.undo()
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-00000005"]
    assert checkpoint.load(tmp_path / "checkpoints/step-00000005").step == 5


def test_a_file_limit_in_the_middle_of_the_weights(tmp_path: Path) -> None:
    """A real refusal by the kernel, inside safetensors' own writer."""
    import resource
    import signal

    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limits[1]))
    try:
        with pytest.raises(CheckpointError, match="step 3 could not be written"):
            checkpoint.save(tmp_path, 3, {"w": torch.zeros(1 << 16)}, {}, {}, 0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_half_written_ones_are_not_seen_and_cleaned_away(tmp_path: Path) -> None:
    save(tmp_path, 5)
    half = tmp_path / "checkpoints/.step-00000010"
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"half")
    assert [c.step for c in checkpoint.newest(tmp_path) if isinstance(c, Checkpoint)] == [5]
    checkpoint.clean(tmp_path)
    assert not half.exists()


def test_a_file_in_the_way_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / save(tmp_path, 5).path
    (path / "state.json").write_text("{}")
    save(tmp_path, 5)
    assert checkpoint.load(path).step == 5


def test_another_format_is_told(tmp_path: Path) -> None:
    path = tmp_path / save(tmp_path, 5).path / "state.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    with pytest.raises(CheckpointError, match="another format"):
        checkpoint.load(path.parent)


def test_weights_alone(tmp_path: Path) -> None:
    path = tmp_path / save(tmp_path, 5).path
    assert checkpoint.load_weights(path).keys() == checkpoint.load_weights(path / "model.safetensors").keys()
    with pytest.raises(CheckpointError, match="no such file"):
        checkpoint.load_weights(tmp_path)
