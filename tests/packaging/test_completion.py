"""Completion, run in the shell itself."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from workbench.cli import build_parser, main
from workbench.commands.completion import SHELLS, script


def complete(line: str, cwd: Path) -> set[str]:
    """What bash offers for the last word of a line; no Python is at hand while it does."""
    (cwd / "gptbench.bash").write_text(script(build_parser(), "bash"))
    words = " ".join(f"'{word}'" for word in line.split(" "))
    ask = (
        f"set -u; source ./gptbench.bash; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); "
        "PATH=/nonexistent; _gptbench; printf '%s\\n' \"${COMPREPLY[@]-}\""
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", ask], cwd=cwd, capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stderr == ""
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("gptbench expl", {"explain"}),
        ("gptbench data ", {"stats", "pack", "sql", "recipe", "fetch", "-h", "--help"}),
        ("gptbench data stats --ex", {"--exact"}),
        ("gptbench --runs elsewhere exp", {"explain", "export"}),
        ("gptbench train --pr", {"--print-command"}),
        ("gptbench train x.parquet --opt", {"--options"}),
        ("gptbench completion f", {"fish"}),
        ("gptbench nonsense --vers", {"--version"}),
    ],
)
def test_bash_offers_what_the_parser_knows(line: str, offered: set[str], tmp_path: Path) -> None:
    assert complete(line, tmp_path) == offered


def test_bash_offers_runs_and_quotes_hostile_names(tmp_path: Path) -> None:
    for name in ("demo-1", "demo-2", "other", "demo-$(touch pwned)"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    offered = complete("gptbench resume demo-", tmp_path)
    assert {"demo-1", "demo-2"} <= offered and "other" not in offered
    assert not (tmp_path / "pwned").exists() and "demo-\\$\\(touch\\" in offered


@pytest.mark.parametrize("shell", SHELLS)
def test_every_script_is_printed_and_parses(shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    text = capsys.readouterr().out
    assert "explain" in text and "stats" in text
    if binary := shutil.which(shell):
        (tmp_path / "script").write_text(text)
        subprocess.run([binary, "-n", str(tmp_path / "script")], check=True, timeout=30)
