"""TensorBoard event files: TFRecords of ``Event`` protobufs, of which the scalars are read.

A record is: length (uint64), its masked CRC-32C, the data, their masked CRC-32C. Three messages of the protobuf matter:
Event (2: step, 5: summary), Summary.Value (1: tag, 2: simple_value, 8: tensor) and TensorProto (4: tensor_content,
5: float_val, 6: double_val). The wire format is public (protobuf.dev); no TensorFlow is needed to read it.
Large records (graphs, images) are passed over; a record that is torn or fails its checksum ends the reading.
Read to their last step: the 88 event files with a loss that TimNiklasWitte/Building-GPT-from-scratch publishes, 24 of
them of its GPT (PyTorch's writer; ``add_scalars`` makes a file of each curve).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from workbench.runs.facts import Fact
from workbench.runs.importers import columns
from workbench.runs.importers.importer import Event, Stage
from workbench.runs.importers.lines import head

MAX_RECORD = 1 << 16  # a scalar's record is below 200 bytes
MAX_TAGS = 10_000
_POLYNOMIAL = 0x82F63B78


def _table() -> tuple[int, ...]:
    values = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (_POLYNOMIAL if byte & 1 else 0)
        values.append(byte)
    return tuple(values)


_CRC = _table()


def masked_crc(data: bytes) -> int:
    """CRC-32C (Castagnoli) of the data, rotated and offset as TFRecord stores it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def is_event_file(path: Path) -> bool:
    """Whether a file begins with a TFRecord whose length bears its checksum."""
    begin = head(path, 12)
    return len(begin) == 12 and struct.unpack("<I", begin[8:])[0] == masked_crc(begin[:8])


class EventFile:
    """Reads an event file; see the module. Scalars of one step are put together, whatever their order."""

    format = "TensorBoard event file"
    appendable = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self.facts: dict[str, Fact] = {}
        self.offset = 0
        self.lines = 0
        self._stage = Stage()
        self._roles: dict[str, str | None] = {}
        self._pending: Event | None = None
        self._broken = False

    def events(self, last: bool, until: int | None) -> Iterator[Event]:
        with self.path.open("rb") as file:
            file.seek(self.offset)
            for data in self._records(file, until):
                self.lines += 1
                step, wall, scalars = _event(data)
                for tag, value in scalars:
                    yield from self._scalar(step, wall, tag, value)
        if self._pending is not None:
            yield self._pending  # said again, whole, if more of its scalars come
        if self._broken:
            self._broken = False
            yield {"event": "warning", "step": max(self._stage.last, 0),
                   "text": f"record {self.lines + 1}: its checksum is wrong; what follows was not read"}  # fmt: skip

    def _records(self, file: BinaryIO, until: int | None) -> Iterator[bytes]:
        size = os.fstat(file.fileno()).st_size
        while not self._broken and (until is None or self.offset < until):
            lead = file.read(12)
            if len(lead) < 12:
                return
            length, crc = struct.unpack("<QI", lead)
            if crc != masked_crc(lead[:8]):
                self._broken = True
                return
            if self.offset + 16 + length > size:
                return  # torn: the writer is not done with it
            if length > MAX_RECORD:
                file.seek(length + 4, os.SEEK_CUR)
                self.offset += 16 + length
                continue
            body = file.read(length + 4)
            if len(body) < length + 4:
                return
            if struct.unpack("<I", body[length:])[0] != masked_crc(body[:length]):
                self._broken = True
                return
            self.offset += 16 + length
            yield body[:length]

    def _scalar(self, step: int, wall: float, tag: str, value: float) -> Iterator[Event]:
        role = self._role(tag)
        if role is None or step < 0 or role == "step":
            return
        if role == "val":
            yield {"event": "eval", "step": step, "split": "heldout", "loss": value, "time": wall}
            return
        if self._pending is not None and self._pending["step"] != step:
            yield self._pending
            self._pending = None
        if self._pending is None:
            yield from self._stage.restart(step, self.lines)
            self._pending = {"event": "step", "step": step, "time": wall}
        self._pending[role] = value

    def _role(self, tag: str) -> str | None:
        """What a tag means; a role is the first tag's that claims it."""
        if tag not in self._roles:
            if len(self._roles) >= MAX_TAGS:
                return None
            role = columns.role_of(self._curve(tag)) or columns.role_of(tag)
            self._roles[tag] = role if role not in self._roles.values() else None
        return self._roles[tag]

    def _curve(self, tag: str) -> str:
        """What a curve is called: of ``add_scalars("loss", {"val": …})`` the file in ``loss_val`` holds the tag
        ``loss``, and only the folder tells which one it is, as TensorBoard itself tells them apart."""
        folder = self.path.absolute().parent.name
        return folder if folder.startswith(tag.replace("/", "_") + "_") else tag


def _event(data: bytes) -> tuple[int, float, list[tuple[str, float]]]:
    """Step, wall time and scalars of one Event message."""
    step, wall, scalars = 0, float("nan"), []
    for number, value in _fields(data):
        if number == 1 and isinstance(value, bytes) and len(value) == 8:
            wall = struct.unpack("<d", value)[0]
        elif number == 2 and isinstance(value, int):
            step = value if value < 1 << 63 else -1
        elif number == 5 and isinstance(value, bytes):
            for inner, message in _fields(value):
                if inner == 1 and isinstance(message, bytes) and (scalar := _value(message)) is not None:
                    scalars.append(scalar)
    return step, wall, scalars


def _value(data: bytes) -> tuple[str, float] | None:
    tag, value = "", None
    for number, found in _fields(data):
        if number == 1 and isinstance(found, bytes):
            tag = found[:500].decode("utf-8", "replace")
        elif number == 2 and isinstance(found, bytes) and len(found) == 4:
            value = struct.unpack("<f", found)[0]
        elif number == 8 and isinstance(found, bytes):
            value = _tensor(found)
    return (tag, float(value)) if tag and value is not None else None


def _tensor(data: bytes) -> float | None:
    """A scalar tensor of float or double; None for any other."""
    kind, packed = 0, b""
    for number, found in _fields(data):
        if number == 1 and isinstance(found, int):
            kind = found
        elif number in (4, 5, 6) and isinstance(found, bytes):
            packed = found
    form = {1: "<f", 2: "<d"}.get(kind)
    if form is None or len(packed) != struct.calcsize(form):
        return None
    return float(struct.unpack(form, packed)[0])


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(field number, value) of a message: varints as int, all else as bytes. Stops at nonsense."""
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
            if at < 0:
                return
            yield key >> 3, value
            continue
        if kind == 2:
            size, at = _varint(data, at)
        else:
            size = {1: 8, 5: 4}.get(kind, -1)
        if at < 0 or size < 0 or at + size > end:
            return
        yield key >> 3, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A varint and the place behind it; place −1 where there is none."""
    value = 0
    for shift in range(0, 70, 7):
        if at < 0 or at >= len(data):
            return 0, -1
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    return 0, -1
