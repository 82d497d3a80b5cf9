"""Shards packed into tokens: memory-mapped, with document boundaries.

A pack is a folder of raw little-endian arrays and ``meta.json``, which states sizes and checksums; it stands for
itself, so that it can be trained on where the shard is not. Needs numpy only.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data.bounded import read_json
from data.files import FileIdentity, ShardError

FORMAT = 1
META = "meta.json"
SUFFIX = ".pack"


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """uint16 where every id below ``vocab_size`` fits, else uint32."""
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")


def array_dtypes(vocab_size: int) -> dict[str, np.dtype[Any]]:
    """The arrays of a pack, by name, as they lie on disk."""
    signed, unsigned = np.dtype("<i8"), np.dtype("<u8")
    return {
        "tokens": token_dtype(vocab_size),
        "offsets": signed,
        "rows": signed,
        "hashes": unsigned,
        "bytes": signed,
    }


@dataclass(frozen=True, eq=False)
class Pack:
    """One shard's tokens. Document i is ``tokens[offsets[i]:offsets[i + 1]]``; its last token is ``eot``.

    Attributes:
        tokens: uint16 or uint32 [all tokens, separators included], memory-mapped.
        offsets: int64 [documents + 1].
        rows: int64 [documents], the document's row in the shard, from 0. Rows with a null or empty text are no
            documents; ``empty_rows`` counts them.
        hashes: uint64 [documents, 2], BLAKE2b-128 of the text's UTF-8 bytes: equal texts, equal hashes.
        bytes: int64 [documents], length of the text in UTF-8 bytes.
    """

    folder: Path
    identity: FileIdentity
    encoding: str
    vocab_size: int
    eot: int
    column: str
    empty_rows: int
    tokens: npt.NDArray[Any]
    offsets: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    hashes: npt.NDArray[np.uint64]
    bytes: npt.NDArray[np.int64]

    @property
    def documents(self) -> int:
        """Number of documents."""
        return len(self.rows)

    def document(self, index: int) -> npt.NDArray[Any]:
        """Tokens of one document, its separator included: uint16 or uint32 [length]."""
        return self.tokens[self.offsets[index] : self.offsets[index + 1]]

    @classmethod
    def open(cls, folder: str | Path, *, verify: bool = True) -> Pack:
        """Map a pack. Raises ShardError where it is absent, cut short or damaged.

        Args:
            verify: also compare every array's checksum (reads the pack once, about 3 GB/s).
        """
        folder = Path(folder)
        meta = _read_meta(folder)
        arrays = {}
        for name, dtype in array_dtypes(meta["vocab_size"]).items():
            path, stated = folder / f"{name}.bin", meta["arrays"][name]
            try:
                size = path.stat().st_size
                if size != stated["bytes"]:
                    raise _damaged(folder, f"{path.name} has {size:,} bytes of {stated['bytes']:,}")
                # An empty file cannot be mapped.
                array = np.memmap(path, dtype, mode="r") if size else np.zeros(0, dtype)
            except OSError as error:
                raise _damaged(folder, f"{path.name}: {error.strerror or error}") from None
            if verify and zlib.crc32(array.data) != stated["crc32"]:
                raise _damaged(folder, f"checksum of {path.name} differs")
            arrays[name] = array
        arrays["hashes"] = arrays["hashes"].reshape(-1, 2)
        return cls(
            folder=folder,
            identity=FileIdentity(**meta["identity"]),
            encoding=meta["encoding"],
            vocab_size=meta["vocab_size"],
            eot=meta["eot"],
            column=meta["column"],
            empty_rows=meta["empty_rows"],
            **arrays,
        )


def find_packs(path: str | Path) -> list[Path]:
    """Pack folders at ``path``: itself, or those right inside it, sorted; none for anything else."""
    path = Path(path)
    if (path / META).is_file():
        return [path.absolute()]
    try:
        return sorted(entry.absolute() for entry in path.glob(f"*{SUFFIX}") if (entry / META).is_file())
    except OSError:
        return []


def is_pack(path: str | Path) -> bool:
    """Whether ``path`` is a pack folder."""
    return (Path(path) / META).is_file()


def _read_meta(folder: Path) -> dict[str, Any]:
    try:
        meta: dict[str, Any] = read_json(folder / META)
        if meta["format"] != FORMAT:
            raise ShardError(f"{folder}: a pack of format {meta['format']}, not {FORMAT}; pack the shard again")
        if meta.pop("crc32") != meta_checksum(meta):
            raise _damaged(folder, f"checksum of {META} differs")
    except FileNotFoundError:
        raise ShardError(f"{folder}: not a pack folder (no {META}); name a pack folder or a parquet file") from None
    except OSError as error:
        raise ShardError(f"{folder}: cannot be read: {error.strerror or error}; check its permissions") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, ShardError):
            raise
        raise _damaged(folder, f"{META} cannot be read") from None
    return meta


def meta_checksum(meta: dict[str, Any]) -> int:
    """CRC-32 of the meta data without its own checksum."""
    return zlib.crc32(json.dumps(meta, sort_keys=True).encode())


def _damaged(folder: Path, what: str) -> ShardError:
    return ShardError(f"{folder}: damaged pack ({what}); delete the folder and pack the shard again")
