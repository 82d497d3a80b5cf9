"""A wheel built from the tree, in an empty environment: it holds what it needs, and plays the demo."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.conftest import REPO
from tests.packaging.wheel import build


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_wheel_installs_into_an_empty_environment_and_plays_the_demo(tmp_path: Path) -> None:
    wheel = build(tmp_path / "wheel")
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    for folder in ("workbench", "engine", "data"):
        for path in (REPO / folder).rglob("*"):
            if path.suffix in (".py", ".tcss", ".toml") and "__pycache__" not in path.parts:
                assert str(path.relative_to(REPO)) in held
    assert not any(name.startswith("tests/") for name in held)
    assert any(name.endswith("LICENSE") for name in held)

    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME")}
    environment |= {"GPTBENCH_CACHE": str(tmp_path / "cache")}
    made = tmp_path / "venv"
    venv.create(made, with_pip=True, system_site_packages=False)
    python, gptbench = made / "bin" / "python", made / "bin" / "gptbench"

    def run(*command: object, seconds: float = 600) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*map(str, command)], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=seconds,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done

    run(python, "-m", "pip", "install", "-q", "-c", REPO / "constraints.txt", wheel, seconds=1800)
    where = run(python, "-c", "import workbench; print(workbench.__path__[0])").stdout.strip()
    assert where.startswith(str(made))
    screens = (
        "import workbench.app as a; from pathlib import Path; print(Path(a.__file__).with_name('app.tcss').stat())"
    )
    run(python, "-c", screens)
    shown = run(gptbench, "demo", "--plain", "--dir", tmp_path / "demo", seconds=1800).stdout
    assert "5/5" in shown
    listed = json.loads(run(gptbench, "runs", "--json", "--runs", tmp_path / "demo" / "runs").stdout)
    assert [run["state"] for run in listed] == ["finished"] and listed[0]["verdict"]
    assert (Path(listed[0]["run"]) / "summary.md").read_text("utf-8").startswith("# demo")
    assert sys.prefix != str(made)
