"""A real terminal: tmux runs the program, keys go in, the screen comes out as text."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

GPTBENCH = f"{sys.executable} -m workbench.cli"
_numbers = itertools.count()


class Terminal:
    """One tmux server of its own with one session. Leave it as a context: the server ends, what it ran may not."""

    def __init__(self, command: str, *, cwd: Path, env: Mapping[str, str], width: int = 120, height: int = 36) -> None:
        self._socket = f"gptbench-{os.getpid()}-{next(_numbers)}"
        settings = " ".join(f"{key}={shlex.quote(value)}" for key, value in env.items())
        # GNU readline, which pytest loads, leaves a size of its own in the environment of what is started.
        shell = f"env -u COLUMNS -u LINES {settings} {command}; echo exit code $?; sleep 600"
        self._tmux("new-session", "-d", "-x", str(width), "-y", str(height), "-c", str(cwd), "sh", "-c", shell)

    def press(self, *keys: str) -> None:
        """Send keys by tmux's names ("Enter", "C-g", "j"); text is typed as it is."""
        for key in keys:
            self._tmux("send-keys", key)
            time.sleep(0.05)

    def screen(self) -> str:
        """What the terminal shows now."""
        return self._tmux("capture-pane", "-p")

    def wait_for(self, wanted: str | Callable[[str], bool], seconds: float = 60) -> str:
        """Wait until the screen holds a text, or fulfils a condition; returns the screen."""
        deadline = time.monotonic() + seconds
        while True:
            screen = self.screen()
            if wanted in screen if isinstance(wanted, str) else wanted(screen):
                return screen
            assert time.monotonic() < deadline, f"waited {seconds} s for {wanted!r}; the screen shows:\n{screen}"
            time.sleep(0.2)

    def kill(self) -> None:
        """The terminal is gone, as when a line drops: its programs get SIGHUP."""
        subprocess.run(["tmux", "-L", self._socket, "kill-server"], check=False, capture_output=True)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def _tmux(self, *words: str) -> str:
        done = subprocess.run(
            ["tmux", "-L", self._socket, "-f", os.devnull, *words], check=True, capture_output=True, text=True
        )
        return done.stdout


def shown_step(screen: str) -> int:
    """The step that the Run screen's header shows."""
    found = re.search(r"step\s+([\d,]+)", screen)
    return int(found[1].replace(",", "")) if found else -1


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait until a condition holds that no screen shows."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not come"
        time.sleep(0.1)
