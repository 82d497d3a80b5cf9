"""The data of a run that begins before all its shards are packed. Torch-free.

Training starts with the first shards of a seeded order (``engine.feed``). What is held out must then come from them:
the texts with the smallest hashes, as many as of the whole by its row counts but at most a fifth of what is there, so
that the first window holds a fifth of its documents back at most; every exact copy in a later shard is left out of the
training too. The choice (windows, or whole epochs because all was packed already) stands in ``data.json``, where a
resume finds it.

``train.epochs`` needs the tokens of an epoch before they are counted: the shards' own ``token_count`` is taken where
the first shards, counted, agree with it within half a percent; else everything is packed before the first step.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from data.files import FileIdentity
from data.packed import Pack, default_cache, inputs
from data.survey import Shard, stated_tokens, survey
from engine import config
from engine.config import Config
from engine.corpus import Documents, Split, positions, split, unique_documents, without
from engine.described import (
    FILE_NAME,
    Prepared,
    check_encoding,
    compare,
    facts_of,
    file_of,
    fingerprint,
    known,
    replace,
)  # fmt: skip
from engine.feed import Feed, progress, skipped

WINDOW = 4  # shards, where data.shuffle_window is null
LARGEST_SHARE = 5  # at most one in so many documents of the first window is held out
AGREEMENT = 0.005  # between token_count and what was counted
WINDOWS = "windows"


def wanted(c: Config, before: dict[str, Any] | None) -> bool:
    """Whether training may begin before all is packed: what the run began with, else what the configuration says."""
    if before is not None:
        return bool(before.get("order", {}).get("kind") == WINDOWS)
    return c.data.shuffle_window != 0


def cache_of(d: config.Data) -> Path:
    """The folder of packs."""
    return Path(d.cache).expanduser() if d.cache else default_cache()


def prepare(
    c: Config, run_dir: Path, before: dict[str, Any] | None, held: list[Pack], errors: list[dict[str, Any]], *,
    cancelled: Callable[[], bool], say: Callable[[str], None], decides: bool, packs: bool,
) -> Prepared | None:  # fmt: skip
    """Begin to pack, and wait for the first window. None where everything is to be packed before the first step.

    Args:
        before: ``data.json`` of a run that goes on. held: packs of ``data.val_paths``.

    Raises:
        RunError, ShardError, Cancelled: as ``engine.prepare.prepare``.
    """
    path = run_dir / FILE_NAME
    shards = _survey(c, before, path, errors)
    stated = None
    if before is None:
        if len(shards) < 2 or (c.data.shuffle_window is None and all(s.pack is not None for s in shards)):
            return None
        if c.train.epochs is not None and (stated := stated_tokens([s.path for s in shards])) is None:
            say("train.epochs without a token_count column: all shards are packed before the first step")
            return None
    order = np.random.default_rng([c.train.seed, 4]).permutation(len(shards))
    feed = Feed(
        [shards[i] for i in order], c.data, cache_of(c.data), check=lambda pack: check_encoding(c, [pack, *held]),
        skipped=skipped(path), packs=packs, told=None if decides else path,
    )  # fmt: skip
    feed.start(progress(say))
    try:
        prepared = _begin(c, path, before, feed, held, errors, stated and [stated[i] for i in order], cancelled, say)
    except BaseException:
        feed.close()
        raise
    if prepared is None:
        feed.close()
    elif decides:
        _complete_later(path, prepared, before, held)
    return prepared


def _survey(c: Config, before: dict[str, Any] | None, path: Path, errors: list[dict[str, Any]]) -> list[Shard]:
    shards = survey(
        inputs(c.data.paths), encoding=c.data.encoding, column=c.data.column, cache=cache_of(c.data),
        on_error=lambda name, error: errors.append({"file": name, "error": str(error)}),
    )  # fmt: skip
    if before is not None:  # what was left out stays in its place, whatever became of the file
        gone = skipped(path)
        shards = [s for s in shards if s.identity.path not in gone]
        for file in before["files"]:
            if file["path"] in gone:
                identity = FileIdentity(**{k: file[k] for k in FileIdentity.__dataclass_fields__})
                shards.append(Shard(identity.path, identity, None))
        errors[:] = [e for e in errors if e["file"] not in gone]
        errors += [e for e in before.get("errors", []) if e.get("skipped")]
        shards.sort(key=lambda s: s.path)
    return shards


def _begin(
    c: Config, path: Path, before: dict[str, Any] | None, feed: Feed, held: list[Pack], errors: list[dict[str, Any]],
    stated: list[int] | None, cancelled: Callable[[], bool], say: Callable[[str], None],
) -> Prepared | None:  # fmt: skip
    """Wait for the first window and split it."""
    rows = sum(shard.identity.rows for shard in feed.shards)
    given = Documents.of(held) if held else None
    first = before["order"]["first"] if before is not None else None
    taken: list[Pack | None] = []
    documents = Documents.of([])
    while first is None or len(taken) < first:
        if len(taken) == len(feed.shards):
            return None  # all is packed
        if not taken or feed.shards[len(taken)].pack is None:
            say(f"packing {Path(feed.shards[len(taken)].path).name}")
        taken.append(feed.wait(len(taken), cancelled))
        documents = Documents.of([pack for pack in taken if pack is not None])
        if first is None and _enough(c, rows, documents, given):
            first = len(taken)
    if first == len(feed.shards):
        return None
    parts = _split(c, rows, documents, given)
    hashes = np.zeros((0, 2), np.uint64) if given is not None else parts.held_out_unique.hashes
    window = c.data.shuffle_window or WINDOW if before is None else before["order"]["window"]
    feed.cut(first, window, hashes)
    packs = [pack for pack in taken if pack is not None]
    planned = before.get("planned_tokens") if before is not None else None
    if stated is not None and (planned := _planned(feed, taken, stated, parts, given)) is None:
        say("train.epochs: token_count differs from the tokens counted: all shards are packed before the first step")
        return None
    by_path = sorted(feed.shards, key=lambda shard: shard.path)
    files = [{**shard.identity.to_dict(), "documents": None, "tokens": None} for shard in by_path]
    facts = facts_of(c, files, held, None, errors)
    facts["order"] = {
        "kind": WINDOWS, "window": window,
        "first": first, "held_out": hashlib.sha256(parts.held_out_unique.hashes.tobytes()).hexdigest()[:16],
    }  # fmt: skip
    facts["planned_tokens"] = planned
    facts["held_out"].update(documents=len(parts.held_out), tokens=parts.held_out.total)
    if before is not None:
        compare(path, {**before, "held_out": {}}, facts)
        facts = before
    else:
        replace(path, facts)
    return Prepared(parts, packs[0].eot, fingerprint(facts), facts, feed, lambda: _whole(feed, held))


def _held_out_count(c: Config, rows: int, unique: int) -> int:
    return max(1, min(math.ceil(c.data.val_fraction * rows), unique // LARGEST_SHARE))


def _enough(c: Config, rows: int, documents: Documents, given: Documents | None) -> bool:
    """Whether these documents make a first window: some to train on, and enough to hold out that it can be judged."""
    if given is not None:
        return len(documents) > 0
    unique = len(unique_documents(documents))
    return unique // LARGEST_SHARE >= min(math.ceil(c.data.val_fraction * rows), c.eval.documents)


def _split(c: Config, rows: int, documents: Documents, given: Documents | None) -> Split:
    if given is not None:
        return split(documents, given)
    unique = unique_documents(documents)
    chosen = unique.first(_held_out_count(c, rows, len(unique)))
    train = without(documents, chosen.hashes)
    mask = ~np.isin(np.arange(len(documents)), positions(documents, train))
    return Split(train, documents.take(mask), unique.take(np.arange(len(chosen), len(unique))), chosen, 0)


def _planned(
    feed: Feed, taken: list[Pack | None], stated: list[int], parts: Split, given: Documents | None
) -> int | None:
    """Training tokens of an epoch by the shards' own counts; None where they disagree with what was counted."""
    pairs = [(len(pack.tokens) - pack.documents, stated[i]) for i, pack in enumerate(taken) if pack is not None]
    counted, said = sum(p[0] for p in pairs), sum(p[1] for p in pairs)
    if not said or abs(counted / said - 1) > AGREEMENT:
        return None
    rows = sum(shard.identity.rows for shard in feed.shards)
    return round(sum(stated) * counted / said) + rows - (0 if given is not None else parts.held_out.total)


