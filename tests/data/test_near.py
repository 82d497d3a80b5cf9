from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data import sketches as module
from data.catalogue import Catalogue
from data.clusters import Clusters
from data.files import ShardError
from data.near import clusters, connect
from data.sketch import SCHEMA, sketch
from data.sketches import sketch_shard, sketch_shards
from data.verify import KEPT, jaccard
from data.workers import Cancelled
from tests.data.planted import edited, prose, word_jaccard
from tests.data.test_packed import flip


def clustered(*paths: Path, cache: Path, **options) -> Clusters:
    with Catalogue(paths) as catalogue:
        return clusters(catalogue, cache=cache, **options)


def groups(found: Clusters) -> set[frozenset[int]]:
    members: dict[int, set[int]] = {}
    for document, root in enumerate(found.representative.tolist()):
        members.setdefault(root, set()).add(document)
    return {frozenset(group) for group in members.values() if len(group) > 1}


def test_planted_pairs_are_found_and_nothing_else(tmp_path: Path, write_shard) -> None:
    generator = random.Random(7)
    texts, pairs = [], []
    for _ in range(400):
        one = prose(generator, generator.randrange(60, 500))
        other, similarity = edited(generator, one, generator.uniform(0.55, 1.0))
        pairs.append((len(texts), len(texts) + 1, similarity))
        texts += [one, other]
    order = list(range(len(texts)))
    generator.shuffle(order)
    place = {document: at for at, document in enumerate(order)}
    half = len(order) // 2
    a = write_shard("a.parquet", [texts[i] for i in order[:half]])
    b = write_shard("b.parquet", [texts[i] for i in order[half:]])
    found = clustered(a, b, cache=tmp_path)
    together = [found.representative[place[i]] == found.representative[place[j]] for i, j, _ in pairs]
    near = [t for t, (_, _, s) in zip(together, pairs, strict=True) if s >= 0.8]
    far = [t for t, (_, _, s) in zip(together, pairs, strict=True) if s < 0.8]
    assert len(near) > 120 and len(far) > 120
    assert sum(near) / len(near) >= 0.96 and sum(far) == 0  # candidates are verified, exactly for such lengths
    assert sum(len(group) - 1 for group in groups(found)) == sum(near)  # and no strangers


def test_duplicate_of_what(tmp_path: Path, write_shard) -> None:
    generator = random.Random(1)
    page = prose(generator, 300)
    versions = [page, *(page.replace(page.split()[40 * i], f"v{i}", 1) for i in range(1, 5))]
    other = prose(generator, 300)
    a = write_shard("a.parquet", [None, versions[0], other, versions[1], ""])
    b = write_shard("b.parquet", [versions[2], other, versions[3], versions[4], versions[4], "short", "short"])
    found = clustered(a, b, cache=tmp_path)
    first, second, third = found.largest()
    assert (first.documents, first.exact_copies, first.file, first.row) == (6, 1, str(a), 1)
    assert (second.documents, second.exact_copies, second.row) == (2, 1, 2)
    assert (third.documents, third.file, third.row) == (2, str(b), 5)  # exact copies, however short
    members = found.members(first.id)
    assert [(Path(m.file).name, m.row, m.exact) for m in members] == [
        ("a.parquet", 1, False), ("a.parquet", 3, False), ("b.parquet", 0, False), ("b.parquet", 2, False),
        ("b.parquet", 3, False), ("b.parquet", 4, True),
    ]  # fmt: skip
    assert members[0].similarity == 1 and all(0.8 < m.similarity <= 1 for m in members)
    assert found.members(found.find(str(b), 4)) == members and found.find(str(a), 4) is None
    assert found.near_duplicates().sum() == 4 and found.exact_duplicates().sum() == 3
    kept = np.flatnonzero(found.representative == np.arange(len(found)))
    assert [found.place(int(i)) for i in kept] == [(str(a), 1), (str(a), 2), (str(b), 5)]
    wasted = first.wasted
    found.weigh(np.ones(len(found)))
    assert wasted > 1000 and found.largest(1)[0].wasted == 5


def test_short_documents_are_in_no_cluster_but_their_copies(tmp_path: Path, write_shard) -> None:
    found = clustered(write_shard("a.parquet", ["a b c d", "a b c e", "x", "y", "...", "…", "a b c d"]), cache=tmp_path)
    assert groups(found) == {frozenset({0, 6})}


def test_a_cluster_is_what_pairs_connect() -> None:
    parent = np.arange(8)
    connect(parent, np.array([5, 1, 6]), np.array([4, 0, 5]))
    connect(parent, np.array([4]), np.array([1]))
    assert parent.tolist() == [0, 0, 2, 3, 0, 0, 0, 7]


