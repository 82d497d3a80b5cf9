"""``gptbench sample``, ``hf``, ``branch`` and ``train --print-command``, as a person types them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine import config
from tests.workbench.test_cli import gptbench
from workbench.runs.store import state_of

WORDS = ["the", "loss", "of", "a", "small", "model", "falls", "while", "it", "reads", "and", "then", "does", "not"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder with one run of four steps."""
    base = tmp_path_factory.mktemp("model")
    texts = [" ".join(WORDS[i % 7 :] + [str(i)] * (i % 5 + 1)) for i in range(60)]
    pq.write_table(pa.table({"text": texts}), base / "a.parquet")
    sets = ("model.preset=demo-1m", "model.block_size=32", "train.max_steps=4", "train.checkpoint_every=2",
            "eval.every=0", "train.device=cpu", "train.micro_batch=2", f"data.cache={base}/cache")  # fmt: skip
    more = [word for text in sets for word in ("--set", text)]
    done = gptbench("train", base / "a.parquet", "--runs", base / "runs", "--name", "one", "--wait", *more)
    assert done.returncode == 0, done.stderr
    return base / "runs"


def test_sample(runs: Path) -> None:
    done = gptbench("sample", "one", "--runs", runs, "--prompt", "--the loss\x1b[31m", "--tokens", 5, "--device", "cpu")
    assert done.returncode == 0 and done.stdout.startswith("--the loss�[31m") and "step 4" in done.stderr
    as_json = gptbench("sample", "one", "--runs", runs, "--json", "--step", 2, "--tokens", 3, "--device", "cpu")
    assert json.loads(as_json.stdout)["step"] == 2


def test_hf(runs: Path, tmp_path: Path) -> None:
    done = gptbench("hf", "one", "--runs", runs, "-o", "out", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["folder"] == str(tmp_path / "out"), done.stderr
    assert json.loads((tmp_path / "out/config.json").read_text())["model_type"] == "gpt2"


def test_branch(runs: Path) -> None:
    args = ["branch", "one", "--runs", runs, "--from-step", 2, "--set", "train.max_steps=5"]
    done = gptbench(*args, "--wait", "--json")
    assert done.returncode == 0, done.stderr
    made = Path(json.loads(done.stdout)["run"])
    assert made.name.startswith("one-from-2-") and state_of(made) == "finished" and "finished at step 5" in done.stderr
    assert state_of(Path(gptbench(*args, "--no-start").stdout.strip())) == "queued"


def test_a_finished_run_goes_on_where_steps_are_added(runs: Path) -> None:
    run = runs.parent / "extended/one"
    shutil.copytree(next(runs.glob("one-2*")), run)
    again = ("resume", "one", "--runs", run.parent, "--wait")
    done = gptbench(*again)
    assert done.returncode == 1 and "raise train.max_steps in its config.toml first" in done.stderr
    path = run / "config.toml"
    path.write_text(config.resolve(path, overrides={"train.max_steps": 6, "schedule.decay_steps": 4}).to_toml())
    done = gptbench(*again)
    assert done.returncode == 0 and "finished at step 6" in done.stderr
    path.write_text(config.resolve(path, overrides={"train.epochs": 0.3}).to_toml())
    done = gptbench(*again)
    assert done.returncode == 1 and "raise train.epochs in its config.toml first" in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["sample", "nobody"], 1, "no run 'nobody'"),
        (["sample", "one", "--step", "9"], 1, "no checkpoint of step 9; there are: 2, 4"),
        (["sample", "one", "--top-p", "2"], 1, "top-p in (0, 1]"),
        (["branch", "one", "--from-step", "3"], 1, "no checkpoint of step 3; there are: 2, 4"),
        (["branch", "one", "--from-step", "4"], 1, "set train.max_steps above 4"),
        (["branch", "one", "--from-step", "2", "--set", "model.n_layer=9"], 1, "model.n_layer would change"),
        (["branch", "one", "--from-step", "2", "--set", "optim.rate=9"], 2, "optim.rate"),
        (["branch", "one"], 2, "--from-step"),
        (["hf", "one"], 2, "-o"),
        (["train", "x", "--nodes", "2"], 2, "--print-command"),
        (["train", "x", "--nproc", "3"], 2, "set train.grad_accum=3"),
    ],
)
def test_a_mistake_is_one_clear_line(runs: Path, args: list[str], code: int, says: str) -> None:
    before = sorted(p.name for p in runs.iterdir())
    done = gptbench(args[0], "--runs", runs, *args[1:])
    assert done.returncode == code and says in done.stderr and "Traceback" not in done.stderr and not done.stdout
    assert sorted(p.name for p in runs.iterdir()) == before


def test_the_lines_for_many_machines(runs: Path) -> None:
    args = ["train", runs.parent / "a.parquet", "--runs", runs, "--print-command", "--nproc", 4, "--nodes", 2, "--json"]
    assert "set train.grad_accum=8" in gptbench(*args, "--set", "train.grad_accum=4").stderr
    answer = json.loads(gptbench(*args, "--set", "train.grad_accum=8").stdout)
    assert any("--nnodes=2" in line and "--nproc-per-node=4" in line for line in answer["command"])
    assert config.load(Path(answer["run"]) / "config.toml").train.processes == 4
    assert state_of(Path(answer["run"])) == "queued"
