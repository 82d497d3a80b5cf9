"""A recipe applied: which rows of which shard are trained on, which are held out, and what that leaves.

In this order: the filters; copies are taken away; documents are held out. Held out are whole groups of copies, so that
none of a held-out document's copies is trained on; which groups depends on nothing but their texts.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from data import near, statistics
from data.catalogue import ROW, SCAN, Catalogue, FileProblem, ShardFile, escaped, interruptible, quoted, reading
from data.files import FileIdentity, ShardError, unchanged
from data.filters import conditions
from data.recipe import Recipe, RecipeError
from data.workers import Cancelled

KEEP_NAME = "keep.parquet"
KEEP_FORMAT = 1
TRAIN, HELD_OUT = "train", "heldout"
DEFAULT_FRACTION = 0.01

I64 = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Stage:
    """What is left after one step of a recipe. Tokens without separators."""

    name: str
    documents: int
    tokens: int


@dataclass
class Choice:
    """A recipe's effect on some shards.

    Attributes:
        rows: by file, rows trained on and rows held out: int64, ascending.
        stages: from "with text" to what is kept, in order.
        unique_tokens, effective_tokens: of the training documents, exact copies once; near copies once (None where
            near copies were not looked for).
        leaked_documents, near_leaked_documents: held-out documents of which an exact, or a near copy is trained on,
            as measured; None where near copies were not looked for.
        tokens_note: where the token counts come from.
    """

    recipe: Recipe
    files: list[FileIdentity]
    rows: dict[str, tuple[I64, I64]]
    stages: list[Stage]
    train_documents: int
    train_tokens: int
    unique_documents: int
    unique_tokens: int
    effective_documents: int | None
    effective_tokens: int | None
    held_out_documents: int
    held_out_tokens: int
    leaked_documents: int
    near_leaked_documents: int | None
    tokens_note: str
    errors: list[FileProblem] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """All but the rows, as plain JSON values."""
        left_out = ("recipe", "files", "rows")
        plain = {name: value for name, value in vars(self).items() if name not in left_out}
        return {
            "deduplicate": self.recipe.deduplicate,
            **plain,
            "stages": [asdict(stage) for stage in self.stages],
            "errors": [asdict(error) for error in self.errors],
        }

    def epochs(self, planned_tokens: float) -> tuple[float, float | None]:
        """Passes that so many tokens make over the training tokens, and over the effective ones."""
        effective = self.effective_tokens
        return (
            planned_tokens / self.train_tokens if self.train_tokens else math.inf,
            None if effective is None else planned_tokens / effective if effective else math.inf,
        )


def choose(
    recipe: Recipe,
    catalogue: Catalogue,
    *,
    held_out: bool = True,
    default_fraction: float = DEFAULT_FRACTION,
    exact_tokens: bool | None = None,
    encoding: str = "gpt2",
    cache: Path | None = None,
    on_progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Choice:
    """Apply a recipe. A file that cannot be read, or lacks a column of a filter, is named in ``errors`` and left out.

    Args:
        held_out: False where held-out documents come from elsewhere; then none are chosen here.
        default_fraction: of the documents kept, held out where the recipe does not say.
        exact_tokens: count every token (the shards are packed); by default where the recipe filters by tokens.
        cache: of packs and sketches, by default the user's.

    Raises RecipeError where no document passes, ShardError, Cancelled.
    """
    count = exact_tokens
    if count is None:
        count = (recipe.filter.min_tokens, recipe.filter.max_tokens) != (None, None)
    judged = _judged(recipe, catalogue)
    with statistics.documents(
        judged.catalogue,
        exact_tokens=count,
        encoding=encoding,
        cache=cache,
        on_progress=on_progress,
        cancelled=cancelled,
    ) as (cursor, files, found):
        errors = [*judged.errors, *(e for e in found.errors if e not in judged.errors)]
        passing = _Passing(cursor, recipe, cancelled)
        for index, file in enumerate(files):
            if file.path in {entry.file for entry in found.by_file}:
                try:
                    passing.add(index, file)
                except ShardError as error:
                    errors.append(FileProblem.of(file.path, error))
                    passing.forget(index)
        table = passing.table()
        note = _note(found)
    groups = _near_groups(recipe, judged.catalogue, files, table, errors, cache, on_progress, cancelled)
    return _Choosing(recipe, files, table, groups, errors, note).choose(default_fraction if held_out else None)


def write_keep(choice: Choice, recipe_text: str, path: Path) -> None:
    """Write the keep-list: columns file, row, split; the recipe, its effect and the shards' identities as metadata.

    The engine reads it (``engine.keep``). Written whole or not at all; raises OSError.
    """
    about = {
        "format": KEEP_FORMAT,
        "recipe": recipe_text,
        "files": [identity.to_dict() for identity in choice.files],
        "effect": choice.to_dict(),
    }
    names = [identity.path for identity in choice.files]
    numbers: list[I64] = []
    places: list[I64] = []
    splits: list[I64] = []
    for index, name in enumerate(names):
        for split, rows in enumerate(choice.rows.get(name, ())):
            numbers.append(rows)
            places.append(np.full(len(rows), index, np.int64))
            splits.append(np.full(len(rows), split, np.int64))
    table = pa.table(
        {
            "file": pa.DictionaryArray.from_arrays(pa.array(_joined(places), pa.int32()), pa.array(names, pa.string())),
            "row": _joined(numbers),
            "split": pa.DictionaryArray.from_arrays(pa.array(_joined(splits), pa.int8()), pa.array([TRAIN, HELD_OUT])),
        }
    ).replace_schema_metadata({"gptbench": json.dumps(about)})
    temporary = path.with_name(f".{path.name}.part")
    pq.write_table(table, temporary, compression="zstd")
    temporary.replace(path)


@dataclass
class _Judged:
    catalogue: Catalogue
    errors: list[FileProblem]


def _judged(recipe: Recipe, catalogue: Catalogue) -> _Judged:
    """The files that the filters can be asked of, as a catalogue; those that lack a column are errors."""
    lacking: list[FileProblem] = []
    paths = []
    for file in catalogue.files:
        try:
            recipe.check_columns(file.columns)
        except ShardError as error:
            lacking.append(FileProblem.of(file.path, error))
            continue
        paths.append(file.path)
    if not paths:
        problem = (lacking or catalogue.errors or [FileProblem("recipe", "no shard was given")])[0]
        raise RecipeError(f"{problem.file}: {problem.error}")
    if not lacking:
        return _Judged(catalogue, list(catalogue.errors))
    return _Judged(Catalogue(paths, column=catalogue.column), [*catalogue.errors, *lacking])


@dataclass(frozen=True)
class _Table:
    """Documents, ordered by file and row. ``passes``: bool, of the filters."""

    file: I64
    row: I64
    hash: npt.NDArray[np.uint64]
    bytes: I64
    tokens: npt.NDArray[np.float64]
    passes: Mask


class _Passing:
    """The filters, asked of each file."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, recipe: Recipe, cancelled: Callable[[], bool] | None) -> None:
        self.cursor, self.recipe, self.cancelled = cursor, recipe, cancelled
        self.cursor.execute("CREATE OR REPLACE TEMP TABLE passing (file INTEGER, row BIGINT)")

    def add(self, index: int, file: ShardFile) -> None:
        text, f = quoted(file.text_column or ""), self.recipe.filter
        where, values = conditions(f.on_columns(), file.columns)
        for sign, bound in ((">=", f.min_characters), ("<=", f.max_characters)):
            if bound is not None:
                where += f" AND length({text}) {sign} {int(bound)}"
        if self.cancelled is not None and self.cancelled():
            raise Cancelled
        with interruptible(self.cursor, self.cancelled), reading(file.path):
            self.cursor.execute(
                f"INSERT INTO passing SELECT {index}, {ROW} FROM {SCAN} WHERE {where} AND {text} <> ''",
                [escaped(file.path), *values],
            )
        unchanged(file.identity)

    def forget(self, index: int) -> None:
        self.cursor.execute("DELETE FROM passing WHERE file = ?", [index])
        self.cursor.execute("DELETE FROM documents WHERE file = ?", [index])

    def table(self) -> _Table:
        low, high = self.recipe.filter.min_tokens, self.recipe.filter.max_tokens
        found = self.cursor.execute(
            """SELECT file, row, hash, bytes, tokens, passing.row IS NOT NULL AND tokens BETWEEN ? AND ? AS passes
               FROM documents LEFT JOIN passing USING (file, row) ORDER BY file, row""",
            [low or 0, math.inf if high is None else high],
        ).fetchnumpy()
        return _Table(
            found["file"].astype(np.int64), found["row"].astype(np.int64), found["hash"].astype(np.uint64),
            found["bytes"].astype(np.int64), found["tokens"].astype(np.float64), np.asarray(found["passes"], bool),
        )  # fmt: skip


