"""What the pages promise is there: a page for each cause, links that lead somewhere, verbs and options that exist."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPO
from workbench.cli import build_parser
from workbench.plateau.cause import all_causes

DOCS = REPO / "docs"
HEADINGS = (
    "What it means",
    "What it looks like",
    "How gptbench tells it",
    "What it cannot tell it from",
    "What to do",
    "The experiment that settles it",
    "Papers",
)
PAGES = [REPO / "README.md", REPO / "CHANGELOG.md", REPO / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]


def test_every_cause_has_a_page_and_no_page_is_left_over() -> None:
    pages = {path.stem for path in (DOCS / "causes").glob("*.md")} - {"README"}
    assert pages == {cause.ID for cause in all_causes()}


@pytest.mark.parametrize("cause", all_causes(), ids=lambda cause: cause.ID)
def test_a_cause_page_has_its_parts(cause: object) -> None:
    name, title = cause.ID, cause.TITLE  # type: ignore[attr-defined]
    text = (DOCS / "causes" / f"{name}.md").read_text("utf-8")
    assert text.startswith(f"# {title} (`{name}`)\n")
    assert re.findall(r"^## (.+)$", text, re.M) == list(HEADINGS)
    sections = re.split(r"^## .+$", text, flags=re.M)[1:]
    assert all(len(section.strip()) > 20 for section in sections) and "| for | against |" in sections[2]
    assert f"]({name}.md)" in (DOCS / "causes" / "README.md").read_text("utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(REPO)))
def test_links_and_pictures_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if not target.startswith(("https://", "http://", "#", "mailto:")):
            assert (page.parent / target.partition("#")[0]).exists(), target


def _verbs(parser: argparse.ArgumentParser, lead: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], set[str]]]:
    yield lead, set(parser._option_string_actions)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, child in action.choices.items():
                yield from _verbs(child, (*lead, name))


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(REPO)))
def test_commands_in_the_pages_exist(page: Path) -> None:
    known = dict(_verbs(build_parser()))
    text = page.read_text("utf-8").replace("\\\n", " ")
    for line in re.findall(r"(?:^|[`$ ])gptbench((?: [^`#|\n]+)?)", text, re.M):
        words = line.split()
        verb: tuple[str, ...] = ()
        while words and (*verb, words[0]) in known:
            verb = (*verb, words.pop(0))
        if not verb and not (words and words[0].startswith("-")):
            continue  # prose: "gptbench tells …"
        for option in re.findall(r"(?<!\S)(--?[a-z][a-z-]*)", " ".join(words)):
            assert option in known[verb], f"gptbench {' '.join(verb)} has no {option}"
