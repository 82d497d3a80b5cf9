"""The real command: exit codes, one clear line for each error, and a light start."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from workbench.commands import doctor

GPTBENCH = [sys.executable, "-m", "workbench.cli"]


def gptbench(*args: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line as a person would, in a process of its own."""
    return subprocess.run(
        [*GPTBENCH, *map(str, args)], capture_output=True, text=True, cwd=cwd, timeout=120, check=False
    )


@pytest.mark.parametrize(
    "verb", [[], ["data", "stats"], ["train"], ["explain"], ["export"], ["import"], ["doctor"], ["demo"]]
)
def test_help_of_every_verb(verb: list[str]) -> None:
    shown = gptbench(*verb, "--help")
    assert shown.returncode == 0 and shown.stdout.startswith("usage: gptbench")


def test_the_command_line_starts_light() -> None:
    script = (
        "import sys, workbench.cli as c; c.build_parser(); import workbench.commands.run, workbench.commands.why;"
        "heavy = {'torch', 'textual', 'duckdb', 'plotext'} & set(sys.modules); sys.exit(', '.join(heavy) or 0)"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False).stderr == ""


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["trane"], 2, "no verb 'trane'; did you mean train? gptbench --help"),
        (["data", "stats", "x", "--exat"], 2, "no option --exat; did you mean --exact? gptbench data stats --help"),
        (["resume", "one", "two"], 2, "'two' is one argument too many"),
        (["data", "stats"], 2, "required"),
        (["data", "stats", "nowhere"], 1, "nowhere"),
        (["train", "nowhere"], 1, "nowhere"),
        (["train"], 2, "no shards"),
        (["train", __file__, "--set", "data.encoding=gpt5"], 1, "encoding 'gpt5' is not known; known: "),
        (["train", "x", "--set", "model.n_layers=3"], 2, "did you mean model.n_layer?"),
        (["train", "x", "--config", "nowhere.toml"], 2, "no such configuration file"),
        (["train", "x", "--set", "model.n_embd=1000000", "--set", "model.n_head=10"], 1, "GiB"),
        (["stop", "nobody"], 1, "no run 'nobody'"),
        (["resume", "nobody"], 1, "no run 'nobody'"),
        (["explain", "nobody"], 1, "nobody"),
        (["export", "nobody"], 1, "nobody"),
        (["explain", "nobody.csv"], 1, "no such run or log; `gptbench runs` lists the runs"),
        (["import", "nobody"], 1, "no such log; check the path"),
        ([], 2, "needs a terminal"),
    ],
)
def test_a_mistake_is_one_clear_line(args: list[str], code: int, says: str, tmp_path: Path) -> None:
    done = gptbench(*args, cwd=tmp_path)
    assert done.returncode == code and says in done.stderr and "Traceback" not in done.stderr
    assert done.stdout == "" and [p.name for p in tmp_path.iterdir() if p.name != "runs"] == []
    assert done.stderr.count("\n") == 1


def test_an_empty_folder_is_said(tmp_path: Path) -> None:
    done = gptbench("data", "stats", tmp_path)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and str(tmp_path) in done.stderr


def test_an_escape_in_an_argument_does_not_reach_the_terminal(tmp_path: Path) -> None:
    done = gptbench("explain", "\x1b]52;c;aGk=\x07", cwd=tmp_path)
    assert done.returncode == 1 and "\x1b" not in done.stderr and "\x07" not in done.stderr


def test_no_runs_yet(tmp_path: Path) -> None:
    assert "start one with" in gptbench("runs", "--runs", tmp_path / "none").stdout
    assert json.loads(gptbench("runs", "--json", "--runs", tmp_path / "none").stdout) == []


def test_options_are_listed_with_their_defaults() -> None:
    shown = gptbench("train", "--options").stdout
    assert "optim.lr = 0.0006" in shown and 'schedule.kind = "cosine"' in shown


def test_doctor_answers_as_json() -> None:
    done = gptbench("doctor", "--json")
    answer = json.loads(done.stdout)
    assert answer["ok"] is (done.returncode == 0) and {"python", "packages", "device", "encoding"} <= {
        c["what"] for c in answer["checks"]
    }


def test_doctor_says_of_a_driver_that_torch_cannot_use_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(doctor, "DRIVER", tmp_path)
    check = doctor._device()
    assert check["level"] == "warning" and "NVIDIA driver" in check["text"] and "torch" in check["text"]
    monkeypatch.setattr(doctor, "DRIVER", tmp_path / "none")
    assert "no GPU" in doctor._device()["text"]


@pytest.mark.parametrize("words", [["runs"], ["queue"], ["stop", "x"], ["explain", "x"], ["import", "a.csv"]])
def test_a_runs_folder_that_is_a_file_is_said_to_be_one(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("step,loss\n1,2.0\n2,1.9\n")
    done = gptbench("--runs", "a.csv", *words, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1) and f"{tmp_path / 'a.csv'}: is not a fol" in done.stderr


def test_doctor_says_that_folders_are_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("GPTBENCH_CACHE", str(tmp_path / "file"))
    done = gptbench("doctor", "--json", "--runs", tmp_path / "file")
    levels = {check["what"]: check["level"] for check in json.loads(done.stdout)["checks"]}
    assert done.returncode == 1 and levels["runs folder"] == levels["packs"] == "error"
