"""A recipe applied: which rows of which shard are trained on, which are held out, and what that leaves.

In this order: the filters; copies are taken away; documents are held out. Held out are whole groups of copies, so that
none of a held-out document's copies is trained on; which groups depends on nothing but their texts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data import near, statistics
from data.catalogue import Catalogue, FileProblem, ShardFile
from data.choice import HELD_OUT, TRAIN, Choice, Stage, write_keep
from data.database import release
from data.files import ShardError
from data.passing import Documents, Passing, judged
from data.recipe import Recipe, RecipeError

__all__ = ["HELD_OUT", "TRAIN", "Choice", "Stage", "choose", "write_keep"]

DEFAULT_FRACTION = 0.01

I64 = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Progress = Callable[[str, float], None]


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
    fit = judged(recipe, catalogue)
    with statistics.documents(
        fit.catalogue,
        exact_tokens=count,
        encoding=encoding,
        cache=cache,
        on_progress=on_progress,
        cancelled=cancelled,
    ) as (cursor, files, found):
        errors = [*fit.errors, *(e for e in found.errors if e not in fit.errors)]
        passing = Passing(cursor, recipe, cancelled)
        for index, file in enumerate(files):
            if file.path in {entry.file for entry in found.by_file}:
                try:
                    passing.add(index, file)
                except ShardError as error:
                    errors.append(FileProblem.of(file.path, error))
                    passing.forget(index)
        table = passing.table()
        note = _note(found)
    groups = _near_groups(recipe, fit.catalogue, files, table, errors, cache, on_progress, cancelled)
    return _Choosing(recipe, files, table, groups, errors, note).choose(default_fraction if held_out else None)


def _near_groups(
    recipe: Recipe,
    catalogue: Catalogue,
    files: Sequence[ShardFile],
    table: Documents,
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

    cursor = catalogue.cursor()
    release(cursor)
    cursor.close()
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
    table: Documents
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


def _note(found: statistics.Statistics) -> str:
    bases = sorted({entry.tokens_basis for entry in found.by_file})
    words = {
        statistics.COUNTED: "tokens counted",
        statistics.COLUMN: "tokens of the token_count column, confirmed by a sample",
        statistics.ESTIMATED: "tokens estimated from a sample",
    }
    return "; ".join(words[basis] for basis in bases)
