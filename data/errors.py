"""What goes wrong with shards, said in one line."""

from __future__ import annotations


class ShardError(ValueError):
    """A shard that cannot be used: one line that says which file, what is wrong and what to do."""
