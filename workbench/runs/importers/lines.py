"""A log as lines: split at newlines and carriage returns, escape sequences taken out, memory bounded.

A log is data. It may be endless, of one line, or full of escape sequences; none of that may cost more than a few
megabytes. ``offset`` tells how far whole lines have been read, so that a growing log is read on from there.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from workbench.errors import UserError

MAX_LINE = 1 << 16  # bytes; what a longer line has beyond is dropped
_CHUNK = 1 << 18
_END = re.compile(rb"\r\n|\n|\r")
_ANSI = re.compile("\x1b(?:\\[[0-?]*[ -/]*[@-~]|\\][^\x07\x1b]*(?:\x07|\x1b\\\\)?|[@-Z\\\\-_])")
_ECHO = re.compile(r"(?:\^\[\[[A-D])+")  # arrow keys that a person pressed while the terminal was captured


def encoding_of(path: Path) -> str | None:
    """ "utf-8" or "utf-16" (what PowerShell's ``>`` writes); None for a binary file. Raises UserError."""
    begin = head(path, 1 << 16)
    if begin.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    return None if b"\0" in begin else "utf-8"


def head(path: Path, size: int) -> bytes:
    """The first bytes of a log. Raises UserError where it is missing, a folder, or unreadable."""
    if path.is_dir():
        raise UserError(f"{path}: is a folder, not a log (and no run: it has no events.jsonl)")
    try:
        with path.open("rb") as file:
            return file.read(size)
    except FileNotFoundError:
        raise UserError(f"{path}: no such log; check the path") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None


class Lines:
    """Lines of a text file, incrementally. ``count``: lines given so far; ``offset``: bytes behind the last whole one.

    (Of a UTF-16 file, the bytes that it would have as UTF-8.)
    """

    def __init__(self, path: Path, encoding: str) -> None:
        self.path = path
        self.offset = 0
        self.count = 0
        self._position = 0  # bytes of the file read
        self._decoder = None if encoding == "utf-8" else codecs.getincrementaldecoder(encoding)("replace")
        self._tail = b""
        self._overlong = False  # inside a line whose head was given already
        self._begun = False

    def read(self, max_bytes: int | None = None, last: bool = True, until: int | None = None) -> Iterator[str]:
        """Lines that were appended since the last call, without their ends.

        Args:
            max_bytes: read about so many at most.
            last: give a last line that has no end yet as well; it is given again, whole, once it has one.
            until: read whole lines up to this offset only.

        Raises:
            UserError: the file cannot be read any more.
        """
        first = self._position
        try:
            with self.path.open("rb") as file:
                file.seek(self._position)
                while max_bytes is None or self._position - first < max_bytes:
                    size = _CHUNK if until is None else min(_CHUNK, until - self._position)
                    data = self._next(file, size)
                    if data is None:
                        break
                    yield from self._split(data)
        except OSError as error:
            raise UserError(f"{self.path}: cannot be read: {error.strerror or error}") from None
        rest = self._tail.rstrip(b"\r")
        if last and rest and not self._overlong:
            yield self._clean(rest)

    def _next(self, file: BinaryIO, size: int) -> bytes | None:
        raw = file.read(size) if size > 0 else b""
        if not raw:
            return None
        self._position += len(raw)
        return raw if self._decoder is None else self._decoder.decode(raw).encode("utf-8", "replace")

    def _split(self, data: bytes) -> Iterator[str]:
        if self._overlong:  # the plain search is many times as fast as the pattern
            ends = [at for at in (data.find(b"\n"), data.find(b"\r")) if at >= 0]
            if not ends:
                self.offset += len(data)
                return
        data, begin = self._tail + data, 0
        # A lone \r at the end may be half of \r\n: it waits.
        until = len(data) - 1 if data.endswith(b"\r") else len(data)
        for match in _END.finditer(data, 0, until):
            line, self.offset = data[begin : match.start()], self.offset + match.end() - begin
            begin = match.end()
            if self._overlong:
                self._overlong = False
            else:
                self.count += 1
                yield self._clean(line)
        self._tail = data[begin:]
        if len(self._tail) > MAX_LINE:
            if not self._overlong:
                self.count += 1
                yield self._clean(self._tail)
            self.offset += len(self._tail)
            self._tail, self._overlong = b"", True

    def _clean(self, line: bytes) -> str:
        text = line[:MAX_LINE].decode("utf-8", "replace")
        if not self._begun:
            self._begun, text = True, text.lstrip("\ufeff")
        if "\x1b" in text:
            text = _ANSI.sub("", text)
        return _ECHO.sub("", text) if "^[[" in text else text
