"""What verbs over shards say alike: numbers and sizes, a problem with a file, progress."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from workbench.text import plain

if TYPE_CHECKING:
    from data.catalogue import FileProblem


def number(value: int | None) -> str:
    """Whole number with separators; unknown is said, never shown as 0."""
    return "not computed" if value is None else f"{value:,}"


def size(count: float) -> str:
    """Bytes in decimal units."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def complain(problem: FileProblem) -> None:
    """Name a file that could not be answered for, on standard error."""
    print(f"gptbench: {plain(problem.file)}: {plain(problem.error)}", file=sys.stderr)


def complain_all(errors: list[FileProblem]) -> int:
    """Name each file that could not be answered for; the exit code: 1 where there is one."""
    for problem in errors:
        complain(problem)
    return 1 if errors else 0


def errors_as_json(errors: list[FileProblem]) -> list[dict[str, str]]:
    """The same for ``--json``."""
    return [{"file": problem.file, "error": problem.error} for problem in errors]


@contextmanager
def progress(stage: str = "reading footers") -> Iterator[Callable[[str, float], None]]:
    """A bar on standard error if that is a terminal; nothing is drawn elsewhere."""
    console = Console(stderr=True, highlight=False)
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task(stage, total=1.0)
        yield lambda stage, fraction: bar.update(task, description=plain(stage), completed=fraction)
