"""Row groups and column chunks of a parquet footer, read here from its Thrift compact encoding.

pyarrow knows them too, but builds a column chunk outside of what catches its C++ exceptions: a damaged footer (found by
fuzzing: a size histogram of the wrong length) ends the whole process, workbench or engine, instead of raising.

The encoding: https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md; the fields:
https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow.parquet

_TYPES = ("BOOLEAN", "INT32", "INT64", "INT96", "FLOAT", "DOUBLE", "BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY")
_CODECS = ("UNCOMPRESSED", "SNAPPY", "GZIP", "LZO", "BROTLI", "LZ4", "ZSTD", "LZ4_RAW")
_ENCODINGS = (
    "PLAIN", "GROUP_VAR_INT", "PLAIN_DICTIONARY", "RLE", "BIT_PACKED", "DELTA_BINARY_PACKED", "DELTA_LENGTH_BYTE_ARRAY",
    "DELTA_BYTE_ARRAY", "RLE_DICTIONARY", "BYTE_STREAM_SPLIT",
)  # fmt: skip
_TRUE, _FALSE, _BYTE, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT, _UUID = 1, 2, 3, 6, 7, 8, 9, 10, 11, 12, 13
_DEEPEST = 32


class FooterError(ValueError):
    """Bytes that are no such footer."""


@dataclass(frozen=True)
class Chunk:
    """One column of one row group. ``path``: names from the outermost on, joined by dots; sizes in bytes."""

    path: str
    type: str
    codec: str
    encodings: tuple[str, ...]
    compressed: int
    uncompressed: int


@dataclass(frozen=True)
class RowGroup:
    """``bytes``: of all its columns, uncompressed."""

    rows: int
    bytes: int
    chunks: tuple[Chunk, ...]


@dataclass(frozen=True)
class Footer:
    """A parquet file's footer. ``metadata``: only for what is of the whole file; its chunks may end the process."""

    metadata: pyarrow.parquet.FileMetaData
    raw: bytes

    def row_groups(self) -> Iterator[RowGroup]:
        """Row groups in their order, read as they are asked for. Raises FooterError."""
        reader = _Reader(self.raw)
        for field, kind in reader.fields():
            if field == 4 and kind == _LIST:
                count, item = reader.list_header()
                if item != _STRUCT:
                    raise FooterError("row groups that are none")
                for _ in range(count):
                    yield _row_group(reader.struct())
                return
            reader.value(kind)


def _row_group(fields: dict[int, Any]) -> RowGroup:
    columns = fields.get(1)
    if not isinstance(columns, list):
        raise FooterError("a row group without columns")
    return RowGroup(_int(fields, 3), _int(fields, 2), tuple(map(_chunk, columns)))


def _chunk(column: Any) -> Chunk:
    found = column.get(3) if isinstance(column, dict) else None
    if not isinstance(found, dict):
        raise FooterError("a column chunk without its metadata")
    path, encodings = found.get(3), found.get(2)
    if not isinstance(path, list) or not isinstance(encodings, list):
        raise FooterError("a column chunk without a name or encodings")
    return Chunk(
        ".".join(part.decode("utf-8", "replace") if isinstance(part, bytes) else "?" for part in path),
        _name(_TYPES, _int(found, 1)), _name(_CODECS, _int(found, 4)),
        tuple(sorted({_name(_ENCODINGS, e) for e in encodings if isinstance(e, int)})),
        _int(found, 7), _int(found, 6),
    )  # fmt: skip


def _int(fields: dict[int, Any], key: int) -> int:
    value = fields.get(key)
    if not isinstance(value, int):
        raise FooterError(f"field {key} is missing")
    return value


def _name(names: tuple[str, ...], number: int) -> str:
    return names[number] if 0 <= number < len(names) else "UNKNOWN"


class _Reader:
    """The compact protocol, over bytes. Everything read is bounded by their number."""

    def __init__(self, raw: bytes) -> None:
        self._raw, self._at, self._depth = raw, 0, 0

    def fields(self) -> Iterator[tuple[int, int]]:
        """Fields of a struct: (number, kind). The caller reads or skips each value before it goes on."""
        field = 0
        while head := self._byte():
            field = field + (head >> 4) if head >> 4 else self._zigzag()
            yield field, head & 15

    def struct(self) -> dict[int, Any]:
        """A struct, whole."""
        self._depth += 1
        if self._depth > _DEEPEST:
            raise FooterError("nested beyond sense")
        found = {field: self.value(kind) for field, kind in self.fields()}
        self._depth -= 1
        return found

    def list_header(self) -> tuple[int, int]:
        """(count, kind) of a list or set."""
        head = self._byte()
        count = head >> 4 if head >> 4 != 15 else self._varint()
        if count > len(self._raw) - self._at:  # an item takes a byte at least
            raise FooterError("a list longer than the footer")
        return count, head & 15

    def value(self, kind: int) -> Any:
        """A field's value: int, float as its bytes, bytes, list, dict by field number, or bool."""
        if kind in (_TRUE, _FALSE):
            return kind == _TRUE
        return self._item(kind)

    def _item(self, kind: int) -> Any:
        if _BYTE < kind <= _I64:
            return self._zigzag()
        if kind == _BINARY:
            return self._bytes(self._varint())
        if kind == _STRUCT:
            return self.struct()
        if kind in (_LIST, _SET):
            self._depth += 1
            if self._depth > _DEEPEST:
                raise FooterError("nested beyond sense")
            count, item = self.list_header()
            found = [self._item(item) for _ in range(count)]
            self._depth -= 1
            return found
        if kind in (_TRUE, _FALSE, _BYTE):  # a boolean takes a byte only as an item
            return self._byte()
        if kind == _DOUBLE:
            return self._bytes(8)
        if kind == _UUID:
            return self._bytes(16)
        if kind == _MAP:
            return self._map()
        raise FooterError(f"a value of kind {kind}")

    def _map(self) -> list[tuple[Any, Any]]:
        count = self._varint()
        if count > len(self._raw) - self._at:
            raise FooterError("a map longer than the footer")
        kinds = self._byte() if count else 0
        return [(self._item(kinds >> 4), self._item(kinds & 15)) for _ in range(count)]

    def _byte(self) -> int:
        try:
            value = self._raw[self._at]
        except IndexError:
            raise FooterError("it ends early") from None
        self._at += 1
        return value

    def _bytes(self, count: int) -> bytes:
        if count > len(self._raw) - self._at:
            raise FooterError("it ends early")
        self._at += count
        return self._raw[self._at - count : self._at]

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
            if shift > 63:
                raise FooterError("a number of more than 64 bits")

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
