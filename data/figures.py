"""The figures about a selection of shards, as ``statistics`` answers them. What was not computed is None, never 0."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from data.catalogue import FileProblem

if TYPE_CHECKING:
    from data.worth import Worth

COUNTED, COLUMN, ESTIMATED, MIXED = "counted", "column", "estimated", "mixed"


@dataclass
class FileStatistics:
    """One file's share. ``exact_duplicate_rows`` are copies within the file; ``copies_of_earlier_files`` are rows
    whose first copy lies in a file before it: the two sum over the files to the selection's exact duplicates."""

    file: str
    rows: int
    bytes: int
    documents: int
    empty_rows: int
    text_bytes: int
    tokens: int
    tokens_low: int
    tokens_high: int
    tokens_basis: str
    exact_duplicate_rows: int = 0
    copies_of_earlier_files: int = 0
    unique_tokens: int = 0
    near_duplicate_rows: int | None = None
    near_duplicate_tokens: int | None = None
    boilerplate_tokens: int | None = None
    effective_tokens: int | None = None
    effective_tokens_low: int | None = None
    effective_tokens_high: int | None = None


@dataclass(frozen=True)
class Lengths:
    """Document lengths in tokens, by powers of two: bin i holds lengths in [edges[i], edges[i + 1])."""

    edges: tuple[int, ...]
    documents: tuple[int, ...]
    tokens: tuple[int, ...]


@dataclass
class Statistics:
    """Over the files that could be read to their end; the others are in ``errors``.

    Attributes:
        bytes: size of the files on disk; ``text_bytes``: UTF-8 bytes of their documents.
        tokens_low, tokens_high: 90% interval; equal to ``tokens`` where every document was counted.
        tokens_basis: "counted", "column" (``token_count``, agreeing with a counted sample), "estimated" or "mixed";
            ``tokens_note`` says it in words.
        unique_tokens: tokens once exact copies are taken away.
        effective_tokens: once near duplicates and boilerplate are taken away too, with its 90% interval. Not looked
            for: None, but ``effective_tokens_high``, which ``unique_tokens`` bounds.
        worth_basis: "exact", "estimated" or None; ``worth_note`` says it in words.
        worth: its clusters and repeated lines, where exact. No part of ``to_dict``.
    """

    files: int = 0
    rows: int = 0
    bytes: int = 0
    tokens: int | None = None
    tokens_low: int | None = None
    tokens_high: int | None = None
    tokens_basis: str | None = None
    tokens_note: str = ""
    documents: int = 0
    empty_rows: int = 0
    text_bytes: int = 0
    exact_duplicate_rows: int | None = None
    near_duplicate_rows: int | None = None
    unique_tokens: int | None = None
    effective_tokens: int | None = None
    effective_tokens_low: int | None = None
    effective_tokens_high: int | None = None
    exact_duplicate_tokens: int | None = None
    near_duplicate_tokens: int | None = None
    boilerplate_tokens: int | None = None
    near_duplicate_tokens_low: int | None = None
    near_duplicate_tokens_high: int | None = None
    boilerplate_tokens_low: int | None = None
    boilerplate_tokens_high: int | None = None
    near_duplicate_rows_low: int | None = None
    near_duplicate_rows_high: int | None = None
    worth_basis: str | None = None
    worth_note: str = ""
    encoding: str = "gpt2"
    errors: list[FileProblem] = field(default_factory=list)
    by_file: list[FileStatistics] = field(default_factory=list)
    lengths: Lengths | None = None
    worth: Worth | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        plain = Statistics(**{f.name: getattr(self, f.name) for f in fields(self) if f.name != "worth"})
        return {name: value for name, value in asdict(plain).items() if name != "worth"}
