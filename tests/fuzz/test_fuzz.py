"""Hostile bytes: what reads files from elsewhere answers, or says in one line why not. Nothing else is raised.

A short form runs with the tests. The long one: ``make fuzz`` (GPTBENCH_FUZZ examples of each). A crash found becomes an
``@example``.
"""

from __future__ import annotations

import os
import tempfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from engine.config import ConfigError, resolve
from tests.fuzz import targets
from tests.fuzz.targets import CONFIG, EVENTS, LOGS, RECIPE, SHARD
from workbench.runs.importers.read import read_history

EXAMPLES = int(os.environ.get("GPTBENCH_FUZZ", "40"))
fuzzed = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), print_blob=EXAMPLES > 1000
)

BOMBS = st.sampled_from([
    b"\0", b"\xff\xfe", b"\xed\xa0\x80", b"nan", b"NaN", b"-Infinity", b"1e999", b"9" * 400, b"9" * 5000, b"-" * 40,
    b"[" * 3000, b'{"a":' * 3000, b"\r", b"\n\n", b"x" * 200_000, b'"', b"\x1b]52;c;aGk=\x07", b"\x1b[", b"=", b"true",
    b"null", b"{}", b"[]", b"0x10", b"1_0", b"\xef\xbb\xbf", "\u202e٣".encode(),
])  # fmt: skip
EDITS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 40), st.one_of(st.binary(max_size=12), BOMBS)), max_size=6)


def mutated(content: bytes, edits: list[tuple[float, int, bytes]]) -> bytes:
    """``content`` with pieces replaced: at a share of its length, so many bytes, by others."""
    for share, length, piece in edits:
        at = int(share * len(content))
        content = content[:at] + piece + content[at + length :]
    return content


def read(target: targets.Target, content: bytes) -> None:
    """Let a target read what lies in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        target(content, Path(folder))


@fuzzed
@given(st.sampled_from(sorted(LOGS)), EDITS)
def test_importers(kind: str, edits: list[tuple[float, int, bytes]]) -> None:
    read(targets.importers, mutated(LOGS[kind], edits))


@fuzzed
@given(EDITS)
def test_events(edits: list[tuple[float, int, bytes]]) -> None:
    read(targets.events, mutated(EVENTS, edits))


@fuzzed
@given(EDITS)
@example([(0.0, 0, b"a = " + b"[" * 3000)])
@example([(0.0, 0, b"a = " + b"9" * 5000 + b"\n")])
@example([(0.0, 1 << 20, b"[optim]\nlr = " + b"9" * 400)])
def test_configurations(edits: list[tuple[float, int, bytes]]) -> None:
    read(targets.configurations, mutated(CONFIG, edits))


@fuzzed
@given(st.sampled_from(["optim.lr", "model.n_layer", "optim.betas", "data.paths", "train.epochs", "x"]), BOMBS)
@example("optim.lr", b"9" * 400)
@example("model.n_layer", b"[" * 3000)
def test_options(key: str, value: bytes) -> None:
    try:
        resolve(sets=[f"{key}={value.decode('utf-8', 'replace')}"])
    except ConfigError as error:
        assert str(error)


@fuzzed
@given(EDITS)
@example([(0.0, 0, b"a = " + b"[" * 3000)])
@example([(0.0, 0, b"a = " + b"9" * 5000 + b"\n")])
@example([(0.0, 1 << 20, b"[filter]\nmin_score = " + b"9" * 400)])
def test_recipes(edits: list[tuple[float, int, bytes]]) -> None:
    read(targets.recipes, mutated(RECIPE, edits))


@fuzzed
@given(EDITS, st.booleans())
def test_shards(edits: list[tuple[float, int, bytes]], torn: bool) -> None:
    content = mutated(SHARD, edits)
    read(targets.shards, content[: len(content) * 2 // 3] if torn else content)


@pytest.mark.parametrize("kind", ["nanogpt", "jsonl", "csv"])
def test_a_bomb_does_not_fill_the_memory(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "bomb.log"
    with path.open("wb") as file:
        file.write(LOGS[kind])
        for _ in range(20):
            file.write(b'{"a":' * 200_000)  # a megabyte a piece, no line's end
    tracemalloc.start()
    read_history(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40e6
