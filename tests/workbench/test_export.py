"""Export, explain and import as verbs: what is written, where, and that nothing foreign is obeyed."""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import math
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.workbench.folders import make_run
from workbench.commands import why
from workbench.errors import UserError
from workbench.export.files import write_summary
from workbench.export.markdown import escape
from workbench.export.svg import svg_chart
from workbench.plateau.report import report_lines
from workbench.plot import Series
from workbench.runs.read import read_run

HOSTILE = "<script>alert(1)</script> | [x](javascript:1) `c` *b* _i_ ![p](http://e.x/p.png) \x1b[31m\u202e www.e.x @all"
VERDICT_KEYS = {
    "verdict", "why_verdict", "causes", "levers", "decision", "expected_loss", "noise", "facts", "tldr",
}  # fmt: skip


def args(target: Path | str, runs: Path, **more: object) -> argparse.Namespace:
    known = {
        "json": False,
        "data": [],
        "unique_tokens": None,
        "fact": [],
        "output": None,
        "name": None,
        "html": False,
        "png": False,
    }
    return argparse.Namespace(**{**known, "target": str(target), "runs": str(runs), **more})


@pytest.fixture
def log(tmp_path: Path) -> Path:
    lines = ["step,val_loss,note"]
    lines += [f"{s},{3 + 7 * s**-0.4:.4f},{'x' * 3}" for s in range(100, 3000, 100)]
    path = tmp_path / "a run.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_explain_of_a_log_writes_nothing_and_answers_in_full(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert why.explain(args(log, tmp_path / "runs", json=True, unique_tokens=1e6, fact=["tokens_per_step=1000"])) == 0
    answer = json.loads(capsys.readouterr().out)
    assert set(answer) >= VERDICT_KEYS
    assert answer["facts"]["unique_tokens"] == {"value": 1000000, "source": "given by --unique-tokens"}
    assert answer["facts"]["epochs"]["value"] == pytest.approx(2.9)
    for cause in answer["causes"]:
        assert set(cause) == {
            "id", "title", "probability", "for", "against", "missing", "fix", "action", "predicted_gain", "probe",
            "confirmed", "tied_with", "instead", "experiment", "commands",
        }  # fmt: skip
        assert set(cause["action"]) == {"kind", "set", "from_step"} and 0 <= cause["probability"] <= 1
    assert {c["id"] for c in answer["causes"]} >= {
        "data_repetition", "lr_still_high", "lr_decayed_early", "capacity", "schedule_complete", "instability",
    }  # fmt: skip
    for name in ("continue", "cool_down_now", "best_lever"):
        assert {"final_loss", "gpu_hours"} <= set(answer["decision"][name])
    assert sorted(tmp_path.rglob("*")) == before


