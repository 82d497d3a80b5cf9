"""A run's process is known by more than its pid."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from engine import process


def test_this_process_is_alive_and_a_recycled_pid_is_not(tmp_path: Path) -> None:
    assert process.alive(tmp_path) is False
    process.write(tmp_path)
    assert process.alive(tmp_path) is True
    recycled = {**process.identity(), "start_time": "another boot:1"}
    (tmp_path / process.FILE_NAME).write_text(json.dumps(recycled))
    assert process.alive(tmp_path) is False


def test_another_host_is_unknown(tmp_path: Path) -> None:
    (tmp_path / process.FILE_NAME).write_text(json.dumps({**process.identity(), "host": "elsewhere"}))
    assert process.alive(tmp_path) is None


def test_an_ended_child_is_dead_even_before_it_is_waited_for(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process.write(tmp_path, child.pid)
    assert process.alive(tmp_path) is True
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, still a zombie
    assert process.alive(tmp_path) is False
    child.wait()


def test_a_broken_file_means_no_process(tmp_path: Path) -> None:
    for content in ("", "[]", "{", '{"pid": "x"}', '{"pid": -1}'):
        (tmp_path / process.FILE_NAME).write_text(content)
        assert not process.alive(tmp_path)
