"""A run's recipe, resolved before the launch: the engine applies the list of rows that comes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from data import packed
from engine.config import Config
from engine.keep import FILE_NAME
from workbench.errors import UserError

if TYPE_CHECKING:
    from data.choose import Choice

RECIPE_NAME = "recipe.toml"
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Resolved:
    """A recipe's text and what it chose."""

    text: str
    choice: Choice

    def write(self, run_dir: Path) -> Path:
        """Write ``keep.parquet`` and ``recipe.toml`` into the run; returns the latter's path. Raises OSError."""
        from data.choose import write_keep

        write_keep(self.choice, self.text, run_dir / FILE_NAME)
        path = run_dir / RECIPE_NAME
        path.write_text(self.text, "utf-8")
        return path


def resolve(
    config: Config, on_progress: Progress | None = None, cancelled: Callable[[], bool] | None = None
) -> Resolved | None:
    """Apply ``config.data.recipe`` to the shards of ``config.data.paths``; None where the run has none.

    Raises:
        UserError: the paths hold packs, whose shards DuckDB cannot read.
        data.recipe.RecipeError, data.files.ShardError: as ``data.choose.choose``.
        data.workers.Cancelled.
    """
    if not config.data.recipe:
        return None
    from data import recipe
    from data.catalogue import Catalogue
    from data.choose import choose

    path = Path(config.data.recipe).expanduser()
    made = recipe.read(path)
    packs = [each for each in config.data.paths if packed.find_packs(each)]
    if packs:
        raise UserError(f"{packs[0]}: a recipe chooses from parquet shards, not from packs; name the shards themselves")
    cache = Path(config.data.cache).expanduser() if config.data.cache else packed.default_cache()
    with Catalogue(config.data.paths, column=config.data.column) as catalogue:
        choice = choose(
            made,
            catalogue,
            held_out=not config.data.val_paths,
            default_fraction=config.data.val_fraction,
            encoding=config.data.encoding,
            cache=cache,
            on_progress=on_progress,
            cancelled=cancelled,
        )
    return Resolved(path.read_text("utf-8"), choice)
