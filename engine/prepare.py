"""From a configuration's paths to the documents of a run: packing, split, ``data.json``. Torch-free."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data.files import ShardError
from data.packed import Pack, default_cache, inputs, pack_shards
from engine import config
from engine.config import Config
from engine.corpus import Documents, Split, split
from engine.errors import RunError
from engine.keep import FILE_NAME as KEEP_NAME
from engine.keep import Keep

FILE_NAME = "data.json"


@dataclass(frozen=True, eq=False)
class Prepared:
    """The data of a run. ``facts`` is what ``data.json`` holds, ``fingerprint`` a hash of all packed content."""

    split: Split
    eot: int
    fingerprint: str
    facts: dict[str, Any]


def prepare(c: Config, run_dir: Path, *, cancelled: Callable[[], bool], say: Callable[[str], None] = print) -> Prepared:
    """Pack what is not packed, split, and write ``data.json`` (or, where it exists, check that nothing changed).

    A shard that cannot be read is named in ``errors`` and left out, as long as another is left.

    Raises:
        ShardError, data.packed.Cancelled: as ``pack_shards``.
        RunError: nothing to train on, an encoding larger than the model's vocabulary, or other data than the run
            began with.
    """
    if not c.data.paths:
        raise RunError("data.paths is empty: name parquet files, folders or globs, --set data.paths=shards/")
    keep = Keep.read(run_dir / KEEP_NAME) if c.data.recipe else None
    errors: list[dict[str, str]] = []
    packs = _pack(c.data, c.data.paths, errors, cancelled, say)
    held = _pack(c.data, c.data.val_paths, errors, cancelled, say) if c.data.val_paths else []
    _check_encoding(c, [*packs, *held])
    try:
        documents, held_out = Documents.of(packs), Documents.of(held) if held else None
        if keep is not None:
            documents, chosen = keep.apply(documents)
            held_out = held_out or chosen
        parts = split(documents, held_out, c.data.val_fraction)
    except ValueError as error:
        raise RunError(f"data.paths: {error}: the shards hold {len(documents):,} documents; add shards") from None
    facts = _facts(c, packs, held, parts, errors)
    if keep is not None:
        facts.update(keep.facts(parts.train))
        facts["held_out"]["near_leaked_documents"] = None if held else keep.near_leaked
        known = {error["file"] for error in errors}
        errors += [error for error in keep.errors if error["file"] not in known]
    _write(run_dir / FILE_NAME, facts)
    described = [_content(f) for f in (*facts["files"], *facts["val_files"])]
    chosen_by = [keep.digest] if keep is not None else []
    digest = hashlib.sha256(json.dumps([facts["encoding"], described, *chosen_by]).encode()).hexdigest()[:16]
    return Prepared(parts, packs[0].eot, digest, facts)


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
    errors: list[dict[str, str]],
    cancelled: Callable[[], bool],
    say: Callable[[str], None],
) -> list[Pack]:
    shards = inputs(paths)
    last = [0.0]

    def progress(path: str, done: int, total: int) -> None:
        if time.monotonic() - last[0] > 2:
            last[0] = time.monotonic()
            say(f"packing {Path(path).name}: {done:,} of {total:,} rows")

    def failed(path: str, error: ShardError) -> None:
        errors.append({"file": path, "error": str(error)})

    packs = list(
        pack_shards(
            shards,
            encoding=d.encoding,
            column=d.column,
            cache=Path(d.cache).expanduser() if d.cache else default_cache(),
            on_progress=progress,
            on_error=failed,
            cancelled=cancelled,
        )
    )
    if not packs:
        more = f" (and {len(errors) - 1} more shards that cannot be read)" if len(errors) > 1 else ""
        raise RunError(errors[0]["error"] + more if errors else f"{paths[0]}: no shard to train on")
    return packs


def _check_encoding(c: Config, packs: list[Pack]) -> None:
    for pack in packs:
        if (pack.encoding, pack.eot) != (packs[0].encoding, packs[0].eot) or pack.encoding != c.data.encoding:
            raise RunError(
                f"{pack.folder}: packed with encoding {pack.encoding}, the run has data.encoding {c.data.encoding}; "
                "pack it again or change data.encoding"
            )
    needed = max(pack.vocab_size for pack in packs)
    if c.model.vocab_size < needed:
        raise RunError(
            f"model.vocab_size {c.model.vocab_size} is smaller than the {needed} tokens of encoding "
            f"{c.data.encoding}; set model.vocab_size={-(-needed // 64) * 64}"
        )


def _facts(
    c: Config, packs: list[Pack], held: list[Pack], parts: Split, errors: list[dict[str, str]]
) -> dict[str, Any]:
    return {
        "files": [_file(p) for p in packs],
        "val_files": [_file(p) for p in held],
        "recipe": None,
        "encoding": c.data.encoding,
        "documents": len(parts.train),
        "tokens": parts.train.total,
        "unique_documents": len(parts.unique),
        "unique_tokens": parts.unique.total,
        "effective_unique_tokens": None,
        "held_out": {
            "documents": len(parts.held_out),
            "tokens": parts.held_out.total,
            "leaked_documents": parts.leaked,
            "near_leaked_documents": None,
        },
        "errors": errors,
    }


def _file(pack: Pack) -> dict[str, Any]:
    return {**pack.identity.to_dict(), "documents": pack.documents, "tokens": len(pack.tokens)}


def _content(file: dict[str, Any]) -> list[Any]:
    """What of a file decides the run: its bytes and what was packed from them, not where it lies or when it came."""
    return [file.get(key) for key in ("size", "footer", "rows", "documents", "tokens")]


def _write(path: Path, facts: dict[str, Any]) -> None:
    """Write ``data.json``; if it is there, it must tell of the same data: a run never changes what it trains on."""
    try:
        before = json.loads(path.read_bytes())
    except FileNotFoundError:
        before = None
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read ({error}); delete it to let the run describe its data again") from None
    if before is not None:
        if not isinstance(before, dict):
            raise RunError(f"{path}: not a description of data; delete it to let the run describe its data again")
        _compare(path, before, facts)
        return
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(json.dumps(facts, indent=1))
    temporary.replace(path)


def _compare(path: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    advice = "put the shards back as they were, or start a new run"
    for key in ("files", "val_files"):
        old = {f["path"]: f for f in before.get(key, [])}
        new = {f["path"]: f for f in now[key]}
        for name in old.keys() - new.keys():
            why = next((e["error"] for e in now["errors"] if e["file"] == name), "it is gone")
            raise RunError(f"{name}: the run began with this shard, but {why}; {advice}")
        for name in new.keys() - old.keys():
            raise RunError(f"{name}: this shard was not there when the run began; {advice}")
        for name, file in new.items():
            if _content(file) != _content(old[name]):
                raise RunError(f"{name}: the shard has changed since the run began; {advice}")
    if (before.get("recipe") or {}).get("digest") != (now["recipe"] or {}).get("digest"):
        raise RunError(
            f"{path}: the run began with another recipe or keep-list; restore {KEEP_NAME} or start a new run"
        )
    held = [{**facts["held_out"], "near_leaked_documents": None} for facts in ({"held_out": {}, **before}, now)]
    if before.get("encoding") != now["encoding"] or held[0] != held[1]:
        raise RunError(f"{path}: the run began with another split or encoding; restore config.toml or start a new run")
