"""Verbs that ask shards and choose from them: ``data sql``, ``data recipe``, ``data pack --recipe``, ``data fetch``."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from workbench.commands.telling import complain_all, errors_as_json, number, progress, size
from workbench.errors import UserError
from workbench.text import plain

if TYPE_CHECKING:
    from data.catalogue import FileProblem
    from data.choose import Choice
    from data.console import Result
    from data.packed import Pack

_WIDEST = 60  # cells of a column of a result


def sql(args: argparse.Namespace) -> int:
    """``gptbench data sql``: one statement over the shards as table ``docs``; 1 where a shard was left out."""
    from data.catalogue import Catalogue
    from data.console import Console as Database
    from data.query_history import QueryHistory

    statement = sys.stdin.read() if args.query == "-" else args.query
    with Catalogue(args.paths) as catalogue:
        lacking = [p for p in catalogue.errors if p.file not in {file.path for file in catalogue.files}]
        left_out = complain_all(lacking)
        if not catalogue.files:
            return 1
        QueryHistory().add(statement)
        with Database(catalogue.files) as database:
            if args.output:
                with progress("writing") as tell:
                    rows = database.export(statement, args.output, lambda count: tell(f"{count:,} rows", 0.0))
                answer = {"rows": rows, "file": str(Path(args.output).expanduser().absolute())}
                print(json.dumps(answer) if args.json else f"{rows:,} rows in {plain(answer['file'])}")
            else:
                result = database.run(statement, cap=args.limit)
                _print_json(result) if args.json else _print_rows(result)
    return left_out


def recipe(args: argparse.Namespace) -> int:
    """``gptbench data recipe``: what a recipe would leave of the shards; 1 where a shard was left out."""
    from data import recipe as recipes
    from data.catalogue import Catalogue
    from data.choose import choose
    from data.packed import default_cache
    from engine.config import resolve

    config = resolve(args.config, args.set)
    planned = config.tokens_per_step * config.train.max_steps if args.config or args.set else None
    made = recipes.read(args.recipe)
    cache = Path(config.data.cache).expanduser() if config.data.cache else default_cache()
    with progress("reading footers") as tell, Catalogue(args.paths, column=config.data.column) as catalogue:
        choice = choose(
            made,
            catalogue,
            default_fraction=config.data.val_fraction,
            encoding=config.data.encoding,
            exact_tokens=True if args.exact else None,
            cache=cache,
            on_progress=tell,
        )
    if args.json:
        answer = choice.to_dict()
        if planned is not None:
            epochs, effective = choice.epochs(planned)
            answer |= {"planned_tokens": planned, "epochs": epochs, "effective_epochs": effective}
        print(json.dumps(answer))
    else:
        print_choice(choice, planned)
    return complain_all(choice.errors)


def pack(args: argparse.Namespace) -> int:
    """``gptbench data pack --recipe``: packs of what a recipe keeps, in the folders train and heldout below ``-o``."""
    from data import recipe as recipes
    from data.catalogue import Catalogue, FileProblem
    from data.choose import HELD_OUT, TRAIN, choose
    from data.files import ShardError
    from data.pack import SUFFIX
    from data.packed import default_cache, find_packs, pack_shards
    from data.packing import write_subset

    if not args.output:
        raise UserError("data pack --recipe writes chosen documents: name a folder for them with -o DIR", 2)
    out = Path(args.output).expanduser().absolute()
    folders = {split: out / split for split in (TRAIN, HELD_OUT)}
    for folder in folders.values():
        if find_packs(folder):
            raise UserError(f"{folder}: holds packs already; name an empty folder with -o")
    made = recipes.read(args.recipe)
    packs: list[tuple[str, Pack]] = []
    errors: list[FileProblem] = []
    with progress("reading footers") as tell, Catalogue(args.paths, column=args.column) as catalogue:
        choice = choose(made, catalogue, exact_tokens=True, encoding=args.encoding, on_progress=tell)
        errors += choice.errors
        kept = [path for path, rows in choice.rows.items() if any(map(len, rows))]

        def failed(path: str, error: ShardError) -> None:
            errors.append(FileProblem.of(path, error))

        for whole in pack_shards(
            kept, encoding=args.encoding, column=args.column, cache=default_cache(), on_error=failed
        ):
            tell("writing packs", len(packs) / max(1, 2 * len(kept)))
            for split, rows in zip((TRAIN, HELD_OUT), choice.rows[whole.identity.path], strict=True):
                if len(rows):
                    digest = hashlib.blake2b(rows.tobytes(), digest_size=4).hexdigest()
                    name = f"{whole.folder.name.removesuffix(SUFFIX)}-{digest}{SUFFIX}"
                    packs.append((split, write_subset(whole, rows, folders[split] / name)))
    (out / "recipe.toml").write_text(made.to_toml(), "utf-8")
    if args.json:
        listed = [
            {"split": split, "file": p.identity.path, "folder": str(p.folder), "documents": p.documents,
             "tokens": len(p.tokens)}
            for split, p in packs
        ]  # fmt: skip
        print(json.dumps({"packs": listed, **choice.to_dict(), "errors": errors_as_json(errors)}))
    else:
        print_choice(choice, None)
        print(f"\nin {plain(folders[TRAIN])} and {plain(folders[HELD_OUT])}; train on them with")
        print(f"  gptbench train {plain(folders[TRAIN])} --set data.val_paths={plain(folders[HELD_OUT])}")
    return complain_all(errors)


def fetch(args: argparse.Namespace) -> int:
    """``gptbench data fetch``: parquet shards of a dataset on the Hugging Face hub; resumes what was cut off."""
    from data.fetch import fetch as bring

    with progress("asking the hub") as tell:
        got = bring(
            args.dataset,
            config=args.config,
            shards=args.shards,
            split=args.split,
            revision=args.revision,
            folder=Path(args.output) if args.output else None,
            on_progress=tell,
        )
    if args.json:
        answer = {
            "dataset": got.dataset, "revision": got.revision, "config": got.config, "folder": str(got.folder),
            "files": got.files, "available": got.available, "bytes": got.bytes, "errors": errors_as_json(got.errors),
        }  # fmt: skip
        print(json.dumps(answer))
    elif got.files:
        print(f"{len(got.files):,} of {got.available:,} shards, {size(got.bytes)}, in {plain(got.folder)}")
        print(f"look into them with: gptbench data stats {plain(got.folder)}")
    return complain_all(got.errors)


def print_choice(choice: Choice, planned: int | None) -> None:
    """A recipe's effect, readable at 80 columns."""
    console = Console(highlight=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("", no_wrap=True)
    for heading in ("documents", "tokens", "of all"):
        table.add_column(heading, justify="right", no_wrap=True)
    everything = choice.stages[0].tokens or 1
    rows = [(stage.name, stage.documents, stage.tokens) for stage in choice.stages]
    rows.append(("trained on", choice.train_documents, choice.train_tokens))
    rows.append(("held out", choice.held_out_documents, choice.held_out_tokens))
    for name, documents, tokens in rows:
        table.add_row(Text(name), number(documents), number(tokens), f"{tokens / everything:.1%}")
    console.print(table)
    facts = [
        ("unique tokens", number(choice.unique_tokens), "of the training documents, exact copies once"),
        ("effective tokens", number(choice.effective_tokens), "near copies once"),
        ("leaked, exact", number(choice.leaked_documents), "held-out documents with a copy among the training ones"),
        ("leaked, near", number(choice.near_leaked_documents), "held-out documents with a near copy among them"),
    ]
    if planned is not None:
        epochs, effective = choice.epochs(planned)
        more = "" if effective is None else f", {effective:.2f} over the effective tokens"
        facts.append(("epochs", f"{epochs:.2f}", f"of the planned {number(planned)} tokens{more}"))
    console.print()
    grid = Table(box=None, show_header=False, pad_edge=False)
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(style="dim", overflow="fold")
    for name, value, note in facts:
        grid.add_row(Text(name), Text(value), Text(note))
    console.print(grid)
    console.print(Text(choice.tokens_note, "dim"))


def _print_json(result: Result) -> None:
    print(
        json.dumps(
            {
                "columns": [{"name": column.name, "type": column.type} for column in result.columns],
                "rows": [list(row) for row in result.rows],
                "capped": result.capped,
                "seconds": round(result.seconds, 3),
            },
        )
    )


def _print_rows(result: Result) -> None:
    console = Console(highlight=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in result.columns:
        numeric = column.type.startswith(("BIGINT", "INTEGER", "DOUBLE", "FLOAT", "DECIMAL", "HUGEINT", "UBIGINT"))
        table.add_column(
            Text(plain(column.name)), justify="right" if numeric else "left", overflow="ellipsis", no_wrap=True,
            max_width=_WIDEST,
        )  # fmt: skip
    for row in result.rows:
        table.add_row(*(Text("null", "dim italic") if cell is None else Text(plain(cell)) for cell in row))
    console.print(table)
    more = f"first {len(result.rows):,} rows; there are more: --limit or -o FILE" if result.capped else ""
    count = more or f"{len(result.rows):,} row{'' if len(result.rows) == 1 else 's'}"
    print(f"{count}, {result.seconds:.2f} s", file=sys.stderr if not os.isatty(1) else sys.stdout)
