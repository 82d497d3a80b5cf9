"""Open a log of whatever trainer: the format is told by content, never by name; the log is streamed.

Three kinds of log: lines (most), TensorBoard's binary records, and JSON documents (Hugging Face's
``trainer_state.json``). Of a log with billions of steps, the step events become sparser as it goes on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from workbench.errors import UserError
from workbench.runs.facts import Fact
from workbench.runs.history import History
from workbench.runs.importers import document, tensorboard
from workbench.runs.importers.build_nanogpt import BuildNanoGPT
from workbench.runs.importers.importer import Event, Importer
from workbench.runs.importers.jsonl import JsonLines
from workbench.runs.importers.lines import Lines, encoding_of
from workbench.runs.importers.litgpt import LitGPT
from workbench.runs.importers.llmc import LlmC
from workbench.runs.importers.llmc_stdout import LlmCOutput
from workbench.runs.importers.megatron import Megatron
from workbench.runs.importers.modded_nanogpt import ModdedNanoGPT
from workbench.runs.importers.nanochat import NanoChat
from workbench.runs.importers.nanogpt import NanoGPT
from workbench.runs.importers.table import Table
from workbench.runs.importers.torchtitan import TorchTitan

FORMATS: tuple[type[Importer], ...] = (
    NanoGPT, LlmC, LlmCOutput, ModdedNanoGPT, BuildNanoGPT, NanoChat, LitGPT, TorchTitan, Megatron, Table, JsonLines,
)  # fmt: skip
HEAD_BYTES = 4 << 20  # what is looked at to tell the format: some logs begin with a whole training script
DENSE = 250_000  # step events kept before every second one is left out, and so on
# What launchers put before each line: torchrun's "[rank0]:", srun's "0: ".
_RANK = re.compile(r"\[?(?:default)?(?:rank)?(\d{1,5})\]?: ?(?=\S| )")


class Reader(Protocol):
    """One kind of log. ``offset``: bytes read for good; ``appendable``: whether growth only ever appends."""

    format: str
    appendable: bool

    @property
    def facts(self) -> dict[str, Fact]: ...
    @property
    def offset(self) -> int: ...
    @property
    def lines(self) -> int: ...

    def events(self, last: bool, until: int | None) -> Iterator[Event]:
        """Events of what was appended since the last call, up to the offset ``until``; ``last``: of a line that has no
        end yet as well."""
        ...


class LogReader:
    """Streams a log's events. ``facts`` and ``lines`` are complete once ``events()`` is exhausted.

    Raises:
        UserError: missing, a folder, unreadable, empty, binary, or of no known format (those tried are named).
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._reader = _open(self.path)
        self.format = self._reader.format
        self._thin = _Thin()

    @property
    def facts(self) -> dict[str, Fact]:
        """What the lines read so far said of the run."""
        return self._reader.facts

    @property
    def lines(self) -> int:
        """Lines (records, objects) read so far."""
        return self._reader.lines

    @property
    def offset(self) -> int:
        """Bytes behind which reading goes on."""
        return self._reader.offset

    @property
    def appendable(self) -> bool:
        """Whether the log grows by appending (a JSON document is written anew)."""
        return self._reader.appendable

    def events(self, last: bool = True, until: int | None = None) -> Iterator[Event]:
        """Events not yet given, in order; called again, those of what was appended since.

        Args:
            last: read a last line that has no end yet as well. False for a log that is being written.
            until: read up to this offset only.
        """
        return self._thin(self._reader.events(last, until))


class _Thin:
    """Leaves out step events of an enormous log: every second one behind ``DENSE``, then three of four, and so on."""

    def __init__(self) -> None:
        self._seen = self._kept = 0
        self._stride = 1

    def __call__(self, events: Iterable[Event]) -> Iterator[Event]:
        for event in events:
            if event["event"] == "step":
                self._seen += 1
                if self._seen % self._stride:
                    continue
                self._kept += 1
                if self._kept == DENSE:
                    self._kept, self._stride = 0, 2 * self._stride
            yield event


class LineLog:
    """A log of lines, read by the importer of its format. Where lines bear a rank, one rank's events count."""

    appendable = True

    def __init__(self, lines: Lines, importer: Importer) -> None:
        self._lines = lines
        self._importer = importer
        self.format = importer.name
        self._rank: str | None = None
        self._ended: Event | None = None

    @property
    def facts(self) -> dict[str, Fact]:
        return self._importer.facts

    @property
    def offset(self) -> int:
        return self._lines.offset

    @property
    def lines(self) -> int:
        return self._lines.count

    def events(self, last: bool, until: int | None) -> Iterator[Event]:
        for line in self._lines.read(last=last, until=until):
            rank, text = unranked(line)
            if rank is not None and self._rank is not None and rank != self._rank:
                continue
            for event in self._importer.feed(self._lines.count, text):
                if rank is not None and event["event"] in ("step", "eval"):
                    self._rank = rank
                yield event
        for event in self._importer.finish():
            if event != self._ended:
                self._ended = event
                yield event


def unranked(line: str) -> tuple[str | None, str]:
    """The rank that a launcher put before a line, and the line without it."""
    match = _RANK.match(line)
    return (match[1], line[match.end() :]) if match else (None, line)


def _open(path: Path) -> Reader:
    encoding = encoding_of(path)
    if encoding is None:
        if tensorboard.is_event_file(path):
            return tensorboard.EventFile(path)
        raise UserError(f"{path}: is binary, not a log; name a log, a table or a TensorBoard event file")
    begin = list(Lines(path, encoding).read(HEAD_BYTES))
    if not begin:
        raise UserError(f"{path}: the log is empty")
    begin = [unranked(line)[1] for line in begin]
    best, chosen = max(((importer.score(begin), importer) for importer in FORMATS), key=lambda s: s[0])
    if encoding == "utf-8" and document.score(path) > max(best, 1):
        return document.Document(path)
    if best < 2:
        tried = [importer.name for importer in FORMATS] + [document.Document.format, tensorboard.EventFile.format]
        raise UserError(
            f"{path}: no known log format; a CSV file with columns step and loss is one; tried: {', '.join(tried)}"
        )
    return LineLog(Lines(path, encoding), chosen())


def read_history(path: str | Path) -> tuple[History, LogReader]:
    """A log as a history, without holding its events. Raises UserError as ``LogReader`` does."""
    reader = LogReader(path)
    history = History.of(reader.events())
    return history, reader
