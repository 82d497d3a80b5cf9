"""A recipe's effect on some shards, and the keep-list in which it is handed to the engine."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from data.catalogue import FileProblem
from data.files import FileIdentity
from data.recipe import Recipe

KEEP_FORMAT = 1
TRAIN, HELD_OUT = "train", "heldout"

I64 = npt.NDArray[np.int64]


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


def _joined(parts: list[I64]) -> I64:
    return np.concatenate([np.zeros(0, np.int64), *parts]).astype(np.int64)
