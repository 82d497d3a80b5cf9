"""Shards on S3: a real server on loopback."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data import files, remote
from data.catalogue import Catalogue
from data.console import Console, ConsoleError
from data.files import ShardError, expand, identify
from data.packed import pack_shards
from data.query import Rows
from data.recipe import Recipe
from data.statistics import statistics
from workbench.cli import main
from workbench.runs import launch


def shard(path: Path, texts: list[str]) -> Path:
    pq.write_table(pa.table({"text": texts, "n": list(range(len(texts)))}), path, row_group_size=40)
    return path


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("s3fs")
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    given = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
    }  # fmt: skip
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    remote._filesystem.cache_clear()
    try:
        folder = tmp_path_factory.mktemp("s3")
        store = remote.filesystem("s3://bucket")
        store.mkdir("bucket")
        texts = [f"Text {i} of a document that lies elsewhere" for i in range(130)]
        store.put(str(shard(folder / "a.parquet", texts)), "bucket/d/a [1].parquet")
        store.put(str(shard(folder / "b.parquet", [*texts[:5], "another"])), "bucket/d/sub/b.parquet")
        store.pipe("bucket/d/notes.txt", b"no shard")
        store.pipe("bucket/d/cut.parquet", (folder / "a.parquet").read_bytes()[:-20])
        yield "s3://bucket"
    finally:
        server.stop()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)
        remote._filesystem.cache_clear()


def test_paths_are_listed(bucket: str) -> None:
    assert expand([f"{bucket}/d"]) == [f"{bucket}/d/{n}" for n in ("a [1].parquet", "cut.parquet", "sub/b.parquet")]
    assert expand([f"{bucket}/d/*.parquet"]) == [f"{bucket}/d/a [1].parquet", f"{bucket}/d/cut.parquet"]
    assert expand([f"{bucket}/d/a [1].parquet"]) == [f"{bucket}/d/a [1].parquet"]
    for path, message in (
        (f"{bucket}/none", "no "), (f"{bucket}/d/x*.parquet", "no file matches"), ("s3://no-such-bucket/x", "no "),
        ("https://example.org/x.parquet", "https:// is not read; use s3://, hf://"),
    ):  # fmt: skip
        with pytest.raises(ShardError, match=message) as error:
            expand([path])
        assert "\n" not in str(error.value)


def test_they_are_browsed(bucket: str) -> None:
    with Catalogue([f"{bucket}/d"]) as catalogue:
        assert [Path(file.path).name for file in catalogue.files] == ["a [1].parquet", "b.parquet"]
        [problem] = catalogue.errors
        assert problem.file.endswith("cut.parquet") and "truncated" in problem.error
        rows = Rows(catalogue, catalogue.files)
        assert [hit.values["n"] for hit in rows.page(127, 5).hits] == [127, 128, 129, 0, 1]
        assert (catalogue.document(catalogue.files[0], 77) or "").startswith("Text 77 ")
        assert len(Rows(catalogue, catalogue.files, sort="n", descending=True).page(0, 500).hits) == 136
        found = statistics(catalogue)
        assert found.exact_duplicate_rows == 5 and found.documents == 136
        with Console(catalogue.files) as console:
            assert console.run("SELECT count(*), max(n) FROM docs").rows == [("136", "129")]
            with pytest.raises(ConsoleError, match="disabled"):
                console.run(f"FROM '{bucket}/d/cut.parquet'")


def test_they_are_packed_once_until_they_change(bucket: str, tmp_path: Path) -> None:
    path = f"{bucket}/changing.parquet"
    store = remote.filesystem(path)
    store.put(str(shard(tmp_path / "x.parquet", ["one", "two"])), path)
    first = identify(path)
    assert first == identify(path) and first.mtime_ns == 0 and first.size == (tmp_path / "x.parquet").stat().st_size
    [pack] = pack_shards([path], cache=tmp_path / "cache")
    assert pack.documents == 2 and pack.identity == first
    [again] = pack_shards([path], cache=tmp_path / "cache")
    assert again.folder == pack.folder
    store.put(str(shard(tmp_path / "x.parquet", ["one", "tww"])), path)  # the same size and shape, other bytes
    assert identify(path) != first
    [changed] = pack_shards([path], cache=tmp_path / "cache")
    assert changed.folder != pack.folder
    with pytest.raises(ShardError, match="changed while"):
        files.unchanged(first)


def test_two_at_once_in_worker_processes(bucket: str, tmp_path: Path) -> None:
    packs = list(pack_shards(expand([f"{bucket}/d/a*", f"{bucket}/d/sub"]), cache=tmp_path / "cache", workers=2))
    assert [pack.documents for pack in packs] == [130, 6]


def test_a_run_is_made_of_them_with_a_recipe(bucket: str, tmp_path: Path) -> None:
    from data.recipe import save
    from engine.config import load, resolve
    from engine.prepare import prepare

    save(Recipe(deduplicate="exact"), tmp_path / "r.toml")
    changes = {
        "data.paths": [f"{bucket}/d/sub", f"{bucket}/d/a*"], "data.recipe": str(tmp_path / "r.toml"),
        "data.cache": str(tmp_path / "cache"), "model.preset": "demo-1m", "data.val_fraction": 0.1,
    }  # fmt: skip
    run = launch.create(resolve(overrides=changes), tmp_path / "runs")
    prepared = prepare(load(run / "config.toml"), run, cancelled=lambda: False, say=lambda _: None)
    assert len(prepared.split.train) + len(prepared.split.held_out) == 131


def test_the_command_line_takes_them(bucket: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "stats", f"{bucket}/d/sub"]) == 0
    assert "documents" in capsys.readouterr().out
    assert main(["data", "stats", f"{bucket}/none"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_what_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    remote._filesystem.cache_clear()
    monkeypatch.setitem(sys.modules, "fsspec", None)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for path, extra in (("s3://bucket/x.parquet", "remote"), ("hf://datasets/a/b", "hub")):
        with pytest.raises(ShardError, match=rf"'\.\[{extra}\]' in gptbench's checkout"):
            expand([path])
    from data.fetch import FetchError, fetch

    with pytest.raises(FetchError, match=r"'\.\[hub\]' in gptbench's checkout"):
        fetch("a/b")
    remote._filesystem.cache_clear()


def test_a_store_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("s3fs")
    remote._filesystem.cache_clear()
    for name, value in (
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:9"),
        ("AWS_ACCESS_KEY_ID", "x"),
        ("AWS_SECRET_ACCESS_KEY", "y"),
        ("AWS_MAX_ATTEMPTS", "1"),
    ):
        monkeypatch.setenv(name, value)
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(ShardError) as error:
        expand(["s3://bucket/x.parquet"])
    assert "\n" not in str(error.value) and "s3://bucket/x.parquet" in str(error.value)
    s3fs.S3FileSystem.clear_instance_cache()
    remote._filesystem.cache_clear()
