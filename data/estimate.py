"""Near duplicates and boilerplate estimated from a sample, with a 90% interval; any cluster size.

Why not a sample of rows: of a cluster of k, a sample at rate p sees k p documents, so it must divide pairs by p², which
is right for pairs alone, and no sample of rows tells many clusters of two from few of five (Charikar et al. 2000). Here
documents are drawn by a key that near duplicates share (``probe``), so a cluster comes whole, or nearly, and weighs
1/π (Horvitz & Thompson 1952). What may be missing is known: document j is seen beside i with probability
q = s + (1 - s) π_j, s being the similarity of their anchors. The share of i that its copies make redundant, (k - 1)/k,
is estimated by  Σ_j (1/q_j) / (2 + Σ_{l≠j} 1/q_l),  which is right for a pair, and for any cluster where q is 1.

The price: all text is read twice, once for its keys; a share of it is sketched.
"""

from __future__ import annotations

import itertools
import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from data import near, probe
from data import workers as processes
from data.boilerplate import DOCUMENTS
from data.clusters import Clusters
from data.database import scratch
from data.files import FileIdentity, ShardError, giants
from data.intervals import Interval, interval, plus
from data.sketches import Sketches

BUDGET_BYTES = 32e6  # of text that is sketched, at least
BUDGET_SHARE = 0.05
LINES_AT_MOST = 8e6  # beyond, lines are sampled
_BYTES_A_LINE = 110  # text to a line that counts, about
_LARGEST = 512  # documents of a cluster whose anchors are compared pair by pair

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Part:
    """A shard's distinct documents: their rows (ascending), and each one's bytes and tokens."""

    identity: FileIdentity
    rows: I64
    bytes: I64
    tokens: F64


@dataclass(frozen=True)
class Estimate:
    """Of distinct documents: tokens in near duplicates, in boilerplate, in both together (``taken``, whose interval is
    narrower than the two's: what one has too many, the other has too few); near-duplicate rows; documents sampled.
    ``parts``: the same of each part given, in their order; values sum to the whole's."""

    near_tokens: Interval
    near_rows: Interval
    boilerplate_tokens: Interval
    taken: Interval
    sampled: int
    parts: list[Estimate] = field(default_factory=list)


