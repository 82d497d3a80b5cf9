"""What is fuzzed: each reads bytes from elsewhere, and answers or says in one line why not. Nothing else is raised.

``test_fuzz`` feeds them by Hypothesis, with the tests; ``long`` by Atheris, for as long as it is let.
"""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data.catalogue import Catalogue
from data.columns import layout
from data.files import ShardError
from data.packing import documents
from data.recipe import parse_text
from engine.config import ConfigError, load, resolve
from engine.events import FILE_NAME, EventReader
from workbench.errors import UserError
from workbench.plateau.diagnose import diagnose
from workbench.runs.bulk import apply_block
from workbench.runs.facts import facts_of_log, read_toml
from workbench.runs.history import History
from workbench.runs.importers.read import read_history
from workbench.runs.importers.tensorboard import masked_crc


def one_line(error: Exception, folder: str) -> None:
    """An error that a person can read."""
    assert str(error).strip() and "\n" not in str(error).replace(folder, "")


def importers(content: bytes, folder: Path) -> None:
    """A log of whatever trainer, read, told as facts and explained."""
    path = folder / "wild.log"
    path.write_bytes(content)
    try:
        history, reader = read_history(path)
    except UserError as error:
        return one_line(error, str(folder))
    json.dumps(diagnose(history, facts_of_log(reader.facts, history)).to_dict(), allow_nan=False)


def events(content: bytes, folder: Path) -> None:
    """A run's events: read line by line and in a block with the same result, and explained."""
    (folder / FILE_NAME).write_bytes(content)
    history = History.of(EventReader(folder).read())
    whole, together = content[: content.rfind(b"\n") + 1], History()
    if whole:
        apply_block(together, whole)
    for one, other in ((history.steps, together.steps), (history.val, together.val)):
        assert np.array_equal(one._data[:, : len(one)], other._data[:, : len(other)], equal_nan=True)
    assert (history.step, history.stop, history.version) == (together.step, together.stop, together.version)
    json.dumps(diagnose(history, facts_of_log({}, history)).to_dict(), allow_nan=False)


def configurations(content: bytes, folder: Path) -> None:
    """A configuration and a table of facts; what is read as a configuration is written and read as the same."""
    path = folder / "config.toml"
    path.write_bytes(content)
    try:
        config = load(path)
        path.write_text(config.to_toml(), encoding="utf-8")
        assert load(path) == config
    except ConfigError as error:
        one_line(error, str(folder))
    path.write_bytes(content)
    try:
        read_toml(path)
    except UserError as error:
        one_line(error, str(folder))
    with contextlib.suppress(ConfigError):
        resolve(sets=[content[:400].decode("utf-8", "replace")])


def recipes(content: bytes, folder: Path) -> None:
    """A recipe."""
    try:
        parse_text(content.decode("utf-8", "replace"), "wild.toml")
    except ShardError as error:
        one_line(error, str(folder))


def shards(content: bytes, folder: Path) -> None:
    """A parquet file: probed, its first rows shown, its layout told, its text read as for packing."""
    path = folder / f"wild-{next(_COUNT)}.parquet"  # a name of its own: DuckDB keeps what it read of a path
    path.write_bytes(content)
    try:
        catalogue = _catalogue()
        file = catalogue._probe(str(path))
        for problem in catalogue.errors:
            one_line(ShardError(problem.error), str(folder))
        catalogue.errors.clear()
        catalogue.page(file, 0, 20)
        layout(str(path))
        for _ in documents(str(path), "text"):
            pass
    except ShardError as error:
        one_line(error, str(folder))
    finally:
        path.unlink()


_COUNT = itertools.count()


@functools.cache
def _catalogue() -> Catalogue:
    """One database for all shards: to open one takes longer than to probe a file."""
    return Catalogue([])


Target = Callable[[bytes, Path], None]
TARGETS: dict[str, Target] = {
    "importers": importers, "events": events, "configurations": configurations, "recipes": recipes, "shards": shards
}  # fmt: skip


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
RECIPE = b'deduplicate = "near"\n[filter]\nmin_score = 2.5\nlanguage = ["en"]\nwhere = ["score < 4"]\n'
SEEDS: dict[str, list[bytes]] = {
    "importers": list(LOGS.values()), "events": [EVENTS], "configurations": [CONFIG], "recipes": [RECIPE],
    "shards": [SHARD],
}  # fmt: skip