def test_facts_beside_a_log_are_read_and_a_flag_corrects_them(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log.with_name("a run.csv.facts.toml").write_text("parameters = 124e6\nlr = 6e-4\n")
    why.explain(args(log, tmp_path / "runs", json=True, fact=["lr=1e-3"]))
    facts = json.loads(capsys.readouterr().out)["facts"]
    assert facts["parameters"] == {"value": 124000000, "source": "a run.csv.facts.toml"}
    assert facts["lr"] == {"value": 1e-3, "source": "given by --fact"}


def test_import_makes_a_run_that_reads_as_the_log_does(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = shared / "logs/nanogpt_124M_one_epoch.log"
    runs = tmp_path / "runs"
    assert why.import_log(args(log, runs, name="../../odd name")) == 0
    run_dir = Path(capsys.readouterr().out.strip())
    assert run_dir.parent == runs.resolve() and sorted(p.name for p in run_dir.iterdir()) == [
        "events.jsonl",
        "facts.toml",
    ]
    source = read_run(run_dir)
    assert source.facts.source("parameters") == "log line 18" and source.history.step == 660
    assert str(log.resolve()) in (run_dir / "facts.toml").read_text()
    assert why.explain(args(run_dir.name, runs, json=True)) == 0
    imported = json.loads(capsys.readouterr().out)
    assert json.loads((run_dir / "diagnosis.json").read_text()) == imported
    why.explain(args(log, runs, json=True))
    direct = json.loads(capsys.readouterr().out)
    assert imported["causes"] == direct["causes"] and imported["verdict"] == direct["verdict"] == "finished"


def test_summary_has_its_parts_and_is_written_whole(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    why.import_log(args(log, tmp_path / "runs", fact=["parameters=1e8", "tokens_per_step=1e6"]))
    run_dir = Path(capsys.readouterr().out.strip())
    path = write_summary(run_dir)[0]
    text = path.read_text()
    for part in (
        "## Facts",
        "## Curve",
        "| step | val loss ± noise | what changed |",
        "## Why",
        "**TL;DR**",
        "## What would",
    ):
        assert part in text
    assert "\x1b" not in text and "| `parameters` | 100,000,000 | given by --fact |" in text
    assert sorted(p.name for p in run_dir.iterdir()) == [
        "diagnosis.json", "events.jsonl", "facts.toml", "summary-loss.svg", "summary.md",
    ]  # fmt: skip
    assert "![loss (nats per token)](summary-loss.svg)" in text
    out = tmp_path / "out.md"
    assert why.export(args(log, tmp_path / "runs", output=str(out))) == 0 and out.read_text().startswith("# a run.csv")
    with pytest.raises(UserError, match="cannot be written"):
        why.export(args(log, tmp_path / "runs", output=str(tmp_path / "none" / "out.md")))


def test_a_page_holds_its_charts_and_its_policy_allows_nothing_but_its_own_style(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a (b).md"
    assert why.export(args(log, tmp_path / "runs", output=str(out), html=True)) == 0
    text = (tmp_path / "a (b).html").read_text()
    assert not out.exists() and capsys.readouterr().out.strip().endswith("a (b).html")
    style, policy = re.search(r"(?s)<style>(.*?)</style>", text), re.search(r'content="(default-src [^"]*)"', text)
    assert style is not None and policy is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert policy[1].startswith(f"default-src 'none'; style-src 'sha256-{digest}'")
    assert text.count("<svg xmlns") == 1 and "style=" not in text and "<script" not in text
    assert why.export(args(log, tmp_path / "runs", output=str(out))) == 0
    chart = ElementTree.parse(tmp_path / "a (b)-loss.svg").getroot()
    curve = max((path.get("d", "") for path in chart.iter("{http://www.w3.org/2000/svg}path")), key=len)
    assert curve.count("L") == 28 and "nan" not in curve  # 29 evaluations
    assert "](a%20%28b%29-loss.svg)" in out.read_text()


def test_png_is_made_by_what_is_here_and_its_absence_is_said(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    converter = tmp_path / "bin" / "rsvg-convert"  # stands for librsvg's: reads SVG, writes the file named behind -o
    converter.parent.mkdir()
    converter.write_text('#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\nexec /bin/cat > "$2"\n')
    converter.chmod(0o755)
    out = tmp_path / "out.md"
    monkeypatch.setenv("PATH", str(converter.parent))
    assert why.export(args(log, tmp_path / "runs", output=str(out), png=True)) == 0
    assert (tmp_path / "out-loss.png").read_text().startswith("<svg")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "cairosvg", None)
    with pytest.raises(UserError, match="librsvg2-bin"):
        why.export(args(log, tmp_path / "runs", output=str(out), png=True))
    with pytest.raises(UserError, match="-o"):
        why.export(args(log, tmp_path / "runs", png=True))


@pytest.mark.parametrize("values", [[], [1.0], [math.nan] * 5, [1e300, -1e300, math.inf, 3.0], [0.0] * 9])
def test_any_values_make_a_chart_that_is_well_formed(values: list[float]) -> None:
    drawn = svg_chart([Series(range(len(values)), values, "<b>&", error=values, style="both")], title="\x1b<i>")
    ElementTree.fromstring(drawn)
    assert "nan" not in drawn and "inf" not in drawn and "\x1b" not in drawn


def test_what_was_asked_for_is_named_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_folder = make_run(tmp_path)
    assert why.export(args(run_folder, tmp_path, html=True)) == 0
    assert capsys.readouterr().out.strip() == str(run_folder / "summary.html")
    assert (run_folder / "summary.md").is_file()


def test_foreign_text_is_escaped_everywhere(tmp_path: Path) -> None:
    run_dir = tmp_path / "<b>run"
    run_dir.mkdir()
    (run_dir / "facts.toml").write_text(
        f"[facts.lr]\nvalue = 0.1\nsource = {json.dumps(HOSTILE)}\n[facts.optimizer]\nvalue = {json.dumps(HOSTILE)}\n"
    )
    (run_dir / "events.jsonl").write_text('{"event": "step", "step": 3, "loss": 2.0, "time": 1}\n')
    text = write_summary(run_dir)[0].read_text()
    assert "<script>" not in text and "<b>" not in text and "\x1b" not in text and "\u202e" not in text
    assert not re.search(r"(?<!\\)\]\((?!summary-\w+\.svg\))", text) and "http://" not in text and " www.e" not in text
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert all(line.replace("\\|", "").count("|") == 4 for line in rows)
    source = read_run(run_dir)
    from workbench.plateau.diagnose import diagnose

    shown = "\n".join(report_lines(diagnose(source.history, source.facts, run_dir), source.history))
    assert "\x1b" not in shown and "\u202e" not in shown


def test_escape_keeps_plain_words_readable() -> None:
    assert escape("3.1 (2.9 to 3.3), +0.2") == "3.1 (2.9 to 3.3), +0.2"
    assert escape("a|b\n") == "a\\|b␊"


@pytest.mark.parametrize(
    ("target", "said"), [("none.log", "no such run or log"), ("nothing", "no run"), (".", "no run")]
)
def test_wrong_targets_say_so(target: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        why.explain(args(tmp_path if target == "." else target, tmp_path / "runs"))


def test_wrong_facts_say_so(log: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean parameters"):
        why.explain(args(log, tmp_path, fact=["paramters=1"]))
    with pytest.raises(UserError):
        why.explain(args(log, tmp_path, unique_tokens=-1.0))
