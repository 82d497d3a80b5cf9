"""Attempts that are refused, counted: statements in the SQL console, pickles in place of a run's files, logs that would
fill memory, and folders that others could read."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.data.test_console import REFUSED
from tests.engine.conftest import cache, make_run, shard, write_shard
from tests.faults.programs import GPTBENCH, engine, environment, gptbench
from tests.faults.test_huge import peak
from tests.hostile.table import Counted
from tests.hostile.test_commands import said
from tests.workbench.folders import make_run as told

__all__ = ["cache", "make_run", "shard"]  # fixtures that pytest finds here
pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]
GIB = 1 << 30
MOST = 300 << 20  # bytes that reading a log may take


def contents(folder: Path) -> dict[Path, bytes]:
    """All files below a folder."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_sql(tmp_path: Path, counted: Counted) -> None:
    """It can neither write, attach, install, nor read outside the selected shards."""
    out = tmp_path / "out"
    (out / "s").mkdir(parents=True)
    one = write_shard(out / "s" / "a.parquet", ["one", "two"])
    write_shard(out / "outside.parquet", ["secret"])
    (out / "outside.csv").write_text("a\nsecret\n")
    before = contents(out)
    for statement in filter(None, REFUSED):
        sql = statement.format(out=out, shard=one, url="http://127.0.0.1:9")
        shown, code = said([*GPTBENCH, "data", "sql", str(one), "-q", sql], tmp_path)
        lines = [line for line in shown.splitlines() if line.strip()]
        harm = code != 1 or len(lines) != 1 or "secret" in shown.replace(sql, "") or contents(out) != before
        counted.add("SQL statements", "refused", harm, (sql, code, shown))


class Bomb:
    """Unpickled, it leaves a file behind."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch '{self.canary}'",)


def bare(bomb: bytes) -> bytes:
    """A pickle as a file."""
    return bomb


def array(bomb: bytes) -> bytes:
    """A pickle as NumPy's array of objects."""
    head = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
    return b"\x93NUMPY\x01\x00v\x00" + head.ljust(117) + b"\n" + bomb


@pytest.mark.parametrize("form", [bare, array])
def test_pickles(
    form: Callable[[bytes], bytes], make_run: Callable[..., Path], tmp_path: Path, counted: Counted
) -> None:
    """In place of every file that a run, its checkpoints and its packs hold: none is unpickled."""
    packs, canary = tmp_path / "packs", tmp_path / "canary"
    trained = make_run("trained", data__cache=str(packs))
    assert engine(trained).code == 0
    bomb = pickle.dumps(Bomb(canary))
    pickle.loads(bomb)
    assert canary.exists(), "the bomb is none"
    canary.unlink()
    files = [path for path in contents(trained) if path.suffix not in (".log", ".lock") and path.name != ".lock"]
    newest = max(path.parent.name for path in files if path.parent.parent.name == "checkpoints")
    files = [path for path in files if path.parent.parent.name != "checkpoints" or path.parent.name == newest]
    for file in [path.relative_to(tmp_path) for path in (*files, *contents(packs))]:
        root = tmp_path / "harmed"
        shutil.copytree(trained, root / "trained")
        shutil.copytree(packs, root / "packs")
        (root / file).write_bytes(form(bomb))
        config, at = (root / "trained" / "config.toml").read_bytes(), str(root / "packs").encode()
        (root / "trained" / "config.toml").write_bytes(config.replace(str(packs).encode(), at))
        checkpoint = "checkpoints" in file.parts and form is bare
        for words in (["export"], ["sample", "--tokens", "2"], ["branch", "--from-step", newest[-8:]]):
            if words[0] != "export" and not checkpoint:
                continue
            done = gptbench(words[0], "trained", *words[1:], "--runs", root, *(["--no-start"] * (words[0] == "branch")))
            assert "Traceback" not in done.err, done
        if checkpoint or (file.parts[0] == "packs" and form is bare):
            assert "Traceback" not in engine(root / "trained").err
        counted.add("pickles", "not loaded", canary.exists(), file)
        canary.unlink(missing_ok=True)
        shutil.rmtree(root)


def line(kind: str, step: str, loss: str) -> str:
    """A line of a log."""
    forms = {"csv": "{},{}\n", "jsonl": '{{"step": {}, "loss": {}}}\n', "log": "iter {}: loss {}, time 10ms, mfu 30%\n"}
    return forms[kind].format(step, loss)


def logs(folder: Path, kind: str) -> Iterator[Path]:
    """Logs that would fill memory: lines of ten gigabytes, steps in billions, numbers that are none, deep objects."""
    good = range(1, 300)
    head = "step,loss\n" * (kind == "csv") + "".join(line(kind, str(i), f"{5 - i / 300:.4f}") for i in good)
    path = folder / f"endless.{kind}"
    path.write_bytes(
        head.encode() + line(kind, "301", "1").partition(", time")[0].rstrip("}\n").encode() + b"1" * (1 << 20)
    )
    os.truncate(path, 10 * GIB)
    yield path
    path.unlink()
    wild = ("nan", "inf", "-inf", "1e999", "-1e999", "9" * 5000, "1e-999", "0x1p3", "٣", "")
    for name, steps in {
        "billions": [10**9 * i for i in good], "beyond": [2**53 + 2**i for i in range(60)] + [10**400],
        "back": [299 - i for i in good],
    }.items():  # fmt: skip
        path = folder / f"{name}.{kind}"
        path.write_text(head + "".join(line(kind, str(step), "3.5") for step in steps))
        yield path
    path = folder / f"nan.{kind}"
    path.write_text(head + "".join(line(kind, str(300 + i), wild[i % len(wild)]) for i in range(200_000)))
    yield path
    path.unlink()
    if kind == "jsonl":
        deep = folder / "deep.jsonl"
        deep.write_text(head + "[" * 900_000 + "\n" + '{"a":' * 100_000 + "\n")
        yield deep


