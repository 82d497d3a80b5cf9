"""A recipe: filters, deduplication, held-out set; what it leaves of the shards; saved for the next run."""

from __future__ import annotations

import threading
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.containers import Container, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.suggester import SuggestFromList
from textual.widgets import Input, Static

from workbench.screens.keys import RECIPE, bindings
from workbench.screens.messages import Done
from workbench.screens.pane import JobPane
from workbench.text import plain
from workbench.widgets.format import UNKNOWN, count, share
from workbench.widgets.line import Line
from workbench.widgets.sheet import Sheet
from workbench.widgets.table import Column, Table

if TYPE_CHECKING:
    from data.choose import Choice
    from data.recipe import Recipe

_COLUMNS = (Column("key", "key", 16), Column("value", "value", 0), Column("help", "", 30, hide_below=76))
_HELP = {
    "deduplicate": "none, exact or near",
    "filter.min_score": "at least this score", "filter.max_score": "at most this score",
    "filter.score_column": "column of the score", "filter.language": "any of these",
    "filter.language_column": "column of the language", "filter.source": "any of these",
    "filter.source_column": "column of the source", "filter.min_tokens": "at least so many tokens",
    "filter.max_tokens": "at most so many", "filter.min_characters": "at least so many characters",
    "filter.max_characters": "at most so many", "filter.where": "url ~ word, as in filters",
    "held_out.fraction": "of the documents kept", "held_out.documents": "or so many documents",
    "held_out.apart": "exact or near copies",
}  # fmt: skip


@dataclass
class Previewed(Message):
    """A recipe's effect on some shards, or None where it was stopped or failed."""

    cancel: threading.Event
    paths: tuple[str, ...]
    choice: Choice | None


@dataclass
class RecipeChosen(Message):
    """A recipe was saved for the next run; ``effect`` if it was previewed as it is."""

    path: str
    effect: dict[str, Any] | None


class RecipePane(JobPane):
    """Keys left, the effect right or below."""

    STOPS = "p or esc stops"
    TITLE = "Recipe"
    BINDINGS = bindings(RECIPE)

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self.recipe: Recipe | None = None
        self.planned_tokens: int | None = None
        self._asking = ""
        self._path = ""
        self._previewed: tuple[Recipe, tuple[str, ...], Choice] | None = None

    def compose(self) -> ComposeResult:
        """Table, line to type into, effect."""
        with Container(id="recipe-split"):
            yield Table(_COLUMNS, id="recipe-keys")
            with VerticalScroll(id="recipe-side", can_focus=False):
                yield Sheet("", id="recipe-effect")
        yield Line(id="recipe-value", compact=True)

    def opened(self) -> None:
        """The recipe so far."""
        from data.recipe import Recipe

        self.recipe = self.recipe or Recipe()
        self._show()
        self.query_one(Table).focus()

    def leave(self) -> bool:
        """First the line, then a preview, then the pane."""
        if self.query_one("#recipe-value").has_class("-shown"):
            self._hide()
            return False
        if self.stop():
            self._show()
            return False
        return True

    # Keys

    def edit(self) -> None:
        """Change the value under the cursor."""
        key = self.query_one(Table).current_key
        if key is None or self.recipe is None:
            return
        choices = {"deduplicate": ["none", "exact", "near"], "held_out.apart": ["exact", "near"]}.get(key)
        self._ask(key, _text(_get(self.recipe, key)), f"{key}: {_HELP[key]}; enter takes it, esc leaves it", choices)

    def action_unset(self) -> None:
        """The value as it was before."""
        from data.recipe import Recipe

        key = self.query_one(Table).current_key
        if key is not None and self.recipe is not None:
            self.recipe = _with(self.recipe, key, _get(Recipe(), key))
            self._show()

    def action_preview(self) -> None:
        """Count what the recipe leaves, or stop counting."""
        if self.stop():
            self._show()
        elif self.recipe is not None:
            self._preview(self.recipe, self.paths, self.begin("reading documents"))

    def action_save(self) -> None:
        """Ask for the file."""
        self._ask("save", self._path or "recipe.toml", "file to save the recipe in; the next run takes it")

    def action_load(self) -> None:
        """Ask for the file."""
        self._ask("load", self._path, "recipe to load (TOML)")

    def _ask(self, what: str, value: str, prompt: str, choices: list[str] | None = None) -> None:
        self._asking = what
        box = self.query_one("#recipe-value", Input)
        box.value, box.placeholder = value, prompt
        box.suggester = SuggestFromList(choices) if choices else None
        box.border_title = plain(prompt)
        box.add_class("-shown")
        box.focus()
        box.action_select_all()

    def _hide(self) -> None:
        self.query_one("#recipe-value").remove_class("-shown")
        self.query_one(Table).focus()

    @on(Input.Submitted, "#recipe-value")
    def _submitted(self, event: Input.Submitted) -> None:
        from data import recipe as recipes
        from data.files import ShardError

        assert self.recipe is not None
        value = event.value.strip()
        try:
            if self._asking == "save" and value:
                recipes.save(self.recipe, value)
                self._path = value
                effect = self._previewed[2].to_dict() if self._is_previewed() and self._previewed else None
                self.post_message(RecipeChosen(str(Path(value).expanduser().absolute()), effect))
                self.post_message(Done(f"{value} is saved: the next run trains on what it keeps"))
            elif self._asking == "load" and value:
                self.recipe, self._path = recipes.read(value), value
            elif self._asking not in ("save", "load"):
                self.recipe = _with(self.recipe, self._asking, _value(self._asking, value))
        except ShardError as error:
            self.complain(str(error))
            return
        self._hide()
        self._show()

    # Showing

    def _is_previewed(self) -> bool:
        return self._previewed is not None and self._previewed[:2] == (self.recipe, self.paths)

    def _show(self) -> None:
        from data.recipe import Recipe

        assert self.recipe is not None
        rows: dict[str, list[str | Text]] = {}
        for key in _keys():
            value = _get(self.recipe, key)
            style = "bold" if value != _get(Recipe(), key) else ""
            rows[key] = [key.rpartition(".")[2], Text(_text(value) or UNKNOWN, style), _HELP[key]]
        self.query_one(Table).show(rows)
        if self._is_previewed() and self._previewed:
            self._effect(effect_text(self._previewed[2], self.planned_tokens))
        elif not self.running:
            self._effect(
                Content.styled(
                    "p shows what this leaves of the shards\nenter changes a value\n^s saves it for the next run",
                    "$text-muted",
                )
            )

    def _effect(self, content: Content) -> None:
        self.query_one("#recipe-effect", Static).update(content)

    def show_progress(self, line: Content) -> None:
        """In the effect's place."""
        self._effect(line)

    @on(Previewed)
    def _previewed_now(self, message: Previewed) -> None:
        if not self.ended(message.cancel):
            return
        if message.choice is not None:
            self._previewed = (message.choice.recipe, message.paths, message.choice)
        self._show()

    # Work

    @work(thread=True, group="recipe", exit_on_error=False)
    def _preview(self, recipe: Recipe, paths: tuple[str, ...], cancel: threading.Event) -> None:
        from data.catalogue import Catalogue
        from data.choose import choose

        choice = None

        def job() -> None:
            nonlocal choice
            with Catalogue(list(paths)) as catalogue:
                choice = choose(recipe, catalogue, on_progress=self.telling(cancel), cancelled=cancel.is_set)

        self.guarded(job)
        self.post_message(Previewed(cancel, paths, choice))