def _whole(feed: Feed, held: list[Pack]) -> Split:
    """The split of all documents. Waits for them."""
    documents, train = Documents.of(feed.packs()), feed.whole()
    if held:
        return split(documents, Documents.of(held))
    out = documents.take(~np.isin(np.arange(len(documents)), positions(documents, train)))
    return Split(train, out, unique_documents(train), unique_documents(out), 0)


def _complete_later(path: Path, prepared: Prepared, before: dict[str, Any] | None, held: list[Pack]) -> None:
    """Let the feed write into ``data.json`` what it leaves out and, at its end, what is known by then."""
    feed, facts = prepared.feed, prepared.facts
    assert feed is not None

    def skip(name: str, text: str) -> None:
        facts["errors"].append({"file": name, "error": text, "skipped": True})
        replace(path, facts)
        prepared.tell("skipped", {"file": name, "error": text})

    def done() -> None:
        packs = feed.packs()
        found = {pack.identity.path: file_of(pack) for pack in packs}
        files = [found.get(file["path"], file) for file in facts["files"]]
        parts = _whole(feed, held)
        now = {**facts, **known(parts, facts["encoding"]), "files": files}
        if before is not None:
            compare(path, {**before, "held_out": before["held_out"] if before["tokens"] is not None else {}}, now)
        facts.update(now)
        try:
            replace(path, facts)
        except OSError as error:
            prepared.tell("warning", {"error": f"{path} could not be completed: {error.strerror or error}"})
        prepared.tell("packed", facts)

    feed.listen(skip, done)
