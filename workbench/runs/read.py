"""A run or a foreign log as history and facts: the one way in for explanation and export."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from workbench.errors import UserError
from workbench.runs.facts import Fact, Facts, facts_of_log, facts_of_run, override, parse_fact, read_toml
from workbench.runs.follow import read_whole
from workbench.runs.history import History
from workbench.runs.importers.read import read_history
from workbench.runs.store import find_run, is_run


@dataclass(frozen=True)
class Source:
    """What was read. ``run_dir`` is None for a foreign log; ``format`` is "" for a run directory."""

    name: str
    history: History
    facts: Facts
    run_dir: Path | None
    format: str = ""


def read_run(run_dir: Path, given: Sequence[tuple[str, Fact]] = ()) -> Source:
    """A run directory. Raises UserError where it holds no events yet, or its facts cannot be read."""
    history = read_whole(run_dir)
    facts = facts_of_run(run_dir, history)
    if given:
        facts = override(facts, given, history)
    return Source(run_dir.name, history, facts, run_dir)


def read_foreign(log: Path, given: Sequence[tuple[str, Fact]] = ()) -> Source:
    """A log of another trainer, with ``LOG.facts.toml`` beside it, if there is one.

    Raises:
        UserError: as ``importers.read.LogReader`` and ``facts.read_toml`` do.
    """
    history, reader = read_history(log)
    facts = facts_of_log(reader.facts, history)
    if stated := [*beside(log), *given]:
        facts = override(facts, stated, history)
    return Source(log.name, history, facts, None, reader.format)


def beside(log: Path) -> list[tuple[str, Fact]]:
    """What ``LOG.facts.toml`` beside a log states; nothing where there is none. Raises UserError as ``read_toml``."""
    path = log.with_name(log.name + ".facts.toml")
    return list(read_toml(path)[0].items()) if path.is_file() else []


def read_target(target: str, root: Path, given: Sequence[tuple[str, Fact]] = ()) -> Source:
    """What a person named: a run of ``root``, a run directory, or a log.

    Raises:
        UserError: neither, or it cannot be read.
    """
    path = Path(target).expanduser()
    if path.is_file():
        return read_foreign(path, given)
    if path.is_dir() and not is_run(path):
        raise UserError(
            f"{path}: is a folder, but no run (no config.toml or facts.toml) and no log; name the log itself"
        )
    if not path.exists() and ("/" in target or path.suffix in (".log", ".txt", ".csv", ".out", ".jsonl", ".json")):
        raise UserError(f"{path}: no such run or log; `gptbench runs` lists the runs")
    return read_run(find_run(root, target), given)


def given_facts(
    fact: Sequence[str] = (), unique_tokens: float | None = None, data: Sequence[str] = ()
) -> list[tuple[str, Fact]]:
    """Facts a person gives, later ones counting: counted shards, ``--unique-tokens``, ``--fact``.

    Raises:
        UserError: a fact that is none, or shards that cannot be counted.
    """
    given: list[tuple[str, Fact]] = []
    if data:
        from data import word_order
        from data.catalogue import Catalogue  # DuckDB: not for those who count nothing
        from data.statistics import statistics

        catalogue = Catalogue(list(data))
        counted = statistics(catalogue)
        if counted.errors:
            first = counted.errors[0]
            raise UserError(f"--data {first.file}: {first.error}; its tokens would be missing from the count")
        if counted.unique_tokens is None or counted.tokens is None:
            raise UserError("--data: the shards' tokens could not be counted; see `gptbench data stats`")
        source = f"counted in the shards of --data ({counted.tokens_basis})"
        given += [
            ("train_tokens", Fact(counted.tokens, source)),
            ("unique_tokens", Fact(counted.unique_tokens, source)),
        ]
        if counted.effective_tokens is not None:
            given.append(("effective_unique_tokens", Fact(counted.effective_tokens, source)))
        if (pairs := word_order.of_shards(catalogue)) is not None:
            given.append(("distinct_pairs", Fact(pairs, "documents drawn from the shards of --data")))
    if unique_tokens is not None:
        key, stated = parse_fact(f"unique_tokens={unique_tokens!r}", "given by --unique-tokens")
        given.append((key, stated))
    return given + [parse_fact(text) for text in fact]
