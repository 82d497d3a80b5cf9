"""What a run says of its data, in ``data.json``, and whether that is still so when it resumes. Torch-free."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.bounded import read_json
from data.packed import Pack
from engine.config import Config
from engine.corpus import Documents, Split
from engine.errors import RunError
from engine.feed import Feed
from engine.keep import FILE_NAME as KEEP_NAME
from engine.word_order import distinct_pairs

FILE_NAME = "data.json"


@dataclass(eq=False)
class Prepared:
    """The data of a run. ``facts`` is what ``data.json`` holds, ``fingerprint`` a hash of all content.

    With a ``feed`` shards are still being packed: ``split`` then holds the documents of the first window alone, and
    what ``facts`` cannot know yet is None.
    """

    split: Split
    eot: int
    fingerprint: str
    facts: dict[str, Any]
    feed: Feed | None = None
    whole: Callable[[], Split] | None = None
    _heard: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    _listener: Callable[[str, dict[str, Any]], None] | None = None

    def listen(self, listener: Callable[[str, dict[str, Any]], None]) -> None:
        """Tell ``listener``, in the feed's thread, what becomes known: "skipped" a file and its error, "packed" all
        the facts, "warning" an error. What it has missed comes first."""
        heard, self._heard, self._listener = self._heard, [], listener
        for what, about in heard:
            listener(what, about)

    def tell(self, what: str, about: dict[str, Any]) -> None:
        """Tell the listener."""
        if self._listener is None:
            self._heard.append((what, about))
        else:
            self._listener(what, about)

    @property
    def source(self) -> Documents | Feed:
        """What the stream of training tokens is made of."""
        return self.feed or self.split.train

    def settled(self, cancelled: Callable[[], bool]) -> Split:
        """The split of all documents. Waits until they are packed; raises as ``Feed.wait`` does."""
        if self.feed is None or self.whole is None:
            return self.split
        for number in range(len(self.feed.shards)):
            self.feed.wait(number, cancelled)
        return self.whole()

    def close(self) -> None:
        """Pack no more."""
        if self.feed is not None:
            self.feed.close()


def check_encoding(c: Config, packs: list[Pack]) -> None:
    """Raise RunError where packs are of several encodings, of another than the run's, or too large a vocabulary."""
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


def facts_of(
    c: Config, files: list[dict[str, Any]], held: list[Pack], parts: Split | None, errors: list[dict[str, Any]]
) -> dict[str, Any]:
    """What ``data.json`` says; without ``parts``, what is not known before every shard is packed is None."""
    return {
        "files": files,
        "val_files": [file_of(p) for p in held],
        "recipe": None,
        "encoding": c.data.encoding,
        "order": {"kind": "epochs"},
        "effective_unique_tokens": None,
        **known(parts, c.data.encoding),
        "errors": errors,
    }


def known(parts: Split | None, encoding: str) -> dict[str, Any]:
    """What of ``data.json`` is known once every shard is packed."""
    return {
        "documents": parts and len(parts.train),
        "tokens": parts and parts.train.total,
        "unique_documents": parts and len(parts.unique),
        "unique_tokens": parts and parts.unique.total,
        "distinct_pairs": parts and distinct_pairs(parts.unique, encoding),
        "held_out": {
            "documents": parts and len(parts.held_out),
            "tokens": parts and parts.held_out.total,
            "leaked_documents": parts and parts.leaked,
            "near_leaked_documents": None,
        },
    }


def file_of(pack: Pack) -> dict[str, Any]:
    """A packed shard."""
    return {**pack.identity.to_dict(), "documents": pack.documents, "tokens": len(pack.tokens)}


def fingerprint(facts: dict[str, Any], *more: str) -> str:
    """A hash of what decides the run: of whole epochs all packed content, of a feed the shards and their windows."""
    described = [_content(f) for f in (*facts["files"], *facts["val_files"])]
    if facts["order"]["kind"] != "epochs":
        described = [content[:3] for content in described] + [[facts["order"]]]
    return hashlib.sha256(json.dumps([facts["encoding"], described, *more]).encode()).hexdigest()[:16]


def _content(file: dict[str, Any]) -> list[Any]:
    """What of a file decides the run: its bytes and what was packed from them, not where it lies or when it came."""
    return [file.get(key) for key in ("size", "footer", "rows", "documents", "tokens")]


def read(path: Path) -> dict[str, Any] | None:
    """``data.json`` of a run that has begun; None where there is none yet. Raises RunError where it is none."""
    try:
        before = read_json(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read ({error}); delete it to let the run describe its data again") from None
    if not isinstance(before, dict):
        raise RunError(f"{path}: not a description of data; delete it to let the run describe its data again")
    return before


def replace(path: Path, facts: dict[str, Any]) -> None:
    """Write ``data.json``, whole or not at all. Raises OSError."""
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(json.dumps(facts, indent=1))
    temporary.replace(path)


def write(path: Path, facts: dict[str, Any]) -> None:
    """Write ``data.json``; if it is there, it must tell of the same data: a run never changes what it trains on."""
    before = read(path)
    if before is not None:
        compare(path, before, facts)
    else:
        replace(path, facts)


def compare(path: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Raise RunError where ``now`` is not the data that the run began with. What either does not know yet is as good
    as equal."""
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
            if any(a != b for a, b in zip(_content(file), _content(old[name]), strict=True) if None not in (a, b)):
                raise RunError(f"{name}: the shard has changed since the run began; {advice}")
    if (before.get("recipe") or {}).get("digest") != (now["recipe"] or {}).get("digest"):
        raise RunError(
            f"{path}: the run began with another recipe or keep-list; restore {KEEP_NAME} or start a new run"
        )
    whole = {"kind": "epochs"}
    held = [{**f.get("held_out", {}), "near_leaked_documents": None} for f in (before, now)]
    differ = any(a != held[1].get(key) for key, a in held[0].items() if None not in (a, held[1].get(key, a)))
    if before.get("encoding") != now["encoding"] or before.get("order", whole) != now["order"] or differ:
        raise RunError(f"{path}: the run began with another split or encoding; restore config.toml or start a new run")
