from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from engine.events import EventReader, EventWriter
from engine.record import Past, Recorder


def told(run: Path) -> list[dict[str, Any]]:
    return list(EventReader(run).read())


def test_events_are_held_and_keep_their_own_times(tmp_path: Path) -> None:
    record = Recorder(tmp_path)
    for step in (1, 2, 3):
        record.add("step", step=step)
    assert told(tmp_path) == []
    assert record.flush()
    found = told(tmp_path)
    assert [e["step"] for e in found] == [1, 2, 3]
    assert found[0]["time"] <= found[2]["time"]


def test_they_are_written_within_about_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("engine.record.time.monotonic", lambda: now[0])
    record = Recorder(tmp_path)
    record.add("step", step=1)
    now[0] = 1.1
    record.add("step", step=2)
    assert [e["step"] for e in told(tmp_path)] == [1, 2]


def test_a_full_disk_keeps_them_for_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record = Recorder(tmp_path)
    record.add("step", step=1)

    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as m:
        m.setattr(os, "write", full)
        assert not record.flush()
        record.add("step", step=2)
        assert not record.flush()
    assert capsys.readouterr().err.count("No space left on device") == 1
    assert record.close()
    assert [e["step"] for e in told(tmp_path)] == [1, 2]


def test_the_past_is_what_stands_after_resumes(tmp_path: Path) -> None:
    assert not Past(tmp_path).begun
    writer = EventWriter(tmp_path)
    writer.write("start")
    for step in (10, 20):
        writer.write("step", step=step)
        writer.write("eval", step=step, split="heldout")
        writer.write("checkpoint", step=step)
    writer.write("resume", step=10)
    past = Past(tmp_path)
    assert past.begun and not past.finished and past.steps == 10
    assert past.has("eval", 10, "heldout") and past.has("checkpoint", 10)
    assert not past.has("eval", 20, "heldout") and not past.has("eval", 10, "seen")
    past.cut(5)
    assert not past.has("eval", 10, "heldout")
    writer.write("step", step=11)
    writer.write("stop", step=11, reason="finished")
    past = Past(tmp_path)
    assert past.finished and past.steps == 11
