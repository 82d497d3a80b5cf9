"""Which documents pass a recipe's filters: asked of each file by DuckDB, joined with what every document is."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import duckdb
import numpy as np
import numpy.typing as npt

from data.catalogue import ROW, SCAN, Catalogue, FileProblem, ShardFile, escaped, interruptible, quoted, reading
from data.files import ShardError, unchanged
from data.filters import conditions
from data.packed import Pack, find_packs
from data.recipe import Recipe, RecipeError
from data.workers import Cancelled

I64 = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass
class Judged:
    """The files that the filters can be asked of, and what is wrong with the others."""

    catalogue: Catalogue
    errors: list[FileProblem]


def judged(recipe: Recipe, catalogue: Catalogue) -> Judged:
    """The files that the filters can be asked of, as a catalogue; those that lack a column are errors.

    Raises RecipeError for a pack folder among the paths, and where no file is left.
    """
    for path in catalogue.paths:
        if found := find_packs(path):
            raise RecipeError(
                f"{path}: a recipe chooses from parquet shards, not from packs; name the parquet files instead "
                f"(this holds what was packed from {Pack.open(found[0], verify=False).identity.path})"
            )
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
        return Judged(catalogue, list(catalogue.errors))
    return Judged(Catalogue(paths, column=catalogue.column), [*catalogue.errors, *lacking])


@dataclass(frozen=True)
class Documents:
    """Documents, ordered by file and row. ``passes``: bool, of the filters."""

    file: I64
    row: I64
    hash: npt.NDArray[np.uint64]
    bytes: I64
    tokens: npt.NDArray[np.float64]
    passes: Mask


class Passing:
    """The filters, asked of each file, on the cursor of ``statistics.documents``. Raises ShardError, Cancelled."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, recipe: Recipe, cancelled: Callable[[], bool] | None) -> None:
        self.cursor, self.recipe, self.cancelled = cursor, recipe, cancelled
        self.cursor.execute("CREATE OR REPLACE TEMP TABLE passing (file INTEGER, row BIGINT)")

    def add(self, index: int, file: ShardFile) -> None:
        """Ask them of a file, number ``index`` in the table of documents."""
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
        """Take a file's documents away."""
        self.cursor.execute("DELETE FROM passing WHERE file = ?", [index])
        self.cursor.execute("DELETE FROM documents WHERE file = ?", [index])

    def table(self) -> Documents:
        """All documents, and whether they pass, the filter by tokens included."""
        low, high = self.recipe.filter.min_tokens, self.recipe.filter.max_tokens
        found = self.cursor.execute(
            """SELECT file, row, hash, bytes, tokens, passing.row IS NOT NULL AND tokens BETWEEN ? AND ? AS passes
               FROM documents LEFT JOIN passing USING (file, row) ORDER BY file, row""",
            [low or 0, math.inf if high is None else high],
        ).fetchnumpy()
        return Documents(
            found["file"].astype(np.int64), found["row"].astype(np.int64), found["hash"].astype(np.uint64),
            found["bytes"].astype(np.int64), found["tokens"].astype(np.float64), np.asarray(found["passes"], bool),
        )  # fmt: skip
