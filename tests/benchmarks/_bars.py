"""A measured figure beside the bar that it has to reach."""

from __future__ import annotations


def at_least(value: float, bar: float, unit: str = "") -> str:
    """``value`` with its bar and whether it is reached, for example ``(bar ≥ 1.6×: reached)``."""
    return f"(bar ≥ {bar:g}{unit}: {'reached' if value >= bar else 'MISSED'})"


def at_most(value: float, bar: float, unit: str = "") -> str:
    """``value`` with its bar and whether it stays under it."""
    return f"(bar < {bar:g}{unit}: {'reached' if value < bar else 'MISSED'})"
