"""Document length in tokens where no ``token_count`` column states it: a sample of documents is counted."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np

from data import tokens
from data.catalogue import Catalogue, FileProblem, ShardFile
from data.columns import TOKENS, Histogram, even_edges, growing_edges
from data.encoding import load
from data.files import ShardError
from data.workers import Cancelled

DOCUMENTS = 1024
_RUN = 8  # rows read together, since they lie in one row group


def token_lengths(
    catalogue: Catalogue,
    files: Sequence[ShardFile],
    *,
    encoding: str = "gpt2",
    bins: int = 40,
    log: bool | None = None,
    seed: int = 0,
    cancelled: Callable[[], bool] | None = None,
) -> Histogram:
    """Lengths of about ``DOCUMENTS`` documents, in runs of rows drawn at random; of all where there are no more.

    ``sum(counts)`` is how many were counted; rows without text are its ``nulls``. Of a document of more than 4 million
    characters the first 4 million are counted. Raises ShardError where no file can be read, Cancelled.
    """
    runs = [(file, first) for file in files if file.text_column for first in range(0, file.rows, _RUN)]
    rows = sum(file.rows for file in files if file.text_column)
    if rows > DOCUMENTS:
        chosen = random.Random(seed).sample(range(len(runs)), min(len(runs), DOCUMENTS // _RUN))
        runs = [runs[index] for index in sorted(chosen)]
    encoder, lengths, empty = load(encoding), list[int](), 0
    errors: dict[str, FileProblem] = {}
    for file, first in runs:
        if file.path in errors:
            continue
        name = file.text_column or ""
        try:
            page = catalogue.page(file, first, _RUN, [name], tokens.LARGEST_CHECKED)
        except ShardError as error:
            errors[file.path] = FileProblem.of(file.path, error)
            continue
        for row in page:
            if cancelled is not None and cancelled():
                raise Cancelled
            if row[name]:
                lengths.append(tokens.count(encoder, row[name]))
            else:
                empty += 1
    problems = list(errors.values())
    if not lengths:
        if problems:
            raise ShardError(f"{problems[0].file}: {problems[0].error}")
        return Histogram(TOKENS, (), (), empty, False, 0, problems)
    low, high = min(lengths), max(lengths)
    log = high > 50 * max(float(np.median(lengths)), 1.0) if log is None else log
    edges = growing_edges(low, high, bins, True) if log else even_edges(low, high, bins, True)
    places = np.clip(np.searchsorted(np.array(edges), np.array(lengths), side="right") - 1, 0, len(edges) - 2)
    counts = np.bincount(places, minlength=len(edges) - 1)
    return Histogram(TOKENS, edges, tuple(int(n) for n in counts), empty, log, 0, problems)
