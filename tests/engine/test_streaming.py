"""Runs that begin with the first shards packed: the same order whatever was packed when, each document once."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.packed import pack_shards
from engine import config
from engine.__main__ import main
from engine.corpus import Documents
from engine.described import Prepared
from engine.errors import RunError
from engine.order import TokenStream
from engine.prepare import prepare
from engine.train import WAIT, Trainer
from tests.engine.conftest import MakeRun, data_of, events_of, losses_of, texts_of, write_shard

SHARDS = 7
STREAMED = {
    "data__shuffle_window": 2, "train__max_steps": 150, "train__checkpoint_every": 20, "eval__every": 50,
    "model__dropout": 0.1, "eval__documents": 6,
}  # fmt: skip

# The engine, whose packer takes a while over each shard.
SLOW = """
import sys, time
import engine.feed as feed
given = feed.pack_shards
def one_by_one(paths, **more):
    for path in paths:
        if not more["cancelled"]():
            time.sleep(float(sys.argv[2]))
        yield from given([path], **more)
feed.pack_shards = one_by_one
from engine.__main__ import main
sys.exit(main(["train", sys.argv[1]]))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Seven shards of 40 documents; some copies of one in the next."""
    made = tmp_path / "shards"
    made.mkdir()
    texts = [texts_of(40, seed) for seed in range(SHARDS)]
    for i, own in enumerate(texts):
        write_shard(made / f"{i}.parquet", [*own, *texts[i - 1][:5]])
    return made


@pytest.fixture
def run_of(make_run: MakeRun, folder: Path, tmp_path: Path) -> MakeRun:
    """A run over the shards, with a cache of its own."""

    def build(name: str, **changes: Any) -> Path:
        return make_run(name, **{**STREAMED, "data__paths": [str(folder)], "data__cache": str(tmp_path / name / "c"),
                                 **changes})  # fmt: skip

    return build


def prepared(run: Path, said: list[str] | None = None) -> Prepared:
    return prepare(
        config.load(run / "config.toml"), run, cancelled=lambda: False, say=[].append if said is None else said.append
    )


def slowly(run: Path, tmp_path: Path, seconds: float = 0.5) -> subprocess.Popen[str]:
    script = tmp_path / "slow.py"
    script.write_text(SLOW)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(
        [sys.executable, str(script), str(run), str(seconds)], env=environment, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip


def pack(folder: Path, run: Path) -> None:
    list(pack_shards(sorted(map(str, folder.glob("*.parquet"))), cache=run / "c"))


def test_each_document_once_and_none_held_out(run_of: MakeRun) -> None:
    run = run_of("run")
    data = prepared(run)
    assert data.feed is not None and data.feed.windows == 1 + (SHARDS - 1) // 2
    stream = TokenStream(data.source, 5)
    whole = data.feed.whole()
    held = {h.tobytes() for h in data.split.held_out_unique.hashes}
    assert held and not held & {h.tobytes() for h in whole.hashes}
    everything = Documents.of(data.feed.packs())
    assert len(everything) - len(whole) == sum(h.tobytes() in held for h in everything.hashes)
    n = stream.epoch_tokens
    for epoch in (0, 1):
        tokens = stream.read(epoch * n, n)
        pieces = Counter(piece.tobytes() for piece in np.split(tokens, np.flatnonzero(tokens == data.eot) + 1))
        wanted = Counter(whole.read(i).astype(np.int64).tobytes() for i in range(len(whole)))
        assert pieces - Counter([b""]) == wanted
    # A window's documents come from its shards alone, and no two windows share one.
    for number in range(data.feed.windows):
        assert {pack.identity.path for pack in data.feed.window(number).packs} == {
            data.feed.shards[i].path for i in data.feed._cut[number]
        }
    for block in (7, 32, 900):  # the sequences tile the stream, seams and all
        count = -(-2 * n // block) - 1
        straight = stream.read(0, count * block + 1)
        cut = sorted(straight[i * block : (i + 1) * block + 1].tobytes() for i in range(count))
        assert sorted(stream.sequence(i, block).tobytes() for i in range(count)) == cut
    data.close()


def test_what_is_packed_when_changes_nothing(run_of: MakeRun, folder: Path, tmp_path: Path) -> None:
    cold, warm, slow = run_of("cold"), run_of("warm"), run_of("slow")
    pack(folder, warm)
    assert main(["train", str(cold)]) == main(["train", str(warm)]) == 0
    engine = slowly(slow, tmp_path, 1.5)
    _, errors = engine.communicate(timeout=120)
    assert engine.returncode == 0, errors
    assert losses_of(cold) == losses_of(warm) == losses_of(slow)
    assert data_of(cold)["order"] == data_of(slow)["order"]
    steps = [e for e in events_of(slow) if e["event"] == "step"]
    assert max(e["data_wait"] for e in steps) > 0.2, "the packer was waited for, and that is said"
    assert all(e["data_wait"] <= e["step_time"] for e in steps)
    assert steps[0]["epoch"] is None
    facts = data_of(cold)
    assert facts["unique_tokens"] < facts["tokens"] and len(facts["files"]) == SHARDS
    told = [e for e in events_of(cold) if e["event"] == "phase" and e["name"] == "pack all"]
    assert [e["unique_tokens"] for e in told] == [facts["unique_tokens"]]


def test_killed_while_it_streams(run_of: MakeRun, tmp_path: Path) -> None:
    straight, run = run_of("straight"), run_of("run")
    assert main(["train", str(straight)]) == 0
    for kill in (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM):
        engine = slowly(run, tmp_path, 1.5)
        end = time.monotonic() + 60
        before = len(events_of(run))
        while not any(e["event"] == "step" for e in events_of(run)[before:]) and engine.poll() is None:
            assert time.monotonic() < end
            time.sleep(0.05)
        if not before:
            assert data_of(run)["unique_tokens"] is None and data_of(run)["tokens"] is None
        engine.send_signal(kill)
        engine.communicate(timeout=60)
    assert events_of(run)[-1]["event"] == "stop"
    assert main(["train", str(run)]) == 0
    assert losses_of(run) == losses_of(straight)
    assert {k: v for k, v in data_of(run).items() if k != "files"} == {
        k: v for k, v in data_of(straight).items() if k != "files"
    }


def test_all_packed_at_the_start_is_whole_epochs_and_stays_so(run_of: MakeRun, folder: Path) -> None:
    run = run_of("run", data__shuffle_window=None)
    pack(folder, run)
    data = prepared(run)
    assert data.feed is None and data_of(run)["order"] == {"kind": "epochs"}
    for path in (run / "c").iterdir():  # the cache is lost: the order stays what it was
        path.rename(path.with_suffix(".gone"))
    assert prepared(run).feed is None
    other = run_of("other", data__shuffle_window=None)
    data = prepared(other)
    assert data.feed is not None and data_of(other)["order"]["window"] == 4
    assert data.feed.whole() and data.feed.windows == 3
    data.close()
    again = prepared(other)
    assert again.feed is not None and again.fingerprint == data.fingerprint
    again.close()


def damage(path: Path) -> None:
    """The footer stays good, a page does not."""
    raw = bytearray(path.read_bytes())
    raw[40:80] = bytes(40)
    path.write_bytes(bytes(raw))


def test_a_shard_that_is_damaged_inside_is_left_out_for_good(run_of: MakeRun, folder: Path) -> None:
    probe = prepared(run_of("probe"))
    assert probe.feed is not None
    last = Path(probe.feed.shards[-1].path)
    probe.close()
    damage(last)
    run = run_of("run")
    assert main(["train", str(run)]) == 0
    [error] = data_of(run)["errors"]
    assert error["file"] == str(last) and error["skipped"]
    assert [e["text"] for e in events_of(run) if e["event"] == "warning" and last.name in e["text"]] == [
        f"left out: {error['error']}"
    ]
    straight = losses_of(run)
    # Mended meanwhile, or gone: a run that goes on passes over it all the same.
    last.unlink()
    lines = (run / "events.jsonl").read_bytes().splitlines(keepends=True)
    (run / "events.jsonl").write_bytes(b"".join(lines[:-1]))
    shutil.rmtree(run / "checkpoints")
    assert main(["train", str(run)]) == 0
    assert losses_of(run) == straight


def test_a_shard_that_goes_or_changes_while_it_streams_ends_the_run(
    run_of: MakeRun, folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = run_of("run")
    probe = prepared(run)
    assert probe.feed is not None
    last = Path(probe.feed.shards[-1].path)
    probe.close()
    for path in (run / "c").iterdir():
        if path.name.startswith(last.stem + "."):
            path.rename(run / "away")
    facts = data_of(run)
    kept = last.read_bytes()
    last.write_bytes(kept[:-100])
    with pytest.raises(RunError, match=rf"{last.name}: the run began with this shard"):
        prepared(run)
    last.write_bytes(kept)
    os.utime(last, ns=(1, 1))
    assert main(["train", str(run)]) == 0, "the same bytes again"
    assert facts["order"] == data_of(run)["order"]


def counted(folder: Path, factor: float = 1.0) -> None:
    """Give the shards a column token_count."""
    from data.encoding import load

    encoder = load("gpt2")
    for path in folder.glob("*.parquet"):
        texts = pq.read_table(path)["text"].to_pylist()
        counts = [round(factor * len(encoder.encode(t))) for t in texts]
        pq.write_table(pa.table({"text": texts, "token_count": counts}), path)


def test_epochs_are_as_good_as_steps(run_of: MakeRun, folder: Path) -> None:
    said: list[str] = []
    run = run_of("uncounted", train__epochs=2.0)
    assert prepared(run, said).feed is None and any("token_count" in text for text in said)
    counted(folder, 1.3)
    assert prepared(run_of("wrong", train__epochs=2.0), said).feed is None and any("differs" in text for text in said)
    counted(folder)
    run = run_of("counted", train__epochs=1.5)
    assert main(["train", str(run)]) == 0
    facts, last = data_of(run), [e for e in events_of(run) if e["event"] == "step"][-1]
    assert facts["order"]["kind"] == "windows"
    # Only held-out texts that come again in later shards are not foreseen: here a tenth of all are copies.
    assert facts["planned_tokens"] == pytest.approx(facts["tokens"], rel=0.01)
    assert last["step"] == int(1.5 * facts["planned_tokens"] / 64) and last["epoch"] == pytest.approx(1.5, rel=0.02)
    assert main(["train", str(run)]) == 0, "finished: the steps are those that were planned"


def test_given_validation_shards_are_known_at_once_and_leaks_at_the_end(
    run_of: MakeRun, folder: Path, tmp_path: Path
) -> None:
    held = write_shard(tmp_path / "val.parquet", [*texts_of(10, 77), *texts_of(40, 3)[:4]])
    run = run_of("run", data__val_paths=[str(held)])
    data = prepared(run)
    assert data.feed is not None and len(data.split.held_out) == 14
    facts = json.loads((run / "data.json").read_text())
    assert facts["held_out"]["documents"] == 14
    data.close()
    assert main(["train", str(run)]) == 0
    assert data_of(run)["held_out"]["leaked_documents"] == 4
    assert any("4 held-out documents have an exact copy" in e.get("text", "") for e in events_of(run))


def test_once_all_is_packed_nobody_asks_any_more(run_of: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which several processes would have to agree on before every step."""
    answers: list[int] = []
    original = Trainer._missing

    def counted(self: Trainer) -> int:
        answers.append(original(self))
        return answers[-1]

    monkeypatch.setattr(Trainer, "_missing", counted)
    assert main(["train", str(run_of("run"))]) == 0
    assert set(answers[:-1]) <= {1, WAIT} and answers[-1] == 0
