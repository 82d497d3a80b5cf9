"""Packs written: parquet text → tokens, in bounded memory, complete or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import re
import secrets
import shutil
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import tiktoken

from data.encoding import EncodingError, load
from data.files import FileIdentity, ShardError, check_text_column, footer_bytes, open_shard, unchanged, unreadable
from data.footer import Footer
from data.pack import FORMAT, META, Pack, array_dtypes, meta_checksum, token_dtype
from data.unfinished import place, private, sweep, writing

_BATCH_BYTES = 8 << 20  # text held at once, about; a single document may be larger
_BATCH_ROWS = 512
_PIECE = 1 << 20  # characters of a giant document encoded at once
_TEMPORARY = ".packing-"

# Here every tiktoken pattern ends a piece: no pattern joins a letter with a blank behind it, and each begins a new
# piece with " letter". So a document cut here has the tokens of the whole.
_SAFE_CUT = re.compile(r"(?<=[A-Za-z]) (?=[A-Za-z])")
_SAFE_CUT_UTF8 = re.compile(_SAFE_CUT.pattern.encode())


def pack(
    identity: FileIdentity,
    folder: Path,
    *,
    encoding: str,
    column: str,
    on_progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the pack of the file that ``identity`` describes to ``folder``; raises as ``packed.pack_shard`` does."""
    encoder = load(encoding)
    try:
        eot = encoder.eot_token
    except KeyError:
        raise EncodingError(f"encoding {encoding}: has no <|endoftext|> token to part documents; use another") from None
    meta = {
        "format": FORMAT,
        "identity": identity.to_dict(),
        "encoding": encoding,
        "vocab_size": encoder.n_vocab,
        "eot": eot,
        "column": column,
    }
    with _temporary_folder(folder.parent) as temporary:
        writer = _Writer(temporary, encoder.n_vocab)
        try:
            empty = _write_documents(writer, identity, column, encoder, eot, on_progress)
            unchanged(identity)
            writer.finish({**meta, "empty_rows": empty})
        finally:
            writer.close()
        _publish(temporary, folder)


def write_subset(pack: Pack, rows: npt.NDArray[np.int64], folder: Path) -> Pack:
    """A pack of some of a pack's documents: those of the shard's ``rows``, in their order, written to ``folder``.

    Raises ShardError where a row is no document of the pack, or the folder cannot be written.
    """
    chosen = np.flatnonzero(np.isin(np.asarray(pack.rows), rows, assume_unique=True))
    if len(chosen) != len(rows):
        raise ShardError(f"{pack.identity.path}: {len(rows) - len(chosen):,} rows chosen hold no text; choose again")
    with _temporary_folder(folder.parent) as temporary:
        writer = _Writer(temporary, pack.vocab_size)
        try:
            for index in chosen:
                writer.write("tokens", pack.document(int(index)))
            lengths = np.diff(np.asarray(pack.offsets))[chosen]
            writer.write("offsets", np.concatenate(([0], np.cumsum(lengths))))
            writer.write("rows", np.asarray(pack.rows)[chosen])
            writer.write("hashes", np.asarray(pack.hashes)[chosen].reshape(-1))
            writer.write("bytes", np.asarray(pack.bytes)[chosen])
            meta = {
                "format": FORMAT,
                "identity": pack.identity.to_dict(),
                "encoding": pack.encoding,
                "vocab_size": pack.vocab_size,
                "eot": pack.eot,
                "column": pack.column,
                "empty_rows": pack.identity.rows - len(chosen),
            }
            writer.finish(meta)
        finally:
            writer.close()
        _publish(temporary, folder)
    return Pack.open(folder)


def arrays(path: str, column: str, rows: int = 1 << 20) -> Iterator[tuple[int, pa.Array]]:
    """A shard's text column as Arrow arrays of at most so many rows, bounded in size: (first row, text or null).

    Raises ShardError for what the parquet reader refuses; whether the text is UTF-8 is not looked at.
    """
    row = 0
    try:
        # Opened once: a file renamed over this one meanwhile is not mixed in.
        with open_shard(path) as file:
            raw = footer_bytes(file, path, file.seek(0, os.SEEK_END))
            shard = pq.ParquetFile(file, buffer_size=1 << 20, page_checksum_verification=True)
            check_text_column(path, shard.schema_arrow, column)
            size = min(rows, _batch_rows(Footer(shard.metadata, raw), column))
            for batch in shard.iter_batches(size, columns=[column], use_threads=False):
                values = batch.column(0)
                yield row, values
                row += len(values)
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, ShardError):
            raise
        raise unreadable(path, error) from None


def documents(path: str, column: str, rows: int = 1 << 20) -> Iterator[tuple[int, pa.LargeStringArray]]:
    """As ``arrays``, as valid UTF-8 in ``large_string`` arrays. Raises ShardError, naming the place."""
    for row, values in arrays(path, column, rows):
        try:
            values = values.cast(pa.large_string())
            values.validate(full=True)
        except pa.ArrowInvalid:
            raise _no_utf8(path, row) from None
        yield row, values


def utf8(texts: pa.LargeStringArray) -> Iterator[memoryview]:
    """The UTF-8 bytes of each text, where they lie; a null has none."""
    offsets = np.frombuffer(texts.buffers()[1], np.int64)[texts.offset : texts.offset + len(texts) + 1].tolist()
    raw = memoryview(texts.buffers()[2] or b"")
    for begin, end in itertools.pairwise(offsets):
        yield raw[begin:end]


def _no_utf8(path: str, row: int) -> ShardError:
    return ShardError(f"{path}: damaged: text that is no UTF-8 near row {row}; copy or download it again")


