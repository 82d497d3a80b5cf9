"""A number with what is known of its size."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """About 95% of what is plausible lies between ``low`` and ``high``; ``low <= mid <= high``."""

    low: float
    mid: float
    high: float

    @classmethod
    def of(cls, *values: float) -> Interval:
        """The interval that three or more values span; the middle one is their median."""
        ordered = sorted(values)
        return cls(ordered[0], ordered[len(ordered) // 2], ordered[-1])

    def __add__(self, other: Interval | float) -> Interval:
        if isinstance(other, Interval):
            # Independent errors add in quadrature.
            mid = self.mid + other.mid
            down = ((self.mid - self.low) ** 2 + (other.mid - other.low) ** 2) ** 0.5
            up = ((self.high - self.mid) ** 2 + (other.high - other.mid) ** 2) ** 0.5
            return Interval(mid - down, mid, mid + up)
        return Interval(self.low + other, self.mid + other, self.high + other)

    def __neg__(self) -> Interval:
        return Interval(-self.high, -self.mid, -self.low)

    def __sub__(self, other: Interval | float) -> Interval:
        return self + (-other)

    def scaled(self, low: float, mid: float, high: float) -> Interval:
        """Product with a factor that is itself uncertain (this interval must not be below 0)."""
        return Interval(self.low * low, self.mid * mid, self.high * high)

    def at_least(self, floor: float) -> Interval:
        """Cut off below ``floor``."""
        return Interval(max(self.low, floor), max(self.mid, floor), max(self.high, floor))

    @property
    def ends(self) -> tuple[float, float, float]:
        """``low, mid, high``."""
        return self.low, self.mid, self.high

    def to_dict(self) -> dict[str, float | None]:
        return {"low": round(self.low, 4), "mid": round(self.mid, 4), "high": round(self.high, 4)}

    def __str__(self) -> str:
        return f"{self.mid:.2f} ({self.low:.2f} to {self.high:.2f})"


def as_dict(interval: Interval | None) -> dict[str, float | None]:
    """JSON of an interval; nulls where it could not be computed."""
    return {"low": None, "mid": None, "high": None} if interval is None else interval.to_dict()
