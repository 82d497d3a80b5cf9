from __future__ import annotations

import importlib
import random
from pathlib import Path

import numpy as np
import pytest

from data import estimate as estimates
from data import probe
from data import worth as worths
from data.boilerplate import boilerplate, line_text
from data.catalogue import Catalogue
from data.estimate import Interval, Part, Repeated, Sample, estimate, weigh
from data.files import identify
from data.near import clusters
from data.statistics import statistics
from tests.data.planted import prose

NOTICE = "This notice stands on every page of the site, whatever the page is about."


def shards(write_shard, generator: random.Random) -> list[Path]:
    """Two shards: 60 pages of their own, five versions of one, an exact copy, a notice on twelve pages."""
    pages = [prose(generator, generator.randrange(150, 400)) for _ in range(60)]
    pages[:12] = [f"{page}\n{NOTICE}\n" for page in pages[:12]]
    page = prose(generator, 500)
    versions = [page.replace(page.split()[90 * i + 7], f"v{i}", 1) for i in range(5)]
    return [
        write_shard("a.parquet", [*pages[:30], *versions[:2]], counted=True),
        write_shard("b.parquet", [*pages[30:], *versions[2:], pages[40]], counted=True),
    ]


def test_what_each_kind_takes_away(write_shard) -> None:
    paths = shards(write_shard, random.Random(3))
    with Catalogue(paths) as catalogue:
        result = statistics(catalogue, near="exact")
        found = result.worth
        assert found is not None and found.clusters is not None
        texts = {p: [catalogue.document(f, r) for r in range(f.rows)] for f in catalogue.files for p in [f.path]}
        tokens = {
            f.path: [row["token_count"] for row in catalogue.page(f, 0, 99, ["token_count"])] for f in catalogue.files
        }
    a, b = map(str, paths)
    assert result.worth_basis == "exact" and found.basis == "exact"
    assert found.exact_duplicate_tokens == tokens[b][-1]
    assert found.near_duplicate_tokens == tokens[a][31] + sum(tokens[b][30:33])
    assert found.near_duplicate_rows == result.near_duplicate_rows == 4
    # Eleven of the twelve pages with the notice give up its share of their bytes.
    share = [t * len(NOTICE) / len(x) for t, x in zip(tokens[a][1:12], texts[a][1:12], strict=True)]
    assert found.boilerplate_tokens == pytest.approx(sum(share), abs=3)
    assert found.lines[0].documents == 12 and found.lines[0].row == 0
    assert line_text(texts[a][0] or "", found.lines[0].hash) == NOTICE
    left = found.tokens - found.exact_duplicate_tokens - found.near_duplicate_tokens - found.boilerplate_tokens
    assert found.effective_tokens == found.low == found.high == left == result.effective_tokens
    assert sum(f.effective_tokens for f in found.per_file) == left
    assert [f.near_duplicate_rows for f in found.per_file] == [1, 3]
    assert [e.effective_tokens for e in result.by_file] == [f.effective_tokens for f in found.per_file]


def test_versions_of_a_page_are_no_boilerplate(tmp_path: Path, write_shard) -> None:
    page = "\n".join(f"line {i} of a page that comes in many versions and nowhere else" for i in range(40))
    path = write_shard("x.parquet", [page.replace("line 7 ", f"line {v} ") for v in range(40, 52)])
    with Catalogue([path]) as catalogue:
        found = clusters(catalogue, cache=tmp_path)
    assert len(found.largest()) == 1 and boilerplate(found).mass.sum() == 0


