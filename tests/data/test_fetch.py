"""Datasets brought from a hub on loopback, by the real command and the real client."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.fetch import FetchError, RemoteShard, select
from data.files import identify
from tests.data.hub import COMMIT, Hub, _blob, serving

pytest.importorskip("huggingface_hub")

CARD = {
    "configs": [
        {"config_name": "default", "data_files": [{"split": "train", "path": "data/*/*"}]},
        {"config_name": "sample-10BT", "data_files": [{"split": "train", "path": "sample/10BT/*"}]},
        {"config_name": "both", "data_files": {"train": "data/a/*", "test": ["data/b/*"]}},
    ]
}
NAMES = [
    "data/a/part-1.parquet",
    "data/a/part-2.parquet",
    "data/a/part-10.parquet",
    "data/b/part-1.parquet",
    "sample/10BT/0.parquet",
]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    root = tmp_path / "hub" / "Some-Org" / "web.edu"
    for number, name in enumerate(NAMES):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        texts = [f"document {number} {i} {os.urandom(400).hex()}" for i in range(2000)]
        pq.write_table(pa.table({"text": texts}), path, compression="none")
    (root / "README.md").write_text("a card")
    with serving(tmp_path / "hub") as server:
        server.cards["Some-Org/web.edu"] = CARD
        yield server


def run(hub: Hub, tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("HF_")},
        "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1",
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, "-m", "workbench.cli", "data", *arguments],
        capture_output=True, text=True, env=environment, timeout=120, cwd=tmp_path,
    )  # fmt: skip


def test_shards_are_brought_and_not_twice(hub: Hub, tmp_path: Path) -> None:
    arguments = ["fetch", "Some-Org/web.edu", "--shards", "2", "--json"]
    done = run(hub, tmp_path, *arguments)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["files"] == [str(tmp_path / "web.edu" / name) for name in NAMES[:2]]
    assert (answer["revision"], answer["config"], answer["available"]) == (COMMIT, "default", 4)
    root = hub.folder / "Some-Org" / "web.edu"
    assert all((tmp_path / "web.edu" / name).read_bytes() == (root / name).read_bytes() for name in NAMES[:2])
    before = len([r for r in hub.requests if r[0] == "GET" and "/resolve/" in r[1]])
    assert before == 2 and run(hub, tmp_path, *arguments).returncode == 0
    assert len([r for r in hub.requests if r[0] == "GET" and "/resolve/" in r[1]]) == before
    stats = run(hub, tmp_path, "stats", "web.edu", "--json")
    assert json.loads(stats.stdout)["files"] == 2  # what the client keeps beside them is no shard


def test_a_configuration_is_what_the_card_says(hub: Hub, tmp_path: Path) -> None:
    done = run(hub, tmp_path, "fetch", "Some-Org/web.edu", "--config", "sample-10BT", "-o", "here")
    assert done.returncode == 0 and "1 of 1 shards" in done.stdout, done.stderr
    assert (tmp_path / "here" / NAMES[4]).is_file()
    done = run(hub, tmp_path, "fetch", "Some-Org/web.edu", "--config", "sample-10B")
    assert done.returncode == 1 and "did you mean sample-10BT?" in done.stderr and done.stderr.count("\n") == 1


def test_what_was_cut_off_goes_on_where_it_was(hub: Hub, tmp_path: Path) -> None:
    path = hub.folder / "Some-Org" / "web.edu" / NAMES[0]
    whole = path.read_bytes()
    target = tmp_path / "here" / NAMES[0]
    target.parent.mkdir(parents=True)
    arguments = ["fetch", "Some-Org/web.edu", "--shards", "1", "-o", "here", "--json"]
    # Two thirds came, then the process was killed: the part file lies there.
    half = 2 * len(whole) // 3
    part = target.with_name(f".{target.name}.{_blob(whole)[:12]}.part")
    part.write_bytes(whole[:half])
    hub.requests.clear()
    done = run(hub, tmp_path, *arguments)
    assert done.returncode == 0, done.stderr
    ranges = [asked for method, path, asked in hub.requests if method == "GET" and "/resolve/" in path]
    assert ranges == [f"bytes={half}-{len(whole) - 1}"]
    assert target.read_bytes() == whole and not part.exists()
    # A part that is not the beginning of the file is found out, and not kept.
    target.unlink()
    part.write_bytes(b"x" * half)
    done = run(hub, tmp_path, *arguments)
    assert done.returncode == 1 and "hash differs" in done.stderr and not part.exists() and not target.exists()
    assert run(hub, tmp_path, *arguments).returncode == 0 and identify(target).rows == 2000


def test_what_is_wrong_is_one_line(hub: Hub, tmp_path: Path) -> None:
    (hub.folder / "Some-Org" / "web.edu" / NAMES[1]).write_bytes(b"PAR1 not whole")
    done = run(hub, tmp_path, "fetch", "Some-Org/web.edu", "--shards", "3", "--json")
    assert done.returncode == 1 and len(json.loads(done.stdout)["files"]) == 2
    assert "part-2.parquet" in done.stderr and done.stderr.count("\n") == 1
    for name, message in (
        ("Some-Org/none", "no such dataset"), ("../etc", "not a dataset's name"), ("a/b/c", "not a dataset's name"),
    ):  # fmt: skip
        done = run(hub, tmp_path, "fetch", name)
        assert done.returncode == 1 and message in done.stderr and done.stderr.count("\n") == 1
    done = run(hub, tmp_path, "fetch", "Some-Org/web.edu", "--revision", "v9")
    assert done.returncode == 1 and "revision" in done.stderr
    (hub.folder / "Some-Org" / "csv").mkdir()
    (hub.folder / "Some-Org" / "csv" / "x.csv").write_text("a")
    assert "no parquet file" in run(hub, tmp_path, "fetch", "Some-Org/csv").stderr


def test_datasets_are_read_where_they_lie(hub: Hub, tmp_path: Path) -> None:
    path = "hf://datasets/Some-Org/web.edu/data/b"
    done = run(hub, tmp_path, "stats", path, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"] == 2000
    done = run(hub, tmp_path, "sql", path, "-q", "SELECT count(*) AS n FROM docs", "--json")
    assert json.loads(done.stdout)["rows"] == [["2000"]], done.stderr
    done = run(hub, tmp_path, "pack", path, "-o", "packs", "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["documents"] == 2000, done.stderr
    assert run(hub, tmp_path, "stats", "hf://datasets/Some-Org/none").returncode == 1


FOUND = [RemoteShard(name, 1) for name in NAMES]


def chosen(card: dict[str, Any], config: str | None = None, split: str | None = None) -> list[str]:
    return [shard.name for shard in select("d", FOUND, card, config, split)[1]]


def test_cards_as_they_are_written() -> None:
    assert chosen(CARD) == NAMES[:4] and chosen(CARD, "sample-10BT") == NAMES[4:]
    assert chosen(CARD, "both") == NAMES[:3] and chosen(CARD, "both", "test") == [NAMES[3]]
    assert chosen({}) == NAMES and chosen({}, "10BT") == NAMES[4:] and chosen({}, "a") == NAMES[:3]
    assert chosen({"configs": [{"config_name": "x", "data_files": "data/**/*.parquet"}]}) == NAMES[:4]
    with pytest.raises(FetchError, match="several configurations"):
        chosen({"configs": [{"config_name": "x", "data_files": "*"}, {"config_name": "y", "data_files": "*"}]})
    with pytest.raises(FetchError, match="name a split"):
        chosen(CARD, "both", "validation")
    with pytest.raises(FetchError, match="no configuration"):
        chosen({}, "zzz")
