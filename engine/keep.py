"""The keep-list of a recipe: which rows of which shard a run trains on, and which it holds out. Torch- and DuckDB-free.

The workbench resolves a recipe before the launch (``data.choose`` writes the list); here it is only applied.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.corpus import Documents, Ints
from engine.errors import RunError

FILE_NAME = "keep.parquet"
FORMAT = 1
SPLITS = ("train", "heldout")
_CONTENT = ("size", "footer", "rows")  # of a shard's identity: its bytes, not when they came


@dataclass(frozen=True, eq=False)
class Keep:
    """A keep-list.

    Attributes:
        rows: by file, rows trained on and rows held out: int64, ascending.
        files: identity of each file as it was when the recipe was resolved.
        recipe: its text. effect: what it did, as ``data.choose.Choice.to_dict()``. digest: hash of the whole list.
    """

    path: Path
    rows: dict[str, tuple[Ints, Ints]]
    files: dict[str, dict[str, Any]]
    recipe: str
    effect: dict[str, Any]
    digest: str

    @classmethod
    def read(cls, path: Path) -> Keep:
        """Read a run's ``keep.parquet``. Raises RunError where it is absent or no keep-list."""
        import pyarrow.parquet as pq

        try:
            table = pq.read_table(path)
            about = json.loads((table.schema.metadata or {})[b"gptbench"])
            if about["format"] != FORMAT:
                raise RunError(f"{path}: a keep-list of format {about['format']}, not {FORMAT}; start the run anew")
            names, of_file = _encoded(table["file"])
            kinds, of_split = _encoded(table["split"])
            numbers = table["row"].to_numpy().astype(np.int64)
            files = {str(file["path"]): dict(file) for file in about["files"]}
            rows = {}
            digest = hashlib.blake2b(digest_size=16)
            for name in files:
                here = of_file == names.get(name, -1)
                parts = [np.sort(numbers[here & (of_split == kinds.get(split, -1))]) for split in SPLITS]
                rows[name] = parts[0], parts[1]
                for part in parts:
                    digest.update(f"{name}\0{len(part)}\0".encode("utf-8", "surrogateescape") + part.tobytes())
            return cls(path, rows, files, str(about["recipe"]), dict(about["effect"]), digest.hexdigest())
        except FileNotFoundError:
            raise RunError(
                f"{path}: missing; data.recipe is resolved by gptbench train (or branch) before the launch"
            ) from None
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise RunError(f"{path}: no keep-list ({type(error).__name__}: {error}); start the run anew") from None

    @property
    def near_leaked(self) -> int | None:
        """Held-out documents of which a near copy is trained on, as measured; None where that was not looked for."""
        value = self.effect.get("near_leaked_documents")
        return value if isinstance(value, int) else None

    @property
    def errors(self) -> list[dict[str, str]]:
        """Shards that the recipe could not be asked of."""
        return [{"file": str(e["file"]), "error": str(e["error"])} for e in self.effect.get("errors", [])]

    def apply(self, documents: Documents) -> tuple[Documents, Documents | None]:
        """The documents trained on, and those held out (None where the list holds out none).

        Raises RunError where a shard is no longer the one that the recipe was resolved for, or lacks a row.
        """
        masks = [np.zeros(len(documents), bool) for _ in SPLITS]
        for index, pack in enumerate(documents.packs):
            stated = self.files.get(pack.identity.path)
            if stated is None:
                continue
            identity = pack.identity.to_dict()
            if any(identity[key] != stated.get(key) for key in _CONTENT):
                raise RunError(
                    f"{pack.identity.path}: the shard has changed since the recipe was resolved; start a new run"
                )
            here = np.flatnonzero(documents.pack == index)
            rows = np.asarray(pack.rows)[documents.index[here]]
            for mask, wanted in zip(masks, self.rows[pack.identity.path], strict=True):
                found: npt.NDArray[np.bool_] = np.isin(rows, wanted, assume_unique=True)
                if int(found.sum()) != len(wanted):
                    raise RunError(
                        f"{pack.identity.path}: {len(wanted) - int(found.sum()):,} rows of the keep-list hold no text "
                        "here; start a new run"
                    )
                mask[here[found]] = True
        train, held = masks
        return documents.take(train), documents.take(held) if held.any() else None

    def facts(self, train: Documents) -> dict[str, Any]:
        """What ``data.json`` says of the recipe, and the effective unique tokens of the training documents.

        Tokens of the list's own count are without separators, and may be an estimate: their share of the training
        tokens is what is taken.
        """
        effective = None
        share, of = self.effect.get("effective_tokens"), self.effect.get("train_tokens")
        if isinstance(share, int) and isinstance(of, int) and of > 0:
            value = round(train.total * min(1.0, share / of))
            effective = {"low": value, "mid": value, "high": value}
        about = {key: value for key, value in self.effect.items() if key != "errors"}
        return {
            "recipe": {"text": self.recipe, "digest": self.digest, **about},
            "effective_unique_tokens": effective,
        }


def _encoded(column: Any) -> tuple[dict[str, int], Ints]:
    """A column of texts as numbers: number by text, and int64 [rows]."""
    encoded = column.combine_chunks()
    if not hasattr(encoded, "indices"):
        encoded = encoded.dictionary_encode()
    texts = {str(text): number for number, text in enumerate(encoded.dictionary.to_pylist())}
    return texts, encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
