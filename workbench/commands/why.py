"""Verbs that say why: explain, export, import."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from workbench.atomic import write_atomically
from workbench.errors import UserError
from workbench.export.files import write, write_summary
from workbench.export.markdown import parts, summary, write_diagnosis
from workbench.export.page import page
from workbench.plateau.diagnose import diagnosis_of
from workbench.plateau.report import report_lines
from workbench.runs.facts import FILE_NAME, facts_of_log, override
from workbench.runs.history import History
from workbench.runs.importers.growing import complete, record, write_events
from workbench.runs.importers.read import LogReader
from workbench.runs.launch import new_folder
from workbench.runs.read import Source, beside, given_facts, read_run, read_target
from workbench.runs.store import runs_root
from workbench.text import plain


def explain(args: argparse.Namespace) -> int:
    """``gptbench explain``: the diagnosis of a run (kept as its diagnosis.json) or of a log (nothing is written)."""
    source = _source(args)
    diagnosis = diagnosis_of(source)
    answer = diagnosis.to_dict()
    if source.run_dir is not None:
        try:
            write_diagnosis(source.run_dir, answer)
        except OSError as error:  # a full or read-only disk: the answer is given all the same
            print(f"gptbench: {plain(error.filename)}: cannot be kept: {error.strerror}", file=sys.stderr)
    if args.json:
        print(json.dumps(answer, indent=1, allow_nan=False))
        return 0
    print("\n".join(report_lines(diagnosis, source.history, _width())))
    return 0


def explain_run(run_dir: Path, width: int = 80) -> list[str]:
    """The report of a run directory, its diagnosis.json written."""
    source = read_run(Path(run_dir))
    diagnosis = diagnosis_of(source)
    write_diagnosis(Path(run_dir), diagnosis.to_dict())
    return report_lines(diagnosis, source.history, width)


def export(args: argparse.Namespace) -> int:
    """``gptbench export``: the summary, into the run, beside a file, or of a log onto standard output."""
    formats = [name for name in ("html", "png") if getattr(args, name)]
    if not formats or args.output is None:
        formats.insert(1 if args.html else 0, "md")  # the first one's file is what is printed
    source = _source(args)
    diagnosis = diagnosis_of(source)
    if source.run_dir is not None and args.output is None:
        return _say_files(args, write_summary(source.run_dir, (source, diagnosis), formats))
    if args.output is None:
        if args.png:
            raise UserError("--png of a log needs a place: -o FILE.png", 2)
        every = (source.history, source.facts, diagnosis, source.name)
        text = page(parts(*every), source.name) if args.html else summary(*every)
        if args.json:
            print(json.dumps({"summary": text}))
        else:
            sys.stdout.write(text)
        return 0
    path = Path(args.output).expanduser()
    try:
        return _say_files(args, write(source, diagnosis, path, formats))
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from None


def import_log(args: argparse.Namespace) -> int:
    """``gptbench import``: a run directory with the log's events, its facts, and where the log lies."""
    log = Path(args.target).expanduser()
    reader = LogReader(log)
    root = runs_root(args.runs)
    given = given_facts(args.fact)
    stated = beside(log)
    label = "".join(c if c.isalnum() or c in "._-" else "-" for c in (args.name or log.stem)).strip("-.")[:80]
    try:
        root.mkdir(parents=True, exist_ok=True)
        run_dir = new_folder(root, label or "imported")
        history, modified = History(), log.stat().st_mtime
        write_events(run_dir, _applied(history, reader.events(complete(log)), modified))
        facts = override(facts_of_log(reader.facts, history), [*stated, *given], history)
        write_atomically(run_dir / FILE_NAME, facts.to_toml(record(reader)))
    except OSError as error:
        raise UserError(f"{error.filename or root}: cannot be written: {error.strerror or error}") from None
    if not history.step and not len(history.steps):
        print(f"gptbench: {plain(log)}: a {reader.format} log without a step so far", file=sys.stderr)
    _say(args, "run", run_dir)
    return 0


def _applied(history: History, events: Iterable[dict[str, Any]], moment: float) -> Iterator[dict[str, Any]]:
    """Events with a time, taken into ``history`` as they pass."""
    for event in events:
        stamped = {"time": moment, **event}
        history.apply(stamped)
        yield stamped


def _source(args: argparse.Namespace) -> Source:
    given = given_facts(args.fact, args.unique_tokens, args.data)
    return read_target(args.target, runs_root(args.runs), given)


def _width() -> int:
    try:
        columns = os.get_terminal_size(sys.stdout.fileno()).columns
    except (OSError, ValueError):
        return 80
    return max(40, min(columns, 100))


def _say(args: argparse.Namespace, key: str, path: Path) -> None:
    if args.json:
        print(json.dumps({key: str(path)}))
    else:
        print(plain(path))


def _say_files(args: argparse.Namespace, files: list[Path]) -> int:
    """The first file is the answer; the others are named in JSON."""
    if not files:
        raise UserError("nothing was written: this run has no charts yet")
    if args.json:
        print(json.dumps({"path": str(files[0]), "files": [str(file) for file in files]}))
    else:
        print(plain(files[0]))
    return 0
