"""An imported log on the Run screen: explained as any run is, and followed while it grows."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from tests.workbench.conftest import Wait
from tests.workbench.test_plateau import SEED, explain
from workbench.app import GptbenchApp
from workbench.commands import why
from workbench.widgets.plateau_pane import PlateauPane, lines, verdict_line
from workbench.widgets.run_header import RunHeader


def imported(log: Path, root: Path, capsys: pytest.CaptureFixture[str], *facts: str) -> Path:
    known = {"json": True, "fact": list(facts), "name": None, "runs": str(root), "target": str(log)}
    assert why.import_log(argparse.Namespace(**known)) == 0
    return Path(json.loads(capsys.readouterr().out)["run"])


def rows(first: int, last: int) -> str:
    return "".join(f"{s},{3 + 40 / (s + 10):.4f},{3.1 + 40 / (s + 10):.4f}\n" for s in range(first, last, 100))


async def test_a_growing_log_is_followed(here: Path, until: Wait, capsys: pytest.CaptureFixture[str]) -> None:
    log = here / "loss.csv"
    log.write_text("step,train_loss,val_loss\n" + rows(0, 2000))
    run_dir = imported(log, here / "runs", capsys, "max_steps=5000")
    app = GptbenchApp(here / "runs", open_run=run_dir)
    async with app.run_test(size=(100, 36)) as pilot:
        pane, header = app.screen.query_one(PlateauPane), app.screen.query_one(RunHeader)
        await until(pilot, lambda: pane.diagnosis)
        assert "1,900" in header.render().plain and pane.diagnosis is not None and pane.diagnosis["step"] == 1900
        with log.open("a") as file:
            file.write(rows(2000, 4000))
        await until(pilot, lambda: "3,900" in header.render().plain)
        await pilot.press("x")
        await until(pilot, lambda: pane.diagnosis and pane.diagnosis["step"] == 3900)


@pytest.mark.parametrize("width", [34, 58, 78])
def test_the_pane_holds_the_whole_report_of_the_seed(shared: Path, width: int) -> None:
    d, _ = explain(shared / "seed/run.csv", *SEED)
    plain = [line.plain for line in lines(d.to_dict(), width)]
    shown = " ".join(" ".join(plain).split())
    assert all(len(line) <= width for line in plain)
    parts = ["still falling", "expected of this size", "their ends cannot be told apart", "best lever",
             f"{d.causes[0].probability:.0%}", "at equal compute",
             "no honest order", "for more compute", "evidence", "what would be needed"]  # fmt: skip
    assert [part for part in parts if part not in shown] == []
    assert [shown.index(part) for part in parts] == sorted(shown.index(part) for part in parts)
    assert "14500 3.5696" in shown and "lowest so far" in shown
    assert verdict_line(d.to_dict()).plain.startswith("Still improving at 3.570, at the loss expected")