def test_the_interval_of_estimated_tokens_is_part_of_it(write_shard, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = random.Random(4)
    monkeypatch.setattr("data.tokens.BLOCK", 64)
    path = write_shard("x.parquet", [prose(generator, 200) for _ in range(200)])
    with Catalogue([path]) as catalogue:
        found = statistics(catalogue, near="exact").worth
    assert found is not None and found.low < found.effective_tokens < found.high


def test_a_shard_damaged_meanwhile_is_named_and_leaves_the_answer(write_shard, monkeypatch) -> None:
    a, b = shards(write_shard, random.Random(5))
    real = worths.sketch_shards

    def meanwhile(paths, **options):
        write_shard("new.parquet", ["other"]).replace(b)
        return real(paths, **options)

    monkeypatch.setattr(worths, "sketch_shards", meanwhile)
    with Catalogue([a, b]) as catalogue:
        result = statistics(catalogue, near="exact")
    assert [Path(e.file).name for e in result.errors] == ["b.parquet"] and result.files == 1
    assert result.near_duplicate_rows == 1 and result.exact_duplicate_rows == 0
    assert result.effective_tokens < result.unique_tokens == result.tokens


def drawn(sizes: list[int], generator: np.random.Generator, share: float, alike: float) -> tuple[Interval, float]:
    """One draw from clusters of these sizes, whose pairs share a key with probability ``alike``: the estimate of the
    redundant tokens, and the truth. Lengths are log-normal, three orders of magnitude wide."""
    cluster = np.repeat(np.arange(len(sizes)), sizes)
    length = np.repeat(np.exp(generator.normal(6, 1.3, len(sizes))), sizes)
    # A key of its own for some; the others share their cluster's.
    apart = generator.random(len(cluster)) > np.sqrt(alike)
    key = np.where(apart, len(sizes) + np.arange(len(cluster)), cluster)
    chances = probe.chances(key.astype(np.uint64), np.ceil(length).astype(np.int64), share * length.sum())
    u = generator.random(int(key.max()) + 1)[key]
    seen = np.flatnonzero(u < chances.drawn)
    shared, own = 40, round(40 * (1 - alike) / (2 * alike))
    anchors = [
        np.concatenate((cluster[i] * 1000 + np.arange(shared), 10**9 + i * 1000 + np.arange(own))).astype(np.uint64)
        for i in seen
    ]
    sample = Sample(chances.drawn[seen], chances.alone[seen], np.unique(key[seen], return_inverse=True)[1], anchors)
    redundant, beside = np.zeros(len(seen)), np.ones(len(seen))
    for group in np.unique(cluster[seen]):
        members = np.flatnonzero(cluster[seen] == group)
        if len(members) > 1:
            redundant[members], beside[members] = estimates._redundant(sample, members)
    nothing = Repeated(Interval(0, 0, 0), np.zeros(len(seen)))
    found = weigh(length[seen], sample, (redundant, beside), nothing).near_tokens
    return found, float((length * (1 - 1 / np.repeat(sizes, sizes))).sum())


@pytest.mark.parametrize(
    ("sizes", "share"),
    [([1] * 2000 + [2] * 150 + [5] * 60, 0.2), ([1] * 1000 + [5] * 200, 0.1), ([1] * 1500 + [2] * 40 + [30] * 5, 0.2)],
)
def test_the_interval_covers_whatever_the_clusters(sizes: list[int], share: float) -> None:
    generator = np.random.default_rng(11)
    trials = [drawn(sizes, generator, share, 0.85) for _ in range(150)]
    covered = np.mean([found.low <= truth <= found.high for found, truth in trials])
    ratio = np.mean([found.value / truth for found, truth in trials])
    assert covered >= 0.86 and 0.93 < ratio < 1.07, (covered, ratio)


def test_nothing_found_is_not_nothing() -> None:
    sample = Sample(np.full(50, 0.1), np.full(50, 0.1), np.arange(50), [np.zeros(0, np.uint64)] * 50)
    found = weigh(
        np.full(50, 100.0), sample, (np.zeros(50), np.ones(50)), Repeated(Interval(0, 0, 0), np.zeros(50))
    ).near_tokens
    assert found.value == 0 == found.low and 1000 < found.high < 5000
    everything = Sample(np.ones(50), np.ones(50), np.arange(50), sample.anchors)
    found = weigh(
        np.full(50, 100.0), everything, (np.zeros(50), np.ones(50)), Repeated(Interval(0, 0, 0), np.zeros(50))
    ).near_tokens
    assert found == Interval(0, 0, 0)


def test_an_estimate_from_files(write_shard) -> None:
    paths = shards(write_shard, random.Random(6))
    parts = []
    for path in paths:
        with Catalogue([path]) as catalogue:
            file = catalogue.files[0]
            sizes = np.array([len((catalogue.document(file, r) or "").encode()) for r in range(file.rows)])
        rows = np.arange(file.rows)[: -1 if path.name == "b.parquet" else None]  # without the exact copy
        parts.append(Part(identify(path), rows, sizes[rows], sizes[rows] / 4))
    found = estimate(parts)  # so little text is all drawn
    page = parts[0].tokens[-1]
    assert found.sampled == 65 and found.near_rows == Interval(4, 4, 4)
    assert found.near_tokens.value == pytest.approx(4 * page, rel=0.01)
    assert found.boilerplate_tokens.value == pytest.approx(11 * len(NOTICE) / 4, rel=0.1)
    small = estimate(parts, budget=30_000, seed=2)
    assert 5 < small.sampled < 60 and small.near_rows.low <= 4 <= small.near_rows.high


def here(function, jobs, **_):
    """Jobs in this process: twelve draws need no sixty new ones."""
    module, _, name = function.partition(":")
    call = getattr(importlib.import_module(module), name)
    for index, job in enumerate(jobs):
        yield index, call(**job, on_progress=lambda *_: None)


def test_the_intervals_of_shards_and_of_boilerplate_cover(write_shard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole draws from files with planted versions and notices, against the exact count."""
    generator = random.Random(12)
    paths = []
    for index in range(2):
        pages = [prose(generator, generator.randrange(80, 200)) for _ in range(80)]
        pages = [f"{page}\n{NOTICE}" if i % 3 == 0 else page for i, page in enumerate(pages)]
        for i in range(12):
            pages += [pages[i].replace(pages[i].split()[20 + v], f"v{v}", 1) for v in range(1 + i % 3)]
        paths.append(write_shard(f"{index}.parquet", pages, counted=True))
    with Catalogue(paths) as catalogue:
        truth = statistics(catalogue, near="exact").worth
        assert truth is not None and truth.clusters is not None
        found = truth.clusters
        parts = [
            Part(file.identity, found.rows[a:b], found.bytes[a:b], found.weights[a:b])
            for file, a, b in zip(catalogue.files, found.base[:-1].tolist(), found.base[1:].tolist(), strict=True)
        ]
    assert truth.exact_duplicate_tokens == 0
    covered: dict[str, list[bool]] = {"near": [], "boilerplate": [], "taken": [], "shard": []}
    budget = 0.4 * float(found.bytes.sum())
    monkeypatch.setattr("data.workers.run", here)
    for seed in range(12):
        guess = estimate(parts, budget=budget, seed=seed)
        near, lines = truth.near_duplicate_tokens, truth.boilerplate_tokens
        for name, interval, value in (
            ("near", guess.near_tokens, near),
            ("boilerplate", guess.boilerplate_tokens, lines),
            ("taken", guess.taken, near + lines),
            *(
                ("shard", part.taken, share.near_duplicate_tokens + share.boilerplate_tokens)
                for part, share in zip(guess.parts, truth.per_file, strict=True)
            ),
        ):
            covered[name].append(interval.low - 1 <= value <= interval.high + 1)
        assert sum(part.taken.value for part in guess.parts) == pytest.approx(guess.taken.value, rel=1e-6)
    assert all(sum(hits) >= 0.8 * len(hits) for hits in covered.values()), covered


def test_the_real_corpus(shared: Path) -> None:
    with Catalogue([shared / "corpus"]) as catalogue:
        found = statistics(catalogue, near="exact").worth
        assert found is not None and found.clusters is not None
        assert found.near_duplicate_rows == pytest.approx(1365, abs=3) and found.exact_duplicate_tokens == 3612
        assert found.effective_tokens == pytest.approx(37_135_991, rel=0.001)
        # Version pages of PowerShell's documentation: the same page for 5.1, 7.4, 7.5 …
        largest = found.clusters.largest(10)
        assert all(2 <= cluster.documents <= 8 for cluster in largest)
        files = {file.path: file for file in catalogue.files}
        sources = {
            catalogue.page(files[m.file], m.row, 1, ["dump"])[0]["dump"]
            for cluster in largest[:5]
            for m in found.clusters.members(cluster.id)
        }
        assert "MicrosoftDocs/PowerShell-Docs" in sources