@pytest.mark.parametrize("kind", ["csv", "jsonl", "log"])
def test_logs_that_would_fill_memory(kind: str, tmp_path: Path, counted: Counted) -> None:
    for log in logs(tmp_path, kind):
        # To read ten gigabytes takes its time: each kind of log once.
        endless = ["import"] if kind == "log" else ["explain"]
        for verb in endless if log.stem == "endless" else ["explain", "import"]:
            done, most = peak([*GPTBENCH, verb, str(log), "--runs", str(tmp_path / "runs")])
            harm = most > MOST or "Traceback" in done.stderr or done.returncode not in (0, 1)
            counted.add(
                "logs too large", "bounded", harm, (log.name, verb, done.returncode, most >> 20, done.stderr[-300:])
            )
        shutil.rmtree(tmp_path / "runs", ignore_errors=True)


def spoil(path: Path, how: str) -> None:
    """Put there what no program would have written."""
    path.unlink(missing_ok=True)
    if how == "huge":
        path.touch()
        os.truncate(path, 10 * GIB)
    elif how == "deep":
        path.write_text(("a = " if path.suffix == ".toml" else "") + "[" * 1_000_000)
    elif how == "endless":
        path.symlink_to("/dev/zero")
    else:
        os.mkfifo(path)


HARMS = ("huge", "deep", "endless", "pipe")


@pytest.mark.parametrize("how", HARMS)
def test_files_of_a_run_that_are_none(how: str, tmp_path: Path, counted: Counted) -> None:
    """A run that somebody else put into the folder: in bounded memory and time, and its neighbours are listed."""
    for name in ("config.toml", "facts.toml", "data.json", "process.json", "diagnosis.json", "note.txt"):
        root = tmp_path / "runs"
        told(root, "good", steps=200)
        spoil(told(root, "other", steps=200) / name, how)
        for words in (["runs"], ["explain", "other"], ["export", "other"], ["stop", "other"], ["explain", "good"]):
            done, most = peak([*GPTBENCH, *words, "--runs", str(root)])
            harm = most > MOST or "Traceback" in done.stderr or "of gptbench itself" in done.stderr
            harm |= done.returncode not in (0, 1, 2) or done.stderr.count("\n") > 1
            if words == ["runs"] or "good" in words:
                harm |= done.returncode != 0 or "good" not in done.stdout + words[-1]
            counted.add("files of a run", "bounded", harm, (name, how, words, done, most >> 20))
        shutil.rmtree(root)


@pytest.mark.parametrize("how", HARMS[:3])  # an empty pipe is an empty file
def test_files_that_people_name(how: str, tmp_path: Path, shard: Path, counted: Counted) -> None:
    """A configuration, a recipe and facts: refused in one line. Facts beside a log that are no file are none."""
    log, file = tmp_path / "a.csv", tmp_path / "file.toml"
    log.write_text("step,loss\n1,3\n2,2.9\n3,2.8\n")
    spoil(file, how)
    spoil(tmp_path / "a.csv.facts.toml", how)
    for words in (["train", str(shard), "--config", str(file)], ["data", "recipe", str(file), str(shard)],
                  ["explain", str(log)], ["import", str(log)]):  # fmt: skip
        done, most = peak([*GPTBENCH, *words, "--runs", str(tmp_path / "runs")])
        lines = done.stderr.strip().splitlines()
        harm = most > MOST
        if words[-1] != str(log) or how in ("huge", "deep"):
            harm |= done.returncode not in (1, 2) or len(lines) != 1 or ".toml" not in lines[0]
        counted.add("files named", "bounded", harm, (how, words, done, most >> 20))


def test_nobody_else_reads(tmp_path: Path, shard: Path, counted: Counted) -> None:
    """Every folder that the programs make under an umask of 0: runs, their queue and branches, and what is kept of
    texts and of runs in the cache."""
    runs, packs = ["--runs", str(tmp_path / "runs")], tmp_path / "packs"
    tiny = [w for s in ("model.preset=demo-1m", "model.n_layer=1", "model.n_embd=16", "model.n_head=2",
                        "model.block_size=32", "train.micro_batch=2", "train.max_steps=2", "eval.documents=4",
                        "eval.seen=3") for w in ("--set", s)]  # fmt: skip
    log = tmp_path / "log.csv"
    log.write_text("step,loss\n1,3\n2,2.9\n3,2.8\n")
    for words in (["train", str(shard), "--wait", "--name", "trained", *tiny, *runs],
                  ["train", str(shard), "--print-command", *tiny, *runs], ["import", str(log), *runs],
                  ["queue", "add", str(shard), *tiny, *runs], ["data", "stats", str(shard), "--exact"],
                  ["branch", "trained", "--from-step", "2", "--set", "train.max_steps=4", "--no-start", *runs],
                  ["data", "pack", str(shard), "-o", str(packs)]):  # fmt: skip
        done = subprocess.run(
            [*GPTBENCH, *words], env=environment(), capture_output=True, text=True, check=False, umask=0
        )
        assert done.returncode == 0, done
    made = [folder for folder in (tmp_path / "runs").iterdir() if folder.is_dir()]
    assert len(made) == 6, made
    cache = Path(os.environ["GPTBENCH_CACHE"])
    for folder in (*made, cache, packs):
        counted.add("folders", "closed", bool(folder.stat().st_mode & 0o077), folder)
    subprocess.run([*GPTBENCH, "queue", "stop", *runs], env=environment(), capture_output=True, check=False)
