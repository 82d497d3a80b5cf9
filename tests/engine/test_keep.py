"""A run sees the rows of its keep-list, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from data.catalogue import Catalogue
from data.choose import choose, write_keep
from data.packed import Pack, pack_shard
from data.recipe import parse_text
from engine.config import load, resolve
from engine.corpus import Documents
from engine.errors import RunError
from engine.events import EventReader
from engine.keep import Keep
from engine.order import TokenStream
from engine.prepare import prepare
from tests.engine.conftest import TINY, data_of, events_of, start, texts_of, write_shard
from workbench.runs import launch

RECIPE = 'deduplicate = "near"\n[held_out]\ndocuments = 9\n'


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run directory with a resolved recipe, over two shards with copies."""
    long = [text * 3 for text in texts_of(90, longest=80)]
    (tmp_path / "s").mkdir()
    write_shard(tmp_path / "s" / "a.parquet", [*long[:60], None])
    write_shard(tmp_path / "s" / "b.parquet", [long[3], "", *long[60:], long[5] + " of"])
    (tmp_path / "r.toml").write_text(RECIPE)
    config = resolve(
        overrides={**TINY, "data.paths": [str(tmp_path / "s")], "data.recipe": str(tmp_path / "r.toml"),
                   "data.cache": str(tmp_path / "cache")}
    )  # fmt: skip
    return launch.create(config, tmp_path / "runs")


def test_only_kept_rows_are_read(run: Path, tmp_path: Path) -> None:
    config = load(run / "config.toml")
    assert config.data.recipe == str(run / "recipe.toml") and (run / "recipe.toml").read_text() == RECIPE
    prepared = prepare(config, run, cancelled=lambda: False, say=lambda _: None)
    train, held = prepared.split.train, prepared.split.held_out
    assert len(held) == 9 and prepared.split.leaked == 0
    with Catalogue([tmp_path / "s"]) as catalogue:
        choice = choose(parse_text(RECIPE), catalogue, cache=tmp_path / "cache")
    for documents, split in ((train, 0), (held, 1)):
        rows = {
            Path(pack.identity.path).name: np.asarray(pack.rows)[documents.index[documents.pack == i]].tolist()
            for i, pack in enumerate(documents.packs)
        }
        assert rows == {Path(file).name: parts[split].tolist() for file, parts in choice.rows.items()}
    facts = data_of(run)
    assert facts["documents"] == facts["unique_documents"] == choice.train_documents
    assert facts["recipe"]["text"] == RECIPE and facts["recipe"]["deduplicate"] == "near"
    assert facts["effective_unique_tokens"]["mid"] == facts["tokens"] == choice.train_tokens + choice.train_documents
    assert facts["held_out"]["near_leaked_documents"] == 0
    # Every token of an epoch belongs to a kept document.
    stream = TokenStream(train, seed=1)
    epoch = stream.read(0, stream.epoch_tokens)
    assert sorted(epoch.tolist()) == sorted(t for i in range(len(train)) for t in train.read(i).tolist())


def test_a_run_trains_on_its_recipe(run: Path) -> None:
    process = start(run)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    kept = data_of(run)
    [first, *_] = [event for event in events_of(run) if event["event"] == "step"]
    assert first["epoch"] == pytest.approx(first["tokens"] / kept["tokens"], rel=1e-3)
    documents = np.load(run / "evals" / "heldout-documents.npy")
    assert len(documents) == TINY["eval.documents"] and list(EventReader(run).read())[-1]["reason"] == "finished"


def test_another_list_or_shard_is_refused(run: Path, tmp_path: Path) -> None:
    config = load(run / "config.toml")
    prepare(config, run, cancelled=lambda: False, say=lambda _: None)
    with Catalogue([tmp_path / "s"]) as catalogue:
        write_keep(choose(parse_text("[held_out]\ndocuments = 9"), catalogue), "other", run / "keep.parquet")
    with pytest.raises(RunError, match="another recipe"):
        prepare(config, run, cancelled=lambda: False, say=lambda _: None)
    (run / "data.json").unlink()
    write_shard(tmp_path / "s" / "b.parquet", texts_of(40, seed=5))
    with pytest.raises(RunError, match=r"b\.parquet: the shard has changed"):
        prepare(config, run, cancelled=lambda: False, say=lambda _: None)
    (run / "keep.parquet").unlink()
    with pytest.raises(RunError, match="resolved by gptbench train"):
        prepare(config, run, cancelled=lambda: False, say=lambda _: None)
    (run / "keep.parquet").write_bytes(b"PAR1")
    with pytest.raises(RunError, match="no keep-list"):
        prepare(config, run, cancelled=lambda: False, say=lambda _: None)


def test_a_shard_that_the_list_does_not_name_is_left_out(run: Path, tmp_path: Path) -> None:
    keep = Keep.read(run / "keep.parquet")
    other: Pack = pack_shard(write_shard(tmp_path / "z.parquet", texts_of(5)), cache=tmp_path / "cache")
    train, held = keep.apply(Documents.of([other]))
    assert len(train) == 0 and held is None


def test_near_copies_of_the_real_corpus_are_not_trained_on(shared: Path, tmp_path: Path) -> None:
    """PowerShell's documentation has a page per version: of those, one is trained on."""
    (tmp_path / "s").mkdir()
    for i in range(4):
        table = pq.read_table(shared / "corpus" / f"train-{i:05}-of-00016.parquet", columns=["text", "dump"])
        own = pc.or_(pc.equal(table["dump"], "MicrosoftDocs/PowerShell-Docs"), pc.equal(table["dump"], "python/peps"))
        pq.write_table(table.filter(own), tmp_path / "s" / f"{i}.parquet")
    (tmp_path / "r.toml").write_text('deduplicate = "near"\n[filter]\nsource = ["MicrosoftDocs/PowerShell-Docs"]\n')
    changes = {"data.paths": [str(tmp_path / "s")], "data.recipe": str(tmp_path / "r.toml"), "train.max_steps": 4}
    folder = launch.create(resolve(overrides={**TINY, **changes, "eval.every": 0}), tmp_path / "runs")
    process = start(folder)
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    facts = data_of(folder)
    stages = {stage["name"]: stage["documents"] for stage in facts["recipe"]["stages"]}
    assert stages["near copies once"] < 0.9 * stages["exact copies once"] <= stages["filter"] < stages["with text"]
    assert facts["documents"] + facts["held_out"]["documents"] == stages["near copies once"]
    assert facts["tokens"] == facts["effective_unique_tokens"]["mid"]
