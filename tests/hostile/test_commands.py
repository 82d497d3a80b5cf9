"""Every command on a plain terminal, what it writes into files, and what it says when it fails."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
import traceback
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest

from tests.faults.programs import ENGINE, GPTBENCH, environment, gptbench
from tests.hostile.payloads import PAYLOADS, in_html, in_markdown, marker, on_a_plain_terminal, reached
from tests.hostile.table import Counted
from tests.hostile.world import DOORS, EVERY, NUMBERS_ALONE, World, build
from tests.workbench.folders import make_run
from tests.workbench.test_hostile_text import only_ours

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]
doors = list(DOORS)
WITH_ENGINE = ("clipboard (OSC 52)", "8-bit controls (C1)", "direction (bidi)")


def said(words: list[str], cwd: Path) -> tuple[str, int]:
    """All that a program writes to a terminal, byte for byte, and its exit code.

    ``gptbench`` itself is forked from this process, on a terminal and in a session of its own: to start it anew for
    each of some seven hundred commands would take as long as all else.
    """
    pid, terminal = pty.fork()
    if not pid:
        _become(words, cwd)
    written = b""
    with contextlib.suppress(OSError):  # the terminal's end
        while got := os.read(terminal, 1 << 16):
            written += got
    os.close(terminal)
    return written.decode("utf-8", "replace"), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _become(words: list[str], cwd: Path) -> NoReturn:
    """Be that program."""
    code: object = 70
    try:
        os.chdir(cwd)
        if words[: len(GPTBENCH)] != GPTBENCH:
            os.execve(words[0], words, environment())
        sys.stdin, sys.stdout, sys.stderr = (os.fdopen(n, mode, encoding="utf-8") for n, mode in enumerate("rww"))
        from workbench.cli import main

        code = main(words[len(GPTBENCH) :])
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 0)


def commands(w: World, engine: bool) -> list[list[str]]:
    """Each verb, where it is answered and where it is refused; with those that start the engine."""
    runs, run = ["--runs", str(w.runs)], w.run.name
    every = [
        ["data", "stats", str(w.shard)], ["data", "stats", str(w.shards)], ["data", "stats", w.text("ar")],
        ["data", "stats", str(w.shard), "--json"], ["data", "stats", str(w.shard), "--exact"],
        ["data", "pack", str(w.shard), "-o", str(w.base / "packs")],
        ["data", "pack", str(w.shards), "--column", w.text("ar")],
        ["data", "sql", str(w.shard), "-q", "FROM docs"], ["data", "sql", str(w.shard), "-q", w.text("ar")],
        ["data", "sql", str(w.shard), "-q", "FROM docs", "--json"],
        ["data", "recipe", str(w.recipe), str(w.shard)], ["data", "recipe", str(w.bad_recipe), str(w.shard)],
        ["data", "recipe", str(w.recipe), str(w.shard), "--json"],
        ["runs", *runs], ["runs", "--json", *runs], ["queue", *runs], ["queue", "remove", w.text("ar"), *runs],
        ["queue", "remove", w.text("qu"), *runs],
        ["explain", run, *runs], ["explain", run, "--json", *runs], ["explain", w.text("ar"), *runs],
        ["explain", "imported", *runs], ["explain", "imported", "--json", *runs], ["explain", "broken", *runs],
        *(["explain", str(log)] for log in (w.csv, w.jsonl, w.log)),
        ["explain", str(w.csv), "--fact", f"optimizer={w.text('ar')}"], ["explain", str(w.csv), "--fact", w.text("ar")],
        ["explain", str(w.csv), "--json", "--fact", f"optimizer={w.text('ar')}"],
        ["export", run, "--html", *runs], ["export", "imported", "--html", *runs], ["export", run, "--png", *runs],
        ["export", "imported", *runs],
        ["export", str(w.csv), "--fact", f"optimizer={w.text('ar')}"],
        ["export", str(w.csv), "--fact", f"optimizer={w.text('ar')}", "-o", str(w.base / "out" / "log.md")],
        ["export", str(w.jsonl), "--html"],
        ["import", str(w.csv), "--name", w.text("ar"), *runs], ["import", str(w.jsonl), *runs],
        ["import", str(w.log), *runs],
        ["train", w.text("ar"), *runs], ["train", str(w.shard), "--set", f"optim.lr={w.text('ar')}", *runs],
        ["train", str(w.shard), "--set", w.text("ar"), *runs],
        ["train", str(w.shard), "--config", str(w.broken / "config.toml")],
        ["train", str(w.shard), "--print-command", "--set", "model.preset=demo-1m", *runs],
        ["train", str(w.shard), "--print-command", "--nodes", "2", "--set", "train.grad_accum=2", *runs],
        ["resume", "broken", *runs], ["resume", w.text("ar"), *runs], ["branch", run, "--from-step", "3", *runs],
        ["probe", run, *runs], ["probe", run, w.text("ar"), *runs],
        ["probe", run, "--stop", *runs], ["stop", "elsewhere", *runs], ["resume", "elsewhere", *runs],
        ["resume", "changed", "--wait", *runs], ["resume", "moved", "--wait", *runs],
        [w.text("ar")], [f"--{w.text('ar')}"], ["runs", f"--{w.text('ar')}"],
    ]  # fmt: skip
    by_hand = []
    if engine:
        every += [
            ["sample", run, *runs], ["sample", run, "--step", w.text("ar"), *runs], ["resume", run, *runs],
            ["resume", run, "--wait", *runs], ["stop", run, *runs], ["hf", run, "-o", str(w.base / "hf"), *runs],
        ]  # fmt: skip
        by_hand = [
            [*ENGINE, str(w.run)], [*ENGINE, str(w.broken)], [*ENGINE, str(w.base / w.text("ar"))],
            [*ENGINE[:-1], w.text("ar")],
        ]  # fmt: skip
    return [[*GPTBENCH, *words] for words in every] + by_hand


@pytest.mark.parametrize("name", PAYLOADS, ids=str)
def test_commands_and_files(
    name: str, tmp_path: Path, counted: Counted, plain_charts: dict[str, dict[str, bytes]]
) -> None:
    w = build(tmp_path / "w", PAYLOADS[name])
    (w.base / "out").mkdir()
    for words in commands(w, name in WITH_ENGINE):
        shown, code = said(words, tmp_path)
        sink = ("--json" if "--json" in words else "terminal") if code == 0 else "errors"
        for door in reached(shown, doors):
            counted.add(door, sink, on_a_plain_terminal(shown, door), (name, words[3:5], code, shown[-300:]))
        assert "Traceback" not in shown and "error of gptbench itself" not in shown, (words, shown)
        assert code in (0, 1, 2), (words, code, shown)
    files = {"summary.md": [*w.runs.glob("*/summary.md"), w.base / "out" / "log.md"],
             "HTML": list(w.runs.glob("*/summary.html"))}  # fmt: skip
    assert all(files.values())
    for sink, written in files.items():
        for file in written:
            text = file.read_text("utf-8")
            held = in_markdown if sink == "summary.md" else in_html(partial(only_ours, page=True))
            for door in reached(text, doors):
                counted.add(door, sink, held(text, door), (name, file.name))
    for kind, plain in plain_charts.items():
        for file, content in plain.items():
            counted.add(EVERY, kind, (w.run / file).read_bytes() != content, (name, file))
    took_in = [run for run in w.runs.iterdir() if (run / "facts.toml").is_file() and run != w.imported]
    kept = "".join((run / file).read_text("utf-8") for run in took_in for file in ("events.jsonl", "facts.toml"))
    assert len(took_in) == 3 and marker("ln") in kept
    for door in NUMBERS_ALONE:
        counted.add(door, "left out", marker(door) in kept, (name, took_in))


@pytest.fixture(scope="module")
def plain_charts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """The charts of a run that nothing was planted in: those of the others are to be the same, to the byte."""
    run = make_run(tmp_path_factory.mktemp("plain"), steps=300)
    gptbench("export", run.name, "--png", "--runs", run.parent).ok()
    charts = {kind: {file.name: file.read_bytes() for file in run.glob(f"summary-*.{kind.lower()}")}
              for kind in ("SVG", "PNG")}  # fmt: skip
    assert all(charts.values())
    return charts


@pytest.mark.parametrize("shell", ["bash"])
def test_lines_to_be_typed(shell: str, tmp_path: Path, counted: Counted) -> None:
    """What --print-command prints is run by a shell as it stands: nothing of a name in it is obeyed."""
    for payload in (
        "$(touch pwned)",
        "`touch pwned`",
        "; touch pwned #",
        "' ; touch pwned ; '",
        "a b\tc",
        "& touch pwned",
    ):
        base = tmp_path / str(abs(hash(payload)))
        w = build(base, payload)
        for nodes in ("1", "2"):
            words = ["train", str(w.shard), "--print-command", "--nodes", nodes, "--set", "model.preset=demo-1m",
                     "--set", "train.grad_accum=2", "--runs", str(w.runs)]  # fmt: skip
            done = subprocess.run([*GPTBENCH, *words], capture_output=True, text=True, check=True, cwd=Path.cwd())
            script = "python() { :; }; sbatch() { :; }; srun() { :; }\n" + done.stdout.replace(ENGINE[0], "python")
            subprocess.run([shell, "-c", script], cwd=base, check=False, capture_output=True)
            counted.add("rr", "shell lines", bool(list(base.rglob("pwned"))), (payload, nodes, done.stdout))