def effect_text(choice: Choice, planned: int | None) -> Content:
    """A recipe's effect, a line a stage."""
    everything = choice.stages[0].tokens or 1
    lines: list[tuple[str, str, str]] = [
        (stage.name, count(stage.tokens), f"{stage.documents:,} documents, {share(stage.tokens / everything)}")
        for stage in choice.stages
    ]
    lines.append(("trained on", count(choice.train_tokens), f"{choice.train_documents:,} documents"))
    lines.append(("held out", count(choice.held_out_tokens), f"{choice.held_out_documents:,} documents"))
    lines.append(("unique", count(choice.unique_tokens), "exact copies once"))
    near = (
        "near copies once" if choice.effective_tokens is not None else "known with deduplicate or held_out.apart near"
    )
    lines.append(("effective", count(choice.effective_tokens), near))
    leaked = UNKNOWN if choice.near_leaked_documents is None else f"{choice.near_leaked_documents:,}"
    lines.append(("leaked", f"{choice.leaked_documents:,}", f"exact, {leaked} near copies in training"))
    if planned is not None:
        epochs, effective = choice.epochs(planned)
        more = "" if effective is None else f", {effective:.2f} effective"
        lines.append(("epochs", f"{epochs:.2f}", f"of {count(planned)} planned tokens{more}"))
    content = [
        Content.assemble((f"{name:<18}", "$text-muted"), (f"{value:>8}", "bold"), (f"  {plain(note)}", "$text-muted"))
        for name, value, note in lines
    ]
    content.append(Content.styled(plain(choice.tokens_note), "$text-muted"))
    content += [Content.styled(plain(f"✗ {Path(e.file).name}: {e.error}"), "$text-error") for e in choice.errors[:5]]
    return Content("\n").join(content)


def _keys() -> list[str]:
    from data.recipe import Filters, HeldOut

    return [
        "deduplicate",
        *(f"filter.{f.name}" for f in fields(Filters)),
        *(f"held_out.{f.name}" for f in fields(HeldOut)),
    ]


def _get(recipe: Recipe, key: str) -> Any:
    section, _, name = key.rpartition(".")
    return getattr(getattr(recipe, section) if section else recipe, name)


def _with(recipe: Recipe, key: str, value: Any) -> Recipe:
    section, _, name = key.rpartition(".")
    if not section:
        return replace(recipe, **{name: value})
    return replace(recipe, **{section: replace(getattr(recipe, section), **{name: value})})


def _text(value: Any) -> str:
    if value is None:
        return ""
    return "; ".join(value) if isinstance(value, tuple) else f"{value:g}" if isinstance(value, float) else str(value)


def _value(key: str, text: str) -> Any:
    """What a typed text means for a key; empty is the key's default. Raises RecipeError."""
    from data.recipe import Recipe, RecipeError

    default = _get(Recipe(), key)
    if not text:
        return default
    if isinstance(default, tuple):
        return tuple(part.strip() for part in text.split(";") if part.strip())
    if isinstance(default, str):
        return text
    whole = key.endswith(("tokens", "characters", "documents"))
    try:
        return int(text.replace(",", "").replace("_", "")) if whole else float(text)
    except ValueError:
        raise RecipeError(f"{key} must be a {'whole ' if whole else ''}number, not {text}") from None