def _near_groups(
    recipe: Recipe,
    catalogue: Catalogue,
    files: Sequence[ShardFile],
    table: _Table,
    errors: list[FileProblem],
    cache: Path | None,
    on_progress: Progress | None,
    cancelled: Callable[[], bool] | None,
) -> I64 | None:
    """Each document's cluster of near copies, int64 [documents]; -1 for those of a file that could not be sketched."""
    if not recipe.needs_near:
        return None

    def failed(path: str, error: ShardError) -> None:
        if path not in {problem.file for problem in errors}:
            errors.append(FileProblem.of(path, error))

    clusters = near.clusters(catalogue, cache=cache, on_progress=on_progress, on_error=failed, cancelled=cancelled)
    try:
        groups = np.full(len(table.row), -1, np.int64)
        index_of = {file.path: index for index, file in enumerate(files)}
        for path, begin, end in zip(clusters.files, clusters.base[:-1], clusters.base[1:], strict=True):
            here = np.flatnonzero(table.file == index_of.get(path, -1))
            rows = clusters.rows[begin:end]
            if not len(here) or not len(rows):
                continue
            at = np.minimum(np.searchsorted(rows, table.row[here]), len(rows) - 1)
            same = rows[at] == table.row[here]
            groups[here[same]] = clusters.representative[begin + at[same]]
        return groups
    finally:
        clusters.close()


