"""A run's process is known by more than its pid."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from engine import process


def test_this_process_is_alive_and_a_recycled_pid_is_not(tmp_path: Path) -> None:
    assert process.alive(tmp_path) is False
    process.write(tmp_path)
    assert process.alive(tmp_path) is True
    recycled = {**process.identity(), "start_time": "another boot:1"}
    (tmp_path / process.FILE_NAME).write_text(json.dumps(recycled))
    assert process.alive(tmp_path) is False


def test_threads_may_write_the_same_file_at_once(tmp_path: Path) -> None:
    begin = threading.Barrier(8)

    def write() -> None:
        begin.wait()
        for _ in range(25):
            process.write(tmp_path)

    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(write) for _ in range(8)]:
            future.result()
    assert process.alive(tmp_path) is True and [path.name for path in tmp_path.iterdir()] == [process.FILE_NAME]


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


def test_a_process_that_was_gone_before_it_was_looked_at_is_dead(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as gone:
        pass
    process.write(tmp_path, gone.pid)
    assert process.read(tmp_path)["start_time"] is None and process.alive(tmp_path) is False  # type: ignore[index]
