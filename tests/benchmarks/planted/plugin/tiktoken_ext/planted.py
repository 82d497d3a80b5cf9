"""A tiktoken plugin: GPT-2's first 4,095 tokens, so that the head of a CPU-size model is not most of its cost.

Found through PYTHONPATH (``tests.benchmarks.planted.make`` sets it): no part of gptbench itself.
"""

from __future__ import annotations

from typing import Any

SIZE = 4096


def planted_4k() -> dict[str, Any]:
    """Byte pairs are ranked in the order in which they were merged, so a prefix of the table is an encoding too."""
    from tiktoken_ext.openai_public import r50k_pat_str  # type: ignore[import-untyped]

    from data.encoding import merge_table, ranks_of

    ranks = {token: rank for token, rank in ranks_of(merge_table()).items() if rank < SIZE - 1}
    return {
        "name": "planted-4k",
        "pat_str": r50k_pat_str,
        "mergeable_ranks": ranks,
        "special_tokens": {"<|endoftext|>": SIZE - 1},
        "explicit_n_vocab": SIZE,
    }


ENCODING_CONSTRUCTORS = {"planted-4k": planted_4k}
