"""The failure of a run that its owner can mend. Torch-free."""

from __future__ import annotations


class RunError(Exception):
    """A run that cannot start or go on: one line that says what, where and what to do."""
