"""``system`` and ``sample`` events."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from engine import system
from engine.__main__ import main
from engine.record import Recorder
from tests.engine.conftest import events_of, losses_of


def test_a_line_of_nvidia_smi() -> None:
    assert system.parse("87, 412.35, 61, 22500\n") == {
        "gpu_utilisation": 87.0, "gpu_power": 412.35, "gpu_temperature": 61.0, "memory_used": 22500 << 20,
    }  # fmt: skip
    assert system.parse("87, [N/A], 61, 1")["gpu_power"] is None
    assert set(system.parse("").values()) == {None}


def test_the_card_is_asked_by_its_uuid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text('#!/bin/sh\ncase "$1" in --id=GPU-1) echo "50, 100, 40, 2";; *) exit 6;; esac\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    known = system.Watch(Recorder(tmp_path), 0.0, lambda: 7, "GPU-1").look()
    assert known["gpu_utilisation"] == 50 and known["memory_used"] == 2 << 20 and known["memory_host"] == 7
    assert known["cpu_percent"] >= 0
    other = system.Watch(Recorder(tmp_path), 0.0, lambda: 7, "GPU-2").look()
    assert other["gpu_utilisation"] is None and other["memory_used"] is None


def test_it_is_recorded_off_the_loop_and_ends_with_it(tmp_path: Path) -> None:
    record = Recorder(tmp_path)
    began = time.monotonic()
    with system.Watch(record, 0.01, lambda: 7, None):
        while time.monotonic() - began < 30:
            record.flush()
            if len(events_of(tmp_path)) >= 3:
                break
    record.flush()
    found = events_of(tmp_path)
    assert len(found) >= 3 and {e["event"] for e in found} == {"system"}
    assert found[0]["memory_used"] == 7 and found[0]["gpu_power"] is None
    record.add("stop")
    record.close()
    assert events_of(tmp_path)[-1]["event"] == "stop"


def test_samples_come_with_evaluations_and_change_nothing(make_run: Callable[..., Path]) -> None:
    changes = {"model__dropout": 0.2, "train__checkpoint_every": 4, "eval__sample_tokens": 6}
    plain = make_run("plain", eval__sample_every=0, **changes)
    run = make_run("run", eval__sample_every=2, eval__prompts=["", "the loss"], **changes)
    assert main(["train", str(plain)]) == main(["train", str(run)]) == 0
    assert losses_of(plain) == losses_of(run)
    assert not [e for e in events_of(plain) if e["event"] == "sample"]
    found = [e for e in events_of(run) if e["event"] == "sample"]
    assert [(e["step"], e["index"], e["prompt"]) for e in found] == [
        (8, 0, ""), (8, 1, "the loss"), (12, 0, ""), (12, 1, "the loss"),
    ]  # fmt: skip
    assert all(isinstance(e["text"], str) for e in found) and any(e["text"] for e in found)
    assert [e["event"] for e in events_of(run)].count("system") >= 1
