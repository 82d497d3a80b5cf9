"""The files of a summary: markdown with its charts beside it as SVG, one HTML page, and PNG where a converter is."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from workbench.atomic import write_atomically
from workbench.errors import UserError
from workbench.export.figures import Figure
from workbench.export.markdown import parts, summary, write_diagnosis
from workbench.export.page import page
from workbench.plateau.diagnose import Diagnosis, diagnosis_of
from workbench.runs.read import Source, read_run

FILE_NAME = "summary.md"
FORMATS = ("md", "html", "png")
_PATIENCE = 60.0  # seconds that a conversion may take


def write_summary(
    run_dir: Path, known: tuple[Source, Diagnosis] | None = None, formats: Sequence[str] = ("md",)
) -> list[Path]:
    """Write the summary and ``diagnosis.json`` into a run directory, each file whole or not at all.

    Args:
        known: the run as read and its diagnosis, where the caller has them (with facts a person gave).
        formats: as ``write``.

    Returns:
        The files, those of the first format first; ``diagnosis.json`` is not among them.
    """
    run_dir = Path(run_dir)
    if known is None:
        source = read_run(run_dir)
        known = source, diagnosis_of(source)
    source, diagnosis = known
    write_diagnosis(run_dir, diagnosis.to_dict())
    return write(source, diagnosis, run_dir / FILE_NAME, formats)


def write(source: Source, diagnosis: Diagnosis, path: Path, formats: Sequence[str]) -> list[Path]:
    """Write a summary beside ``path``, whose ending each format replaces: ``md`` with its charts as ``…-loss.svg``,
    ``html`` (charts inside), ``png`` (the charts). Returns the files, those of the first format first.

    Raises:
        UserError: ``png``, and nothing here converts SVG.
        OSError: a file that cannot be written.
    """
    every = list(parts(source.history, source.facts, diagnosis, source.name))
    charts = [part for part in every if isinstance(part, Figure)]
    written: list[Path] = []
    if "md" in formats:
        images = {chart.name: path.with_name(f"{path.stem}-{chart.name}.svg") for chart in charts}
        for chart in charts:
            write_atomically(images[chart.name], chart.svg())
        text = summary(
            source.history, source.facts, diagnosis, source.name, lambda name: quote(images[name].name)
        )  # fmt: skip
        write_atomically(path, text)
        written += [path, *images.values()]
    if "html" in formats:
        target = path.with_suffix(".html")
        write_atomically(target, page(every, source.name))
        written.append(target)
    if "png" in formats:
        for chart in charts:
            target = path.with_name(f"{path.stem}-{chart.name}.png")
            _to_png(chart.svg(), target)
            written.append(target)
    return sorted(written, key=lambda file: file.suffix != f".{formats[0]}")


def converts() -> bool:
    """Whether something here turns SVG into PNG."""
    if shutil.which("rsvg-convert"):
        return True
    try:
        import cairosvg  # noqa: F401
    except (ImportError, OSError):  # OSError: the package without its library
        return False
    return True


def _to_png(svg: str, path: Path) -> None:
    if not converts():
        raise UserError(
            "PNG needs a converter, and there is none: apt-get install librsvg2-bin, or pip install cairosvg"
        )
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        if program := shutil.which("rsvg-convert"):
            try:
                subprocess.run(
                    [program, "--zoom=2", "-o", str(temporary)],
                    input=svg.encode(), check=True, capture_output=True, timeout=_PATIENCE,
                )  # fmt: skip
            except subprocess.SubprocessError as error:
                raise UserError(f"{path}: rsvg-convert failed: {error}") from None
        else:
            import cairosvg

            cairosvg.svg2png(bytestring=svg.encode(), write_to=str(temporary), scale=2)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
