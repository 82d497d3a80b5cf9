"""Verbs about shards: ``data stats`` and ``data pack``."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from workbench.commands.telling import complain_all, errors_as_json, number, progress, size
from workbench.text import plain

if TYPE_CHECKING:
    from data.catalogue import FileProblem
    from data.packed import Pack
    from data.statistics import Statistics

_FILES_SHOWN = 20
_BAR = 24


def stats(args: argparse.Namespace) -> int:
    """``gptbench data stats``: what the shards hold; 1 where a file could not be answered for."""
    from data.catalogue import Catalogue
    from data.statistics import statistics

    with progress() as tell, Catalogue(args.paths) as catalogue:
        near = "exact" if args.exact else "estimate"
        result = statistics(catalogue, exact_tokens=args.exact, near=near, on_progress=tell)
    if args.json:
        print(json.dumps(result.to_dict()))
    elif result.files:
        print_statistics(result)
    return complain_all(result.errors)


def pack(args: argparse.Namespace) -> int:
    """``gptbench data pack``: tokenise shards; 1 where one could not be packed."""
    if args.recipe:
        from workbench.commands import shards

        return shards.pack(args)
    from data.catalogue import FileProblem
    from data.files import ShardError, expand_each
    from data.packed import default_cache, pack_shards

    paths, problems = expand_each(args.paths)
    errors = [FileProblem.of(path, error) for path, error in problems.items()]

    def failed(path: str, error: ShardError) -> None:
        errors.append(FileProblem.of(path, error))

    with progress() as tell:
        done: dict[str, float] = {}

        def step(path: str, rows: int, total: int) -> None:
            done[path] = rows / max(1, total)
            tell("packing", sum(done.values()) / len(paths))

        packs = list(
            pack_shards(
                paths,
                encoding=args.encoding,
                column=args.column,
                cache=Path(args.output).expanduser().absolute() if args.output else default_cache(),
                on_progress=step,
                on_error=failed,
            )
        )
    if args.json:
        print(json.dumps(_packs_as_json(packs, errors)))
    elif packs:
        _print_packs(packs)
    return complain_all(errors)


def print_statistics(result: Statistics) -> None:
    """The statistics as tables on standard output, readable at 80 columns."""
    console = Console(highlight=False)
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(justify="right", no_wrap=True)
    facts.add_column(style="dim", overflow="fold")
    for name, value, note in _facts(result):
        facts.add_row(Text(name), Text(value), Text(note))
    console.print(facts)
    if len(result.by_file) > 1:
        console.print()
        console.print(_by_file(result))
    if result.lengths is not None:
        console.print()
        console.print(_lengths(result))


def _facts(result: Statistics) -> Iterator[tuple[str, str, str]]:
    yield "files", f"{result.files:,}", size(result.bytes) + " on disk"
    empty = f", {result.empty_rows:,} rows without text" if result.empty_rows else ""
    yield "documents", f"{result.documents:,}", size(result.text_bytes) + " of text" + empty
    note = result.tokens_note
    if result.tokens_low != result.tokens_high:
        note = f"90% interval {number(result.tokens_low)} – {number(result.tokens_high)}; {note}"
    yield f"tokens ({plain(result.encoding)})", number(result.tokens), note
    yield "exact duplicates", number(result.exact_duplicate_rows), _taken(result, result.exact_duplicate_tokens)
    rows = number(result.near_duplicate_rows)
    near = _taken(result, result.near_duplicate_tokens)
    if result.near_duplicate_rows_low != result.near_duplicate_rows_high:
        near = f"{number(result.near_duplicate_rows_low)} – {number(result.near_duplicate_rows_high)}; {near}"
    yield "near duplicates", rows, near
    lines = _taken(result, result.boilerplate_tokens, False)
    if result.boilerplate_tokens_low != result.boilerplate_tokens_high:
        lines = f"{number(result.boilerplate_tokens_low)} – {number(result.boilerplate_tokens_high)}; {lines}"
    yield "boilerplate tokens", number(result.boilerplate_tokens), lines
    yield "unique tokens", number(result.unique_tokens), "exact copies counted once"
    if result.effective_tokens is None:
        yield "effective tokens", number(None), f"at most {number(result.effective_tokens_high)}"
        return
    known = result.worth_note
    if result.effective_tokens_low != result.effective_tokens_high:
        known = f"90% interval {number(result.effective_tokens_low)} – {number(result.effective_tokens_high)}; {known}"
    if result.worth_basis == "estimated":
        known += "; --exact compares all"
    yield "effective tokens", number(result.effective_tokens), known


def _taken(result: Statistics, tokens: int | None, say_tokens: bool = True) -> str:
    """How many tokens something takes away, and which share of all."""
    if tokens is None:
        return ""
    share = f"{tokens / result.tokens:.2%} of all" if result.tokens else ""
    return f"rows, {number(tokens)} tokens, {share}" if say_tokens else share


def _by_file(result: Statistics) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("file", overflow="fold")
    exact = all(entry.effective_tokens is not None for entry in result.by_file)
    headings = ("documents", "tokens", "copies", "near", "effective" if exact else "unique")
    for heading in headings if exact else headings[:3] + headings[4:]:
        table.add_column(heading, justify="right", no_wrap=True)
    common = Path(os.path.commonpath([Path(entry.file).parent for entry in result.by_file]))
    for entry in result.by_file[:_FILES_SHOWN]:
        copies = entry.exact_duplicate_rows + entry.copies_of_earlier_files
        table.add_row(
            Text(plain(Path(entry.file).relative_to(common))),
            *(Text(number(n)) for n in (entry.documents, entry.tokens, copies)),
            *([Text(number(entry.near_duplicate_rows))] if exact else []),
            Text(number(entry.effective_tokens if exact else entry.unique_tokens)),
        )
    left_out = len(result.by_file) - _FILES_SHOWN
    if left_out > 0:
        table.add_row(Text(f"… {left_out:,} more: --json has all"))
    return table


def _lengths(result: Statistics) -> Table:
    assert result.lengths is not None
    lengths = result.lengths
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("document length, tokens", justify="right", no_wrap=True)
    table.add_column("documents", justify="right", no_wrap=True)
    table.add_column("")
    table.add_column("tokens", justify="right", no_wrap=True)
    most = max(lengths.documents)
    for low, high, documents, mass in zip(
        lengths.edges, lengths.edges[1:], lengths.documents, lengths.tokens, strict=False
    ):
        bar = "█" * round(_BAR * documents / most) or ("▏" if documents else "")
        share = f"{mass / result.tokens:.0%}" if result.tokens else ""
        table.add_row(Text(f"{low:,} – {high - 1:,}"), Text(f"{documents:,}"), Text(bar), Text(share))
    return table


def _packs_as_json(packs: list[Pack], errors: list[FileProblem]) -> dict[str, object]:
    return {
        "packs": [
            {
                "file": pack.identity.path,
                "folder": str(pack.folder),
                "encoding": pack.encoding,
                "documents": pack.documents,
                "tokens": len(pack.tokens),
                "empty_rows": pack.empty_rows,
            }
            for pack in packs
        ],
        "documents": sum(pack.documents for pack in packs),
        "tokens": sum(len(pack.tokens) for pack in packs),
        "errors": errors_as_json(errors),
    }


def _print_packs(packs: list[Pack]) -> None:
    console = Console(highlight=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("pack", overflow="ellipsis", no_wrap=True)
    table.add_column("documents", justify="right", no_wrap=True)
    table.add_column("tokens", justify="right", no_wrap=True)
    for pack in packs:
        table.add_row(Text(plain(pack.folder.name)), Text(number(pack.documents)), Text(number(len(pack.tokens))))
    documents, tokens = sum(pack.documents for pack in packs), sum(len(pack.tokens) for pack in packs)
    table.add_row(Text(f"{len(packs):,} in all", "bold"), Text(number(documents)), Text(number(tokens)))
    console.print(table)
    console.print(
        Text(f"\nin {plain(packs[0].folder.parent)}  (tokens count one separator a document)"), soft_wrap=True
    )