def _batch_rows(footer: Footer, column: str) -> int:
    """Rows whose text is about ``_BATCH_BYTES``, by the footer."""
    size = sum(c.uncompressed for group in footer.row_groups() for c in group.chunks if c.path == column)
    return max(1, _BATCH_BYTES * footer.metadata.num_rows // max(1, size))


def encode(encoder: tiktoken.Encoding, text: str) -> Iterator[npt.NDArray[np.uint32]]:
    """Tokens of ``text`` as plain text (special tokens in it are characters), piece by piece: uint32 arrays."""
    begin = 0
    while len(text) - begin > 2 * _PIECE:
        cut = _SAFE_CUT.search(text, begin + _PIECE)
        if cut is None:
            break
        yield encoder.encode_to_numpy(text[begin : cut.start()], allowed_special=set(), disallowed_special=())
        begin = cut.start()
    rest = text[begin:] if begin else text
    yield encoder.encode_to_numpy(rest, allowed_special=set(), disallowed_special=())


def encode_utf8(encoder: tiktoken.Encoding, raw: memoryview) -> Iterator[npt.NDArray[np.uint32]]:
    """As ``encode``, of UTF-8 bytes; of a giant document no more than a piece is a Python string at any time, which
    takes up to four bytes a character."""
    begin = 0
    while len(raw) - begin > 2 * _PIECE:
        cut = _SAFE_CUT_UTF8.search(raw, begin + _PIECE)
        if cut is None:
            break
        yield from encode(encoder, str(raw[begin : cut.start()], "utf-8"))
        begin = cut.start()
    yield from encode(encoder, str(raw[begin:], "utf-8"))


def _write_documents(
    writer: _Writer,
    identity: FileIdentity,
    column: str,
    encoder: tiktoken.Encoding,
    eot: int,
    on_progress: Callable[[int, int], None] | None,
) -> int:
    """Encode and write every document; return how many rows had no text."""
    separator = np.array([eot], token_dtype(encoder.n_vocab))
    position, empty, done = 0, 0, 0
    writer.write("offsets", np.zeros(1, np.int64))
    for first_row, batch in documents(identity.path, column, _BATCH_ROWS):
        offsets, rows, digests, sizes = [], [], [], []
        for row, raw in enumerate(utf8(batch), first_row):
            if not raw:
                empty += 1
                continue
            for tokens in encode_utf8(encoder, raw):
                writer.write("tokens", tokens)
                position += len(tokens)
            writer.write("tokens", separator)
            position += 1
            offsets.append(position)
            rows.append(row)
            sizes.append(len(raw))
            digests.append(hashlib.blake2b(raw, digest_size=16).digest())
        writer.write("offsets", np.array(offsets, np.int64))
        writer.write("rows", np.array(rows, np.int64))
        writer.write("bytes", np.array(sizes, np.int64))
        writer.write("hashes", np.frombuffer(b"".join(digests), "<u8"))
        done = first_row + len(batch)
        if on_progress is not None:
            on_progress(done, identity.rows)
    if done != identity.rows:
        raise ShardError(f"{identity.path}: {done:,} rows of {identity.rows:,} could be read; download it again")
    return empty


class _Writer:
    """The arrays of a pack, appended to; sizes and checksums are kept on the way."""

    def __init__(self, folder: Path, vocab_size: int) -> None:
        self._folder = folder
        self._dtypes = array_dtypes(vocab_size)
        self._files: dict[str, BinaryIO] = {}
        self._stated = {name: {"bytes": 0, "crc32": 0} for name in self._dtypes}
        with _writing(folder):
            for name in self._dtypes:
                self._files[name] = (folder / f"{name}.bin").open("wb", buffering=1 << 20)

    def write(self, name: str, array: npt.NDArray[Any]) -> None:
        raw = np.ascontiguousarray(array, self._dtypes[name]).data.cast("B") if len(array) else b""
        stated = self._stated[name]
        stated["bytes"] += len(raw)
        stated["crc32"] = zlib.crc32(raw, stated["crc32"])
        with _writing(self._folder):
            self._files[name].write(raw)

    def finish(self, meta: dict[str, Any]) -> None:
        meta = {**meta, "arrays": self._stated}
        with _writing(self._folder):
            for file in self._files.values():
                file.close()
            (self._folder / META).write_text(json.dumps({**meta, "crc32": meta_checksum(meta)}))

    def close(self) -> None:
        for file in self._files.values():
            with contextlib.suppress(OSError):
                file.close()


def _writing(folder: Path) -> AbstractContextManager[None]:
    return writing(folder.parent, "packed tokens", "choose another folder (data pack -o, data.cache, $GPTBENCH_CACHE)")


@contextlib.contextmanager
def _temporary_folder(cache: Path) -> Iterator[Path]:
    """A folder of this process beside the packs; gone at the end unless it was renamed."""
    temporary = place(cache, _TEMPORARY)
    with _writing(temporary):
        private(cache)
        sweep(cache, _TEMPORARY)
        temporary.mkdir()
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _publish(temporary: Path, folder: Path) -> None:
    """Rename the finished pack to its place. Another packer's whole pack there is as good; a damaged one gives way."""
    for _ in range(8):
        try:
            temporary.rename(folder)
            return
        except OSError as error:
            if not folder.exists():
                with _writing(temporary):
                    raise error
        try:
            if Pack.open(folder):
                return
        except ShardError:
            aside = folder.parent / f"{temporary.name}-{secrets.token_hex(4)}"
            with contextlib.suppress(OSError):
                folder.rename(aside)
            shutil.rmtree(aside, ignore_errors=True)
    raise ShardError(f"{folder}: cannot be replaced; delete it and pack the shard again")
