"""Events: what is written is what is read, whatever was torn, mixed in or replaced."""

from __future__ import annotations

import json
import math
import resource
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.events import FILE_NAME, MAX_LINE, EventReader, EventWriter, decode, number


def test_round_trip_and_numbers_that_are_not_finite(tmp_path: Path) -> None:
    writer = EventWriter(tmp_path)
    writer.write("step", step=1, loss=math.nan, lr=float("inf"), grad_norm=1.5)
    line = (tmp_path / FILE_NAME).read_text()
    assert json.loads(line)["loss"] is None and "NaN" not in line
    (event,) = EventReader(tmp_path).read()
    assert math.isnan(number(event, "loss")) and number(event, "grad_norm") == 1.5


def test_a_reader_goes_on_where_it_was_and_waits_for_the_torn_line(tmp_path: Path) -> None:
    reader = EventReader(tmp_path)
    assert list(reader.read()) == []
    path = tmp_path / FILE_NAME
    path.write_bytes(b'{"event":"a"}\n{"event":"b"')
    assert [e["event"] for e in reader.read()] == ["a"]
    with path.open("ab") as file:
        file.write(b"}\nnot json\n[1]\n{}\n")
    assert [e["event"] for e in reader.read()] == ["b"]
    assert reader.skipped == 3


def test_a_writer_cuts_off_what_a_killed_one_left(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    path.write_bytes(b'{"event":"a"}\n' + b'{"event":"torn' + b"x" * 3_000_000)
    EventWriter(tmp_path).write("b")
    assert [e["event"] for e in EventReader(tmp_path).read()] == ["a", "b"]
    assert EventReader(tmp_path).skipped == 0


def test_a_replaced_file_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    path.write_bytes(b'{"event":"a"}\n' * 9)
    reader = EventReader(tmp_path)
    assert len(list(reader.read())) == 9
    path.unlink()
    path.write_bytes(b'{"event":"new"}\n')
    assert [e["event"] for e in reader.read()] == ["new"]


def test_an_endless_line_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    path.write_bytes(b'{"event":"a","x":"' + b"y" * (3 * MAX_LINE) + b'"}\n{"event":"b"}\n')
    reader = EventReader(tmp_path)
    assert [e["event"] for e in reader.read()] == ["b"]
    assert reader.skipped == 1 and reader.offset == path.stat().st_size


def test_reading_in_portions_reads_all(tmp_path: Path) -> None:
    writer = EventWriter(tmp_path)
    writer.write_many([{"event": "step", "step": i, "pad": "x" * 1000} for i in range(5000)])
    reader, seen = EventReader(tmp_path), []
    while portion := [e["step"] for e in reader.read(max_bytes=1 << 20)]:
        seen += portion
    assert seen == list(range(5000))


@given(st.lists(st.binary(max_size=60), max_size=20))
@settings(max_examples=200)
def test_wild_bytes_never_crash_a_reader(lines: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / FILE_NAME).write_bytes(b"\n".join(lines) + b'\n{"event":"end"}\n')
        assert list(EventReader(folder).read())[-1]["event"] == "end"


@pytest.mark.parametrize("line", [b"", b"{}", b"[]", b'{"event":3}', b"{" * 100_000, b'{"event":"a"', b"\xff\xfe"])
def test_what_is_no_event(line: bytes) -> None:
    assert decode(line) is None


def test_a_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    """A size limit stands for the full disk: the write is cut short, and the half line taken back."""
    import subprocess
    import sys

    script = (
        "import resource, signal, sys; from engine.events import EventWriter;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000));"
        f"w = EventWriter({str(tmp_path)!r})\n"
        "try:\n"
        "    for i in range(1000): w.write('step', step=i, pad='x' * 100)\n"
        "except OSError: sys.exit(7)\n"
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)
    done = subprocess.run([sys.executable, "-c", script], check=False)
    assert done.returncode == 7
    raw = (tmp_path / FILE_NAME).read_bytes()
    assert raw.endswith(b"}\n") and all(decode(line) for line in raw.splitlines())
