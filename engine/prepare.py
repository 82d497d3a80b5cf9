"""From a configuration's paths to the documents of a run: packing, split, ``data.json``. Torch-free."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data.files import ShardError
from data.packed import Pack, inputs, pack_shards
from engine import config, streaming
from engine.config import Config
from engine.corpus import Documents, split
from engine.described import FILE_NAME, Prepared, check_encoding, facts_of, file_of, fingerprint, read, write
from engine.errors import RunError
from engine.feed import progress
from engine.keep import FILE_NAME as KEEP_NAME
from engine.keep import Keep


def prepare(
    c: Config, run_dir: Path, *, cancelled: Callable[[], bool], say: Callable[[str], None] = print,
    decides: bool = True, packs: bool = True,
) -> Prepared:  # fmt: skip
    """Pack what is not packed, split, and write ``data.json`` (or, where it exists, check that nothing changed).

    Where shards are still to be packed, only the first of them are waited for: see ``engine.streaming``.
    A shard that cannot be read is named in ``errors`` and left out, as long as another is left.

    Args:
        decides: this process writes ``data.json`` (rank 0). packs: it packs for its machine.

    Raises:
        ShardError, data.packed.Cancelled: as ``pack_shards``.
        RunError: nothing to train on, an encoding larger than the model's vocabulary, or other data than the run
            began with.
    """
    if not c.data.paths:
        raise RunError("data.paths is empty: name parquet files, folders or globs, --set data.paths=shards/")
    before = read(run_dir / FILE_NAME)
    keep = Keep.read(run_dir / KEEP_NAME) if c.data.recipe else None
    errors: list[dict[str, Any]] = []
    if keep is None and streaming.wanted(c, before):
        held = _pack(c.data, c.data.val_paths, errors, cancelled, say) if c.data.val_paths else []
        prepared = streaming.prepare(
            c, run_dir, before, held, errors, cancelled=cancelled, say=say, decides=decides, packs=packs
        )
        if prepared is not None:
            return prepared
        errors = []
    packed = _pack(c.data, c.data.paths, errors, cancelled, say)
    held = _pack(c.data, c.data.val_paths, errors, cancelled, say) if c.data.val_paths else []
    check_encoding(c, [*packed, *held])
    try:
        documents, held_out = Documents.of(packed), Documents.of(held) if held else None
        if keep is not None:
            documents, chosen = keep.apply(documents)
            held_out = held_out or chosen
        parts = split(documents, held_out, c.data.val_fraction)
    except ValueError as error:
        raise RunError(f"data.paths: {error}: the shards hold {len(documents):,} documents; add shards") from None
    facts = facts_of(c, [file_of(p) for p in packed], held, parts, errors)
    if keep is not None:
        facts.update(keep.facts(parts.train))
        facts["held_out"]["near_leaked_documents"] = None if held else keep.near_leaked
        named = {error["file"] for error in errors}
        errors += [error for error in keep.errors if error["file"] not in named]
    write(run_dir / FILE_NAME, facts)
    chosen_by = [keep.digest] if keep is not None else []
    return Prepared(parts, packed[0].eot, fingerprint(facts, *chosen_by), facts)


def byte_lengths(encoding: str, size: int) -> npt.NDArray[np.int64]:
    """UTF-8 bytes of each token, int64 [size]; 0 for special tokens and unused ids."""
    from data.encoding import load

    table = load(encoding)
    special = {table.encode_single_token(text) for text in table.special_tokens_set}
    lengths = np.zeros(size, np.int64)
    for token in range(min(size, table.n_vocab)):
        if token not in special:
            try:
                lengths[token] = len(table.decode_single_token_bytes(token))
            except KeyError:
                continue
    return lengths


def _pack(
    d: config.Data,
    paths: Sequence[str],
    errors: list[dict[str, Any]],
    cancelled: Callable[[], bool],
    say: Callable[[str], None],
) -> list[Pack]:
    shards = inputs(paths)

    def failed(path: str, error: ShardError) -> None:
        errors.append({"file": path, "error": str(error)})

    packs = list(
        pack_shards(
            shards,
            encoding=d.encoding,
            column=d.column,
            cache=streaming.cache_of(d),
            on_progress=progress(say),
            on_error=failed,
            cancelled=cancelled,
        )
    )
    if not packs:
        more = f" (and {len(errors) - 1} more shards that cannot be read)" if len(errors) > 1 else ""
        raise RunError(errors[0]["error"] + more if errors else f"{paths[0]}: no shard to train on")
    return packs