def test_sketches_are_kept_by_identity_and_found_damaged(tmp_path: Path, write_shard) -> None:
    path = write_shard("x.parquet", [f"some words of document {i} " * 20 for i in range(30)])
    made = sketch_shard(str(path), cache=tmp_path)
    before = Path(made.path).stat().st_mtime_ns
    assert sketch_shard(str(path), cache=tmp_path) == made and Path(made.path).stat().st_mtime_ns == before
    original = Path(made.path).read_bytes()
    for damage in (original[:-1], original[:200] + bytes([original[200] ^ 4]) + original[201:], b""):
        Path(made.path).write_bytes(damage)
        again = sketch_shard(str(path), cache=tmp_path)
        assert Path(again.path).read_bytes() == original
    write_shard("x.parquet", ["other"])
    other = sketch_shard(str(path), cache=tmp_path)
    assert other.documents == 1 and other.path != made.path
    assert pq.read_schema(other.path).equals(SCHEMA)


def test_another_algorithms_sketches_are_not_found(tmp_path: Path, write_shard, monkeypatch) -> None:
    path = write_shard("x.parquet", ["one two three four five six"])
    made = sketch_shard(str(path), cache=tmp_path)
    monkeypatch.setattr(module, "algorithm", lambda: {"kernel": "another"})
    assert sketch_shard(str(path), cache=tmp_path).path != made.path


def test_a_file_replaced_while_it_is_sketched_is_not_kept(tmp_path: Path, write_shard, monkeypatch) -> None:
    path = write_shard("x.parquet", [f"document {i} of many words" for i in range(600)])

    def replaced(rows, texts):
        write_shard("new.parquet", ["owt"]).replace(path)
        return sketch(rows, texts)

    monkeypatch.setattr(module, "sketch", replaced)
    with pytest.raises(ShardError, match="changed while"):
        sketch_shard(str(path), cache=tmp_path / "cache")
    assert not list((tmp_path / "cache" / "sketches").iterdir())


def test_bad_shards_are_named_and_the_rest_is_clustered(tmp_path: Path, write_shard) -> None:
    text = "the same long text of more than five words " * 9
    good = write_shard("good.parquet", [text, text])
    bad = write_shard("bad.parquet", [f"document {i} " + "words " * (i % 17) for i in range(300)])
    flip(bad)
    told: dict[str, str] = {}
    found = clustered(good, bad, cache=tmp_path, on_error=lambda path, error: told.update({path: str(error)}))
    assert list(told) == [str(bad)] and groups(found) == {frozenset({0, 1})}
    with pytest.raises(ShardError):
        clustered(good, bad, cache=tmp_path)


def test_text_that_is_no_utf8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    raw = pa.array([b"fine text", b"\xff\xfe bad"], pa.binary())
    pq.write_table(pa.table({"text": pa.Array.from_buffers(pa.string(), 2, raw.buffers())}), path)
    with pytest.raises(ShardError, match="UTF-8"):
        sketch_shard(str(path), cache=tmp_path)


def test_cancelled_work_is_resumed_from_what_is_done(tmp_path: Path, write_shard) -> None:
    paths = [str(write_shard(f"{i}.parquet", [f"text {i} {j} " * 50 for j in range(40)])) for i in range(6)]
    seen: set[str] = set()
    with pytest.raises(Cancelled):
        sketch_shards(paths, cache=tmp_path, workers=1, on_progress=lambda path, *_: seen.add(path),
                      cancelled=lambda: len(seen) >= 3)  # fmt: skip
    done = len(list((tmp_path / "sketches").glob("*.sketch.parquet")))
    assert 2 <= done < 6 and not list((tmp_path / "sketches").glob(".sketching-*"))
    again: set[str] = set()
    assert len(sketch_shards(paths, cache=tmp_path, workers=1, on_progress=lambda path, *_: again.add(path))) == 6
    assert len(again) == 6 - done


def test_wide_types_and_nulls(tmp_path: Path) -> None:
    texts = ["one two three four five six", None, "", "one two three four five six"]
    for kind in (pa.large_string(), pa.dictionary(pa.int32(), pa.string()), pa.string_view()):
        path = tmp_path / "x.parquet"
        array = pa.array(texts, pa.string())
        array = array.dictionary_encode() if pa.types.is_dictionary(kind) else array.cast(kind)
        pq.write_table(pa.table({"text": array}), path)
        found = clustered(path, cache=tmp_path)
        assert found.rows.tolist() == [0, 3] and found.exact.tolist() == [0, 0]


def test_similarity_of_words_is_what_the_plants_say() -> None:
    assert word_jaccard("a b c d e f", "A, b c d e. F") == 1.0
    assert word_jaccard("a b c d e f", "a b c d e g") == pytest.approx(1 / 3)


def test_similarity_of_long_documents_is_sampled_fairly() -> None:
    generator = np.random.default_rng(2)
    for size, shared in ((300, 240), (5000, 4200), (20_000, 12_000), (2100, 2000)):
        common = generator.integers(0, 1 << 32, shared)
        a, b = (
            np.unique(np.concatenate((common, generator.integers(0, 1 << 32, size - shared))).astype(np.uint32))
            for _ in range(2)
        )
        truth = len(np.intersect1d(a, b)) / len(np.union1d(a, b))
        told = jaccard(a[:KEPT], b[:KEPT])
        assert told == pytest.approx(truth, abs=0.05 if size > KEPT else 1e-12)
    assert jaccard(a[:0], b[:0]) == 0
