"""Build the wheel from a copy of the tree, so that nothing is left in the checkout."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.conftest import REPO

PARTS = ("workbench", "engine", "data", "pyproject.toml", "README.md", "LICENSE")


def build(folder: Path) -> Path:
    """The wheel of this tree, in ``folder``. Raises CalledProcessError where it cannot be built."""
    source = folder / "source"
    source.mkdir(parents=True)
    for part in PARTS:
        whole = REPO / part
        if whole.is_dir():
            shutil.copytree(whole, source / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(whole, source / part)
    run = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(source)]
    subprocess.run(run, check=True, capture_output=True, timeout=300)
    (made,) = folder.glob("gptbench-*.whl")
    return made
