"""What thread workers tell screens, where it is not the feed that speaks."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textual.message import Message

from workbench.widgets.run_header import RunStatus

if TYPE_CHECKING:
    from data.catalogue import Catalogue


@dataclass
class Done(Message):
    """Something a person asked for is done, or went wrong; one line."""

    text: str
    wrong: bool = False


@dataclass
class Diagnosed(Message):
    """A diagnosis is ready (as ``explain --json`` answers it)."""

    run_dir: Path
    diagnosis: Mapping[str, Any]

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, Diagnosed)


@dataclass
class CatalogueRead(Message):
    """The shards of the paths are probed."""

    catalogue: Catalogue
    paths: tuple[str, ...]


@dataclass
class Counted(Message):
    """Statistics of the shards, or None where counting was stopped by ``cancel`` or failed."""

    figures: dict[str, Any] | None
    cancel: threading.Event


@dataclass
class Worked(Message):
    """The exact worth of some shards, as statistics of them."""

    figures: dict[str, Any]


@dataclass
class OpenDocument(Message):
    """Go to a document."""

    file: str
    row: int


@dataclass
class StatusChanged(Message):
    """A run's figures are new."""

    run_dir: Path
    status: RunStatus

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, StatusChanged)
