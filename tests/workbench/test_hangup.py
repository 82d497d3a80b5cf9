"""A terminal that is gone without a signal: the workbench ends within seconds rather than spin."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
from pathlib import Path

from tests.workbench.folders import make_run
from workbench.runs.launch import environment


def test_a_workbench_whose_terminal_is_gone_ends(tmp_path: Path) -> None:
    make_run(tmp_path / "runs", "demo-1m-x", steps=200, stop="finished")
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    bench = subprocess.Popen(
        [sys.executable, "-P", "-m", "workbench.cli", "--runs", str(tmp_path / "runs")],
        stdin=slave, stdout=slave, stderr=slave, env={**environment(), "TERM": "xterm-256color"},
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN), start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    shown, painted = bytearray(), threading.Event()

    def read() -> None:
        try:
            while not painted.is_set():
                shown.extend(os.read(master, 65536))
                if b"demo-1m-x" in shown:
                    painted.set()
        except OSError:
            return

    reader = threading.Thread(target=read)
    reader.start()
    try:
        assert painted.wait(60), bytes(shown[-500:])
        reader.join()
        os.close(master)
        bench.wait(30)
    finally:
        bench.kill()
        bench.wait()