def estimate(
    parts: list[Part],
    *,
    column: str = "text",
    budget: float | None = None,
    seed: int = 0,
    workers: int | None = None,
    on_progress: Callable[[str, float], None] | None = None,
    on_error: Callable[[str, ShardError], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Estimate:
    """Draw, sketch, cluster, weigh.

    Args:
        budget: bytes of text to sketch; by default a twentieth of all, 32 MB at least. At all of it near duplicates
            are exact.
        on_error: told of a shard that cannot be read, which then counts as without duplicates; else raised.
    """
    total = float(sum(int(part.bytes.sum()) for part in parts))
    share = min(1.0, LINES_AT_MOST * _BYTES_A_LINE / max(1.0, total))
    failed: set[int] = set()

    def on_all(function: str, stage: str, **options: Any) -> None:
        """A job on each part that did not fail; what a job returns goes to ``made``."""
        todo = [index for index in range(len(parts)) if index not in failed]
        done: dict[int, float] = {}

        def step(job: int, values: list[int]) -> None:
            done[job] = values[0] / max(1, values[1])
            if on_progress is not None:
                on_progress(stage, sum(done.values()) / len(todo))

        jobs = [
            {"path": parts[i].identity.path, "identity": parts[i].identity.to_dict(), "column": column, "seed": seed,
             "output": f"{folder}/{i}", "rows": f"{folder}/{i}.npy",
             **{name: value(i) for name, value in options.items()}}
            for i in todo
        ]  # fmt: skip
        count = workers or processes.cores()
        alone = {job for job, work in enumerate(jobs) if giants(work["path"], column)}
        for job, value in processes.run(
            function, jobs, workers=count, alone=alone, on_progress=step, cancelled=cancelled
        ):
            if isinstance(value, ShardError):
                if on_error is None:
                    raise value
                failed.add(todo[job])
                on_error(parts[todo[job]].identity.path, value)
            else:
                made[todo[job]] = value

    made: dict[int, Any] = {}
    with tempfile.TemporaryDirectory(prefix="gptbench-sample-") as folder:
        for index, part in enumerate(parts):
            np.save(f"{folder}/{index}.npy", part.rows)
        on_all("data.probe:look", "looking at documents", line_share=lambda i: share, number=lambda i: i << 40)
        good = [index for index in range(len(parts)) if index not in failed]
        empty = np.zeros(0, np.uint64)
        key = np.concatenate([empty, *(np.load(f"{folder}/{i}.keys.npy") for i in good)])
        sizes = np.concatenate([np.zeros(0, np.int64), *(parts[i].bytes for i in good)])
        chance = probe.chances(key, sizes, budget if budget is not None else max(BUDGET_BYTES, BUDGET_SHARE * total))
        drawn = probe.draws(key, seed) < chance.drawn
        at = np.cumsum([0, *(len(parts[i].rows) for i in good)])
        chosen = {i: np.flatnonzero(drawn[at[n] : at[n + 1]]) for n, i in enumerate(good)}
        for i in good:
            np.save(f"{folder}/{i}.npy", parts[i].rows[chosen[i]])
        on_all("data.probe:draw", "sampling documents")
        left = [i for i in good if i not in failed]
        places = np.concatenate([np.zeros(0, np.int64), *(chosen[i] + at[good.index(i)] for i in left)])
        files = [Sketches(parts[i].identity, f"{folder}/{i}.sample", made[i]) for i in left]
        found = near.join(files, column=column, on_progress=on_progress, on_error=on_error, cancelled=cancelled)
        try:
            found.weigh(np.concatenate([np.zeros(0), *(parts[i].tokens[chosen[i]] for i in left)]))
            numbers = [parts[i].rows[chosen[i]] + (i << 40) for i in left]
            sample = Sample(
                chance.drawn[places],
                chance.alone[places],
                np.unique(key[places], return_inverse=True)[1],
                _anchors([sketches.path for sketches in files]),
            )
            repeated = _repeated(
                [f"{folder}/{i}.lines" for i in left],
                np.concatenate([np.zeros(0, np.int64), *numbers]),
                _population(parts),
                share,
            )
            redundant = redundancy(found, sample)
            whole = weigh(found.weights, sample, redundant, repeated)
            owner = np.concatenate([np.zeros(0, np.int64), *(np.full(len(chosen[i]), i) for i in left)])
            return replace(whole, parts=split(found, sample, redundant, repeated, owner, len(parts)))
        finally:
            found.close()


@dataclass(frozen=True)
class Sample:
    """Of the documents drawn: π, and what it were for a document with a key of its own (float64 [documents]); the
    number of their key (int64 [documents]); their anchors, each once."""

    chance: F64
    alone: F64
    key: I64
    anchors: list[npt.NDArray[np.uint64]]

    def by_key(self, values: F64, seen: F64) -> tuple[F64, F64]:
        """Sums over the documents of each key, which are drawn together, and the probability that they count: that of
        the key, times that of its documents' copies to be seen beside them."""
        sums: F64 = np.bincount(self.key, values).astype(np.float64)
        chance = np.bincount(self.key, values * self.chance * seen)
        return sums, np.divide(chance, sums, out=np.ones(len(sums)), where=sums > 0)


def _anchors(paths: list[str]) -> list[npt.NDArray[np.uint64]]:
    found: list[npt.NDArray[np.uint64]] = []
    for path in paths:
        column = pq.read_table(path, columns=["anchors"])["anchors"].combine_chunks()
        if len(column):
            flat, offsets = column.values.to_numpy(), column.offsets.to_numpy()
            found += [flat[a:b] for a, b in itertools.pairwise(offsets.tolist())]
    return found


def _population(parts: list[Part]) -> pa.Table:
    numbers = [part.rows + (index << 40) for index, part in enumerate(parts)]
    rates = [part.tokens / np.maximum(1, part.bytes) for part in parts]
    return pa.table(
        {
            "document": np.concatenate([np.zeros(0, np.int64), *numbers]),
            "rate": np.concatenate([np.zeros(0), *rates]),
        }
    )


def redundancy(found: Clusters, sample: Sample) -> tuple[F64, F64]:
    """The share of each sampled document that its copies make redundant, 0 for one without, and the probability with
    which these are seen beside it: float64 [documents] each."""
    share, seen = np.zeros(len(found)), np.ones(len(found))
    for members in _clusters(found):
        share[members], seen[members] = _redundant(sample, members)
    return share, seen


@dataclass(frozen=True)
class Repeated:
    """Tokens in repeated lines over all documents, beyond each line's first appearance: ``total`` (sampled lines add
    its interval), and ``drawn``, float64 [documents drawn]; ``parts``: the total of each part that has any."""

    total: Interval
    drawn: F64
    parts: dict[int, Interval] = field(default_factory=dict)


def weigh(tokens: F64, sample: Sample, redundant: tuple[F64, F64], repeated: Repeated) -> Estimate:
    """From documents drawn (their tokens, their ``redundancy``) to all."""
    share, seen = redundant
    expected = share / sample.chance
    return _weigh(tokens, sample, expected, expected * _without(tokens, repeated), seen, repeated.total)


def split(
    found: Clusters, sample: Sample, redundant: tuple[F64, F64], repeated: Repeated, owner: I64, parts: int
) -> list[Estimate]:
    """The estimate of each part; ``owner``: int64 [documents drawn], the part of each.

    What a cluster's copies take is charged to all of its documents drawn but the first, as the exact count does.
    """
    share, seen = redundant
    expected, tokens = share / sample.chance, found.weights
    besides = _without(tokens, repeated)
    charged, other = expected.copy(), expected * besides
    for members in _clusters(found):
        later = members[1:]
        for masses, sizes in ((charged, tokens), (other, besides)):
            mass = float((expected[members] * sizes[members]).sum())
            weights = tokens[later] / sample.chance[later]
            masses[members[0]] = 0.0
            masses[later] = mass * weights / max(float(weights.sum()), 1e-9)
            if masses is charged:
                masses[later] /= np.maximum(tokens[later], 1e-9)
    nothing = Interval(0.0, 0.0, 0.0)
    found_parts = []
    for part in range(parts):
        here = owner == part
        total = repeated.parts.get(part, nothing)
        guess = _weigh(tokens, sample, charged * here, other * here, seen, total)
        found_parts.append(replace(guess, sampled=int(here.sum())))
    return found_parts


def _without(tokens: F64, repeated: Repeated) -> F64:
    """Tokens of the documents drawn that lie in no repeated line: float64 [documents]."""
    return np.maximum(0.0, tokens - repeated.drawn)


def _weigh(tokens: F64, sample: Sample, expected: F64, besides: F64, seen: F64, total: Interval) -> Estimate:
    """From ``expected``, the redundant documents that each one drawn stands for; ``besides``, their tokens that lie in
    no repeated line; ``total``, tokens in repeated lines."""
    # Where nothing was found, a document drawn could have been a duplicate unseen: a heavy one.
    open_ = sample.chance < 1
    heavy = float(np.quantile(tokens[open_] / sample.chance[open_], 0.9)) if open_.any() else 0.0
    usual = float(np.median(1 / sample.chance[open_])) if open_.any() else 0.0
    near_tokens = interval(*sample.by_key(expected * tokens, seen), heavy)
    other = interval(*sample.by_key(besides, seen), heavy)
    taken = plus(total, other)
    # Lines of near duplicates are charged to these. Which pages are versions of one is known of those drawn only, so
    # boilerplate alone is what is left of ``taken``, and no surer than both: its own sampling error is too small.
    left = max(0.0, taken.value - near_tokens.value)
    return Estimate(
        near_tokens=near_tokens,
        near_rows=interval(*sample.by_key(expected, seen), usual),
        boilerplate_tokens=Interval(
            left,
            max(0.0, left - math.hypot(taken.value - taken.low, near_tokens.high - near_tokens.value)),
            left + math.hypot(taken.high - taken.value, near_tokens.value - near_tokens.low),
        ),
        taken=taken,
        sampled=len(tokens),
    )


def _clusters(found: Clusters) -> Iterator[I64]:
    """The members of each cluster of more than one."""
    order = np.argsort(found.representative, kind="stable")
    _, begins = np.unique(found.representative[order], return_index=True)
    for members in np.split(order, begins[1:]):
        if len(members) > 1:
            yield members


def _redundant(sample: Sample, members: I64) -> tuple[F64, F64]:
    """``redundancy`` of one cluster's documents: float64 [members] each."""
    size = len(members)
    if size > _LARGEST:
        return np.full(size, (size - 1) / size), np.ones(size)
    sets = [sample.anchors[i] for i in members]
    _, places = np.unique(np.concatenate(sets), return_inverse=True)
    width = int(places.max(initial=-1)) + 1
    holds = np.zeros((size, width), np.float32)
    holds[np.repeat(np.arange(size), [len(s) for s in sets]), places] = 1
    shared = (holds @ holds.T).astype(np.float64)
    lengths = np.diag(shared)
    alike = shared / np.maximum(1.0, lengths[:, None] + lengths[None, :] - shared)
    seen = alike + (1 - alike) * sample.alone[members][None, :]
    weight = 1 / np.clip(seen, 1e-3, 1.0)
    np.fill_diagonal(weight, 0.0)
    others = 2 + weight.sum(axis=1, keepdims=True) - weight
    mean = (seen.sum(axis=1) - np.diag(seen)) / (size - 1)
    return (weight / others).sum(axis=1), mean


def _repeated(paths: list[str], drawn: I64, population: pa.Table, share: float) -> Repeated:
    """Lines that ``DOCUMENTS`` families hold (a page in many versions is one family): bytes times 1 - 1/families.

    Args:
        drawn: int64, the numbers of the documents drawn; ``population``: every document's ``document`` (number) and
            ``rate`` (tokens a byte).
    """
    if not paths:
        return Repeated(Interval(0.0, 0.0, 0.0), np.zeros(0))
    with scratch("512MB") as database:
        database.register("population", population)
        database.execute(
            f"""CREATE TEMP TABLE shares AS WITH often AS MATERIALIZED (
                SELECT line FROM read_parquet($1) GROUP BY line HAVING count(*) >= {DOCUMENTS}),
            repeated AS MATERIALIZED (
                SELECT line, count(DISTINCT family) AS families FROM read_parquet($1) SEMI JOIN often USING (line)
                GROUP BY line HAVING families >= {DOCUMENTS})
            SELECT line, document, sum(bytes) * (1 - 1 / any_value(families)) AS bytes
            FROM read_parquet($1) JOIN repeated USING (line) GROUP BY line, document""",
            [paths],
        )
        documents = database.execute(
            """SELECT document, sum(bytes) * any_value(rate) AS mass
            FROM shares JOIN population USING (document) GROUP BY document ORDER BY document"""
        ).fetchnumpy()
        lines = database.execute(
            """SELECT document >> 40 AS part, sum(bytes * rate) AS mass
            FROM shares JOIN population USING (document) GROUP BY part, line"""
        ).fetchnumpy()
        total = database.execute(
            "SELECT sum(bytes * rate) AS mass FROM shares JOIN population USING (document) GROUP BY line"
        ).fetchnumpy()["mass"]
    mass = np.asarray(documents["mass"], np.float64) / share
    at = np.searchsorted(documents["document"], drawn)
    has = np.flatnonzero(np.append(documents["document"], -1)[at] == drawn)
    of_drawn = np.zeros(len(drawn))
    of_drawn[has] = mass[at[has]]

    def over(masses: Any) -> Interval:
        return interval(np.asarray(masses, np.float64) / share, np.full(len(masses), share), 0.0)

    which = np.asarray(lines["part"], np.int64)
    by_part = {int(part): over(lines["mass"][which == part]) for part in np.unique(which)}
    return Repeated(over(total), of_drawn, by_part)
