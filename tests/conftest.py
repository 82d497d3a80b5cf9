"""Fixtures that every test folder shares."""

from __future__ import annotations

import os
import signal
import uuid
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The machine may be busy: how long an example takes says nothing about the code.
settings.register_profile("gptbench", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("gptbench")

# A shell's background job ignores Ctrl-C, and so would all that it starts: who is started here must hear it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

REPO = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real inputs beside the checkout (corpus, logs, seed); its absence skips, in CI it fails."""
    folder = REPO.parent / "shared"
    if not (folder / "corpus").is_dir():
        if os.environ.get("CI"):
            pytest.fail("the shared inputs are missing beside the checkout")
        pytest.skip("needs the shared inputs beside the checkout")
    return folder


@pytest.fixture(autouse=True)
def _own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or fills the user's own cache, settings or runs."""
    base = tmp_path_factory.getbasetemp() / "home"
    for name, variable in (("cache", "GPTBENCH_CACHE"), ("config", "XDG_CONFIG_HOME"), ("state", "XDG_STATE_HOME")):
        (base / name).mkdir(parents=True, exist_ok=True)
        monkeypatch.setenv(variable, str(base / name))
    # What one test's workbench remembers is not the next one's.
    monkeypatch.setenv("GPTBENCH_STATE", str(base / "state" / uuid.uuid4().hex))
    monkeypatch.delenv("GPTBENCH_RUNS", raising=False)
