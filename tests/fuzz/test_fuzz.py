"""Hostile bytes: what reads files from elsewhere answers, or says in one line why not. Nothing else is raised.

A short form runs with the tests. The long one: ``make fuzz`` (GPTBENCH_FUZZ examples of each). A crash found becomes an
``@example``.
"""

from __future__ import annotations

import io
import json
import os
import struct
import tempfile
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from data.catalogue import Catalogue
from data.files import ShardError
from data.recipe import parse_text
from engine.config import ConfigError, load, resolve
from engine.events import FILE_NAME, EventReader
from workbench.errors import UserError
from workbench.plateau.diagnose import diagnose
from workbench.runs.facts import facts_of_log, read_toml
from workbench.runs.history import History
from workbench.runs.importers.read import read_history
from workbench.runs.importers.tensorboard import masked_crc

EXAMPLES = int(os.environ.get("GPTBENCH_FUZZ", "40"))
fuzzed = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), print_blob=EXAMPLES > 1000
)


def _shard() -> bytes:
    out = io.BytesIO()
    table = pa.table({"text": [f"document {i} " * 9 for i in range(60)], "id": list(map(str, range(60)))})
    pq.write_table(table, out, row_group_size=20)
    return out.getvalue()


def _tensorboard() -> bytes:
    out = b""
    for step in range(1, 12):
        tag = b"train/loss"
        value = b"\x0a" + bytes([len(tag)]) + tag + b"\x15" + struct.pack("<f", 5 - step / 9)
        summary = b"\x0a" + bytes([len(value)]) + value
        body = b"\x09" + struct.pack("<d", 1e9) + b"\x10" + bytes([step]) + b"\x2a" + bytes([len(summary)]) + summary
        lead = struct.pack("<Q", len(body))
        out += lead + struct.pack("<I", masked_crc(lead)) + body + struct.pack("<I", masked_crc(body))
    return out


SHARD = _shard()
LOGS = {
    "nanogpt": b"".join(
        b"step %d: train loss 3.%d, val loss 3.%d\niter %d: loss 3.21, time 12ms, mfu 3%%\n" % (i, i, i, i)
        for i in range(0, 90, 10)
    ),
    "csv": b"step,loss,val_loss,lr\n" + b"".join(b"%d,3.1,3.2,1e-3\n" % i for i in range(30)),
    "jsonl": b"".join(b'{"step": %d, "loss": 3.5, "lr": 0.001, "eval_loss": null}\n' % i for i in range(30)),
    "state": json.dumps({"max_steps": 9, "log_history": [{"step": i, "loss": 2.5} for i in range(9)]}).encode(),
    "tensorboard": _tensorboard(),
}
EVENTS = b"".join(
    json.dumps(event).encode() + b"\n"
    for step in range(1, 40)
    for event in (
        {"event": "step", "time": 1.0 * step, "step": step, "loss": 5.0, "lr": 1e-3, "grad_norm": 1.0, "clipped": 0},
        {"event": "eval", "time": 1.0 * step, "step": step, "split": "heldout", "loss": 5.1, "se": 0.02},
    )
)
CONFIG = resolve(overrides={"data.paths": ["a.parquet"]}).to_toml().encode()
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


def one_line(error: Exception, folder: str) -> None:
    """An error that a person can read."""
    assert str(error).strip() and "\n" not in str(error).replace(folder, "")


@fuzzed
@given(st.sampled_from(sorted(LOGS)), EDITS)
def test_importers(kind: str, edits: list[tuple[float, int, bytes]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "wild.log"
        path.write_bytes(mutated(LOGS[kind], edits))
        try:
            history, reader = read_history(path)
        except UserError as error:
            return one_line(error, folder)
        json.dumps(diagnose(history, facts_of_log(reader.facts, history)).to_dict(), allow_nan=False)


@fuzzed
@given(EDITS)
def test_events(edits: list[tuple[float, int, bytes]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / FILE_NAME).write_bytes(mutated(EVENTS, edits))
        history = History.of(EventReader(folder).read())
        json.dumps(diagnose(history, facts_of_log({}, history)).to_dict(), allow_nan=False)


@fuzzed
@given(EDITS)
@example([(0.0, 0, b"a = " + b"[" * 3000)])
@example([(0.0, 0, b"a = " + b"9" * 5000 + b"\n")])
@example([(0.0, 1 << 20, b"[optim]\nlr = " + b"9" * 400)])
def test_configurations(edits: list[tuple[float, int, bytes]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.toml"
        path.write_bytes(mutated(CONFIG, edits))
        try:
            load(path)
        except ConfigError as error:
            one_line(error, folder)
        try:
            read_toml(path)
        except UserError as error:
            one_line(error, folder)


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
    whole = b'deduplicate = "near"\n[filter]\nmin_score = 2.5\nlanguage = ["en"]\nwhere = ["score < 4"]\n'
    try:
        parse_text(mutated(whole, edits).decode("utf-8", "replace"), "wild.toml")
    except ShardError as error:
        one_line(error, "wild.toml")


@fuzzed
@given(EDITS, st.booleans())
def test_shards(edits: list[tuple[float, int, bytes]], torn: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "wild.parquet"
        content = mutated(SHARD, edits)
        path.write_bytes(content[: len(content) * 2 // 3] if torn else content)
        try:
            with Catalogue([str(path)]) as catalogue:
                for problem in catalogue.errors:
                    one_line(ShardError(problem.error), folder)
        except ShardError as error:
            one_line(error, folder)


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
