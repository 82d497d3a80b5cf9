"""Files read whole: never more of them than fits."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.bounded import MOST, read_array, read_json, read_text, read_toml


def test_what_is_sound_is_read(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text('{"a": [1, "é"]}')
    assert read_json(file) == {"a": [1, "é"]}
    file.write_text('a = [1, "é"]')
    assert read_toml(file) == {"a": [1, "é"]}
    file.write_bytes(b"x" * MOST)
    assert len(read_text(file)) == MOST


@pytest.mark.parametrize("read", [read_text, read_json, read_toml])
def test_more_than_fits_is_refused(read: Callable[[Path], Any], tmp_path: Path) -> None:
    (tmp_path / "huge").touch()
    os.truncate(tmp_path / "huge", 1 << 40)
    for path in (tmp_path / "huge", Path("/dev/zero")):
        with pytest.raises(OSError, match="more than 32 MiB") as caught:
            read(path)
        assert caught.value.filename == str(path)


@pytest.mark.parametrize("text", ["[" * 1_000_000, "a = " + "[" * 1_000_000, "a = " + "9" * 5000, "{", "a ="])
@pytest.mark.parametrize("read", [read_json, read_toml])
def test_nonsense_is_a_value_error(read: Callable[[Path], Any], text: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_text(text)
    with pytest.raises(ValueError, match=r"."):
        read(tmp_path / "a")


@pytest.mark.parametrize("shape", ["(1000000000000,)", "(100000000000000000000,)", "(-5,)", "(11,)"])
def test_an_array_that_is_shorter_than_it_says(shape: str, tmp_path: Path) -> None:
    file = tmp_path / "a.npy"
    np.save(file, np.arange(10.0))
    assert read_array(file).tolist() == np.arange(10.0).tolist()
    content = file.read_bytes()
    file.write_bytes(content[:10] + content[10:128].replace(b"(10,)", shape.encode())[:118] + content[128:])
    with pytest.raises(ValueError, match=r"."):
        read_array(file)


def test_an_array_of_objects_is_none(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"."):
        read_array(tmp_path / "a.npy")
    (tmp_path / "a.npy").write_bytes(b"")
    with pytest.raises(ValueError, match=r"."):
        read_array(tmp_path / "a.npy")
