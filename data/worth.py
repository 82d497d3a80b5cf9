"""What the shards are worth: effective unique tokens, and what exact, near and boilerplate duplication take away.

Each token taken away is charged once: to exact copies first, then to near duplicates (all but the first document of a
cluster), then to lines that many of the documents kept repeat (all but the first appearance).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data import estimate, near
from data.boilerplate import RepeatedLine, boilerplate
from data.clusters import Clusters
from data.files import FileIdentity, ShardError
from data.sketches import find, share_of, sketch_shards
from data.tokens import Z90

EXACT, ESTIMATED = "exact", "estimated"

Progress = Callable[[str, float], None]
OnError = Callable[[str, ShardError], None]


@dataclass(frozen=True)
class FileWorth:
    """One file's share; its tokens less these three are its effective tokens. A copy is charged to the file it lies
    in, if the first one lies before it. ``effective_low`` and ``effective_high``: their 90% interval."""

    file: str
    tokens: int
    exact_duplicate_tokens: int
    near_duplicate_tokens: int
    boilerplate_tokens: int
    near_duplicate_rows: int
    effective_low: int
    effective_high: int

    @property
    def effective_tokens(self) -> int:
        """What is left."""
        return self.tokens - self.exact_duplicate_tokens - self.near_duplicate_tokens - self.boilerplate_tokens


@dataclass
class Worth:
    """Of a selection. ``low`` and ``high``: 90% interval of ``effective_tokens``.

    Attributes:
        basis: "exact" (every document sketched and compared; the interval is that of counting tokens) or "estimated".
        sampled: documents the estimate rests on.
        near_duplicate_tokens_low …: 90% intervals of what each kind takes away.
        clusters, lines: known where ``basis`` is "exact". Whoever is given clusters closes them.
    """

    tokens: int
    exact_duplicate_tokens: int
    near_duplicate_tokens: int
    boilerplate_tokens: int
    effective_tokens: int
    low: int
    high: int
    near_duplicate_rows: int
    near_duplicate_rows_low: int
    near_duplicate_rows_high: int
    basis: str
    near_duplicate_tokens_low: int
    near_duplicate_tokens_high: int
    boilerplate_tokens_low: int
    boilerplate_tokens_high: int
    sampled: int = 0
    per_file: list[FileWorth] = field(default_factory=list)
    clusters: Clusters | None = None
    lines: list[RepeatedLine] = field(default_factory=list)


@dataclass(frozen=True)
class FileTokens:
    """A file's documents: rows (int64, ascending), bytes, tokens (float64), and which are first copies over all
    files (bool)."""

    identity: FileIdentity
    rows: npt.NDArray[np.int64]
    bytes: npt.NDArray[np.int64]
    tokens: npt.NDArray[np.float64]
    first: npt.NDArray[np.bool_]


def measure(
    files: list[FileTokens],
    *,
    exact: bool,
    column: str,
    cache: Path,
    token_error: float = 0.0,
    seed: int = 0,
    on_progress: Progress | None = None,
    on_error: OnError | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Worth:
    """Exactly, if asked, if all shards' sketches are in the cache, or if there is no more text than is drawn from
    larger selections (``estimate.BUDGET_BYTES``); else estimated.

    Args:
        token_error: standard error of the tokens over all files.
        on_error: told of a file that cannot be read again; it is left out of the answer. Without it, raised.
    """
    bad: set[str] = set()

    def failed(path: str, error: ShardError) -> None:
        if on_error is None:
            raise error
        bad.add(path)
        on_error(path, error)

    small = sum(int(file.bytes.sum()) for file in files) <= estimate.BUDGET_BYTES
    if exact or small or all(find(file.identity, column, cache) for file in files):
        found = _clusters(files, column, cache, on_progress, failed, cancelled)
        return _exact(found, [f for f in files if f.identity.path not in bad], token_error, on_progress, cancelled)
    parts = [estimate.Part(f.identity, f.rows[f.first], f.bytes[f.first], f.tokens[f.first]) for f in files]
    guess = estimate.estimate(
        parts, column=column, seed=seed, on_progress=on_progress, on_error=failed, cancelled=cancelled
    )
    good = [file for file in files if file.identity.path not in bad]
    total = sum(float(file.tokens.sum()) for file in good)
    unique = sum(float(file.tokens[file.first].sum()) for file in good)
    value, low, high = (unique - x for x in (guess.taken.value, guess.taken.high, guess.taken.low))
    margin = Z90 * token_error * (value / total if total else 0.0)
    return Worth(
        tokens=round(total),
        exact_duplicate_tokens=round(total - unique),
        near_duplicate_tokens=round(guess.near_tokens.value),
        boilerplate_tokens=round(guess.taken.value) - round(guess.near_tokens.value),
        effective_tokens=round(value),
        low=round(max(0.0, value - math.hypot(value - low, margin))),
        high=round(min(unique + margin, value + math.hypot(high - value, margin))),
        near_duplicate_rows=round(guess.near_rows.value),
        near_duplicate_rows_low=round(guess.near_rows.low),
        near_duplicate_rows_high=round(guess.near_rows.high),
        basis=ESTIMATED,
        near_duplicate_tokens_low=round(guess.near_tokens.low),
        near_duplicate_tokens_high=round(guess.near_tokens.high),
        boilerplate_tokens_low=round(guess.boilerplate_tokens.low),
        boilerplate_tokens_high=round(guess.boilerplate_tokens.high),
        sampled=guess.sampled,
        per_file=[
            _estimated_share(file, part, margin / value if value else 0.0)
            for file, part in zip(files, guess.parts, strict=True)
            if file.identity.path not in bad
        ],
    )


def _estimated_share(file: FileTokens, guess: estimate.Estimate, token_error: float) -> FileWorth:
    """One file of an estimate; ``token_error``: half the relative interval of its tokens."""
    total, unique = float(file.tokens.sum()), float(file.tokens[file.first].sum())
    value, low, high = (unique - x for x in (guess.taken.value, guess.taken.high, guess.taken.low))
    margin = token_error * value
    exact, similar = round(total) - round(unique), round(guess.near_tokens.value)
    return FileWorth(
        file=file.identity.path,
        tokens=round(total),
        exact_duplicate_tokens=exact,
        near_duplicate_tokens=similar,
        boilerplate_tokens=round(guess.taken.value) - similar,
        near_duplicate_rows=round(guess.near_rows.value),
        effective_low=round(max(0.0, value - math.hypot(value - low, margin))),
        effective_high=round(min(unique, value + math.hypot(high - value, margin))),
    )


def _clusters(
    files: list[FileTokens],
    column: str,
    cache: Path,
    on_progress: Progress | None,
    on_error: OnError,
    cancelled: Callable[[], bool] | None,
) -> Clusters:
    made = sketch_shards(
        [file.identity.path for file in files],
        column=column,
        cache=cache,
        on_progress=share_of(sum(file.identity.rows for file in files), "sketching", on_progress),
        on_error=on_error,
        cancelled=cancelled,
    )
    known = {file.identity.path: file for file in files}
    same = []
    for sketches in made:
        path = sketches.identity.path
        if sketches.identity == known[path].identity and sketches.documents == len(known[path].rows):
            same.append(sketches)
        else:
            on_error(path, ShardError(f"{path}: the file changed while it was being read; run it again"))
    return near.join(same, column=column, on_progress=on_progress, on_error=on_error, cancelled=cancelled)


def _exact(
    found: Clusters,
    files: list[FileTokens],
    token_error: float,
    on_progress: Progress | None,
    cancelled: Callable[[], bool] | None,
) -> Worth:
    known = {file.identity.path: file.tokens for file in files}
    tokens = [known.get(path, np.zeros(int(found.base[i + 1] - found.base[i]))) for i, path in enumerate(found.files)]
    found.weigh(np.concatenate([np.zeros(0), *tokens]))
    repeated = boilerplate(found, on_progress=on_progress, cancelled=cancelled)
    exact, similar = found.exact_duplicates(), found.near_duplicates()
    total = sum(float(file.tokens.sum()) for file in files)
    error = Z90 * token_error / total if total else 0.0
    per_file = []
    for index, path in enumerate(found.files):
        if path not in known:
            continue
        here = slice(int(found.base[index]), int(found.base[index + 1]))
        parts = [known[path].sum(), known[path][exact[here]].sum(), known[path][similar[here]].sum()]
        tokens_, copies, near_, lines = (round(float(x)) for x in (*parts, repeated.mass[index]))
        left = tokens_ - copies - near_ - lines
        per_file.append(
            FileWorth(
                file=path,
                tokens=tokens_,
                exact_duplicate_tokens=copies,
                near_duplicate_tokens=near_,
                boilerplate_tokens=lines,
                near_duplicate_rows=int(similar[here].sum()),
                effective_low=round(left * (1 - error)),
                effective_high=round(left * (1 + error)),
            )
        )
    effective = sum(f.effective_tokens for f in per_file)
    margin = round(error * effective)
    near_tokens, line_tokens = (
        sum(getattr(f, name) for f in per_file) for name in ("near_duplicate_tokens", "boilerplate_tokens")
    )
    rows = sum(f.near_duplicate_rows for f in per_file)
    return Worth(
        tokens=sum(f.tokens for f in per_file),
        exact_duplicate_tokens=sum(f.exact_duplicate_tokens for f in per_file),
        near_duplicate_tokens=near_tokens,
        boilerplate_tokens=line_tokens,
        effective_tokens=effective,
        low=effective - margin,
        high=effective + margin,
        near_duplicate_rows=rows,
        near_duplicate_rows_low=rows,
        near_duplicate_rows_high=rows,
        basis=EXACT,
        near_duplicate_tokens_low=near_tokens,
        near_duplicate_tokens_high=near_tokens,
        boilerplate_tokens_low=line_tokens,
        boilerplate_tokens_high=line_tokens,
        sampled=len(found),
        per_file=per_file,
        clusters=found,
        lines=repeated.lines,
    )
