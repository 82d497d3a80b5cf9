"""The error a person can cause and mend."""

from __future__ import annotations


class UserError(Exception):
    """One line: what is wrong, where, and what to do. ``exit_code`` is 1 (the work failed) or 2 (wrong usage)."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code