@dataclass
class _Choosing:
    recipe: Recipe
    files: Sequence[ShardFile]
    table: _Table
    near: I64 | None
    errors: list[FileProblem]
    note: str

    def choose(self, fraction: float | None) -> Choice:
        table, recipe = self.table, self.recipe
        exact = _numbered(table.hash, table.bytes)
        known = np.ones(len(exact), bool) if self.near is None else self.near >= 0
        stages = [self.stage("with text", known)]
        kept = table.passes & known
        if recipe.filter != type(recipe.filter)():
            stages.append(self.stage("filter", kept))
        if recipe.deduplicate != "none":
            kept = _first(exact, kept)
            stages.append(self.stage("exact copies once", kept))
        if recipe.deduplicate == "near":
            assert self.near is not None
            kept = _first(self.near, kept)
            stages.append(self.stage("near copies once", kept))
        if not kept.any():
            raise RecipeError(f"recipe: none of {len(kept):,} documents passes; relax its filters")
        apart = exact if recipe.held_out.apart == "exact" or self.near is None else self.near
        held = np.zeros(len(kept), bool)
        if fraction is not None:
            held = self.held_out(kept, apart, fraction)
        train = kept & ~held
        if not train.any():
            raise RecipeError(f"recipe: all {int(kept.sum()):,} documents are held out; hold out fewer")
        unique = _first(exact, train)
        effective = None if self.near is None else _first(self.near, train)
        return Choice(
            recipe=recipe,
            files=[file.identity for index, file in enumerate(self.files) if (known & (table.file == index)).any()],
            rows={
                file.path: (
                    table.row[train & (table.file == index)],
                    table.row[held & (table.file == index)],
                )
                for index, file in enumerate(self.files)
            },
            stages=stages,
            train_documents=int(train.sum()),
            train_tokens=self.tokens(train),
            unique_documents=int(unique.sum()),
            unique_tokens=self.tokens(unique),
            effective_documents=None if effective is None else int(effective.sum()),
            effective_tokens=None if effective is None else self.tokens(effective),
            held_out_documents=int(held.sum()),
            held_out_tokens=self.tokens(held),
            leaked_documents=int(np.isin(exact[held], exact[train]).sum()),
            near_leaked_documents=None if self.near is None else int(np.isin(self.near[held], self.near[train]).sum()),
            tokens_note=self.note,
            errors=self.errors,
        )

    def held_out(self, kept: Mask, apart: I64, fraction: float) -> Mask:
        """Whole groups, in the order of their smallest hash, until enough documents are held out; a group larger than
        what is still wanted is passed over (unless nothing is held out without it)."""
        given = self.recipe.held_out
        documents = np.flatnonzero(kept)
        share = fraction if given.fraction is None else given.fraction
        wanted = given.documents or max(1, math.ceil(share * len(documents)))
        groups, inverse, sizes = np.unique(apart[documents], return_inverse=True, return_counts=True)
        smallest = np.full(len(groups), np.iinfo(np.uint64).max, np.uint64)
        np.minimum.at(smallest, inverse, self.table.hash[documents])
        order = np.argsort(smallest, kind="stable")
        chosen = np.zeros(len(groups), bool)
        left = wanted
        for group in order:
            if left <= 0:
                break
            if sizes[group] <= left:
                chosen[group] = True
                left -= int(sizes[group])
        if not chosen.any():
            chosen[order[np.argmin(sizes[order])]] = True
        held = np.zeros(len(kept), bool)
        held[documents[chosen[inverse]]] = True
        return held

    def stage(self, name: str, which: Mask) -> Stage:
        return Stage(name, int(which.sum()), self.tokens(which))

    def tokens(self, which: Mask) -> int:
        return round(float(self.table.tokens[which].sum()))


def _numbered(hashes: npt.NDArray[np.uint64], sizes: I64) -> I64:
    """A number for each distinct text, int64 [documents]."""
    order = np.lexsort((sizes, hashes))
    new = np.ones(len(order), np.int64)
    new[1:] = (hashes[order][1:] != hashes[order][:-1]) | (sizes[order][1:] != sizes[order][:-1])
    numbers = np.zeros(len(order), np.int64)
    numbers[order] = np.cumsum(new)
    return numbers


def _first(groups: I64, among: Mask) -> Mask:
    """The first document of each group among some, bool [documents]."""
    chosen = np.flatnonzero(among)
    _, first = np.unique(groups[chosen], return_index=True)
    mask = np.zeros(len(among), bool)
    mask[chosen[first]] = True
    return mask


def _joined(parts: list[I64]) -> I64:
    return np.concatenate([np.zeros(0, np.int64), *parts]).astype(np.int64)


def _note(found: statistics.Statistics) -> str:
    bases = sorted({entry.tokens_basis for entry in found.by_file})
    words = {
        statistics.COUNTED: "tokens counted",
        statistics.COLUMN: "tokens of the token_count column, confirmed by a sample",
        statistics.ESTIMATED: "tokens estimated from a sample",
    }
    return "; ".join(words[basis] for basis in bases)
