"""The real programs as processes: the engine, the command line, and the workbench on a terminal of its own."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fcntl import ioctl
from pathlib import Path
from struct import pack

ROOT = str(Path(__file__).parents[2])
ENGINE = [sys.executable, "-P", "-m", "engine", "train"]
GPTBENCH = [sys.executable, "-m", "workbench.cli"]
SECONDS = 240.0


@dataclass(frozen=True)
class Done:
    """A program that has ended."""

    code: int
    out: str
    err: str

    def one_line(self, *wanted: str) -> str:
        """The one line of an error, which has all of the wanted words in it; no trace."""
        lines = [line for line in self.err.splitlines() if line.strip()]
        assert self.code in (1, 2), self
        assert len(lines) == 1 and "Traceback" not in self.err and "error of gptbench itself" not in self.err, self
        assert all(re.search(word, lines[0]) for word in wanted), (wanted, self)
        return lines[0]

    def ok(self) -> str:
        """Its output, where it went well."""
        assert self.code == 0 and "Traceback" not in self.err, self
        return self.out


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's, in which the packages are found from anywhere."""
    path = os.pathsep.join(filter(None, [(more or {}).get("PYTHONPATH"), ROOT]))
    return {**os.environ, **(more or {}), "PYTHONPATH": path}


def run(command: Sequence[str], env: Mapping[str, str] | None = None, limit: int | None = None) -> Done:
    """Run a program to its end. ``limit``: bytes that a file may have (RLIMIT_FSIZE)."""

    def limited() -> None:
        import resource

        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = subprocess.run(
        command, env=environment(env), capture_output=True, timeout=SECONDS, check=False,
        stdin=subprocess.DEVNULL, preexec_fn=limited if limit is not None else None,
    )  # fmt: skip
    return Done(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))


def engine(run_dir: Path, env: Mapping[str, str] | None = None, limit: int | None = None) -> Done:
    """Train a run to its end."""
    return run([*ENGINE, str(run_dir)], env, limit)


def gptbench(*words: str | Path, env: Mapping[str, str] | None = None, limit: int | None = None) -> Done:
    """A command."""
    return run([*GPTBENCH, *map(str, words)], env, limit)


def started(command: Sequence[str], env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """A program that goes on; its output is not looked at."""
    return subprocess.Popen(
        command, env=environment(env), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def wait_for(condition: Callable[[], object], what: str, seconds: float = 120.0) -> None:
    """Wait until the condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.02)


class Terminal:
    """A program on a terminal of its own, whose session it leads: what sshd gives to a login. A context."""

    def __init__(
        self, command: Sequence[str], cwd: Path, env: Mapping[str, str] | None = None, size: tuple[int, int] = (120, 36)
    ) -> None:
        self._master, slave = pty.openpty()
        ioctl(slave, termios.TIOCSWINSZ, pack("HHHH", size[1], size[0], 0, 0))
        self.process = subprocess.Popen(
            command, cwd=cwd, env=environment({"TERM": "xterm-256color", **(env or {})}), stdin=slave, stdout=slave,
            stderr=slave, start_new_session=True, preexec_fn=lambda: ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(slave)
        self._output = b""
        self._open = True
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while self._open:
            try:
                if select.select([self._master], [], [], 0.1)[0]:
                    data = os.read(self._master, 1 << 16)
                    if not data:
                        return
                    self._output += data
            except (OSError, ValueError):
                return

    @property
    def output(self) -> str:
        """All that was written, sequences and all."""
        return self._output.decode("utf-8", "replace")

    @property
    def text(self) -> str:
        """All that was written, without the sequences that place and colour it."""
        return re.sub(r"\x1b(\[[0-?]*[ -/]*[@-~]|[@-Z\\-_]|[()].)", "", self.output)

    def press(self, keys: str) -> None:
        """Type."""
        os.write(self._master, keys.encode())

    def wait_for(self, wanted: str, seconds: float = 120.0, *, raw: bool = False) -> None:
        """Wait until a text was written; ``raw``: or a sequence."""
        end = time.monotonic() + seconds
        while wanted not in (self.output if raw else self.text):
            assert self.process.poll() is None, f"it ended ({self.process.returncode}): {self.text[-2000:]}"
            assert time.monotonic() < end, f"waited {seconds} s for {wanted!r}: {self.text[-2000:]}"
            time.sleep(0.05)

    def settle(self, quiet: float = 0.4, seconds: float = 15.0) -> None:
        """Wait until nothing was written for a while."""
        end, seen, since = time.monotonic() + seconds, -1, time.monotonic()
        while time.monotonic() < end and (len(self._output) != seen or time.monotonic() - since < quiet):
            if len(self._output) != seen:
                seen, since = len(self._output), time.monotonic()
            time.sleep(0.05)

    def close(self) -> None:
        """The line is gone: the terminal hangs up."""
        if self._open:
            self._open = False
            time.sleep(0.15)
            os.close(self._master)

    def ended(self, seconds: float = 60.0) -> int:
        """Wait for the program's end; its code."""
        return self.process.wait(seconds)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
