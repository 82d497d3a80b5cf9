"""What must hold of a run whatever befell it: nothing lost, nothing told twice, the losses of an unbroken run."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from engine.checkpoint import Checkpoint, complete, newest
from engine.events import FILE_NAME
from tests.engine.conftest import events_of, losses_of


def standing(run: Path) -> Counter[tuple[Any, ...]]:
    """Steps, evaluations and checkpoints that stand once every resume has replaced what lay behind it."""
    found: list[tuple[Any, ...]] = []
    for e in events_of(run):
        if e["event"] == "resume":
            found = [key for key in found if key[1] <= e["step"]]
        elif e["event"] in ("step", "eval", "checkpoint"):
            found.append((e["event"], e["step"], e.get("split")))
    return Counter(found)


def same(run: Path, straight: Path) -> None:
    """The broken run tells, once each, what the unbroken one does, bit for bit."""
    assert losses_of(run) == losses_of(straight)
    told, wanted = standing(run), standing(straight)
    for e in events_of(run):  # a stop that was asked for writes a checkpoint of its own, wherever it comes
        if e["event"] == "stop" and e["reason"] == "stopped":
            told.subtract([key] if (key := ("checkpoint", e["step"], None)) not in wanted else [])
    told = +told
    assert told == wanted, f"more than the unbroken run: {told - wanted}, less: {wanted - told}"
    assert set(told.values()) == {1}, [key for key, count in told.items() if count > 1]
    evals = [
        {(e["step"], e["split"]): (e["loss"], e["se"]) for e in events_of(r) if e["event"] == "eval"}
        for r in (run, straight)
    ]
    assert evals[0] == evals[1]
    assert [p.name for p in complete(run)] == [p.name for p in complete(straight)]
    whole(run)
    assert not list((run / "checkpoints").glob(".*"))


def whole(run: Path) -> None:
    """What has a checkpoint's name is whole, at any moment."""
    for found in newest(run):
        assert isinstance(found, Checkpoint), found


def said(run: Path) -> bytes:
    """The whole lines of events so far."""
    try:
        content = (run / FILE_NAME).read_bytes()
    except FileNotFoundError:
        return b""
    return content[: content.rfind(b"\n") + 1]
