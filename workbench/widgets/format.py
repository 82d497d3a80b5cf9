"""Numbers as people read them in a narrow column. A number that is not known is shown as –, never as 0."""

from __future__ import annotations

import math

from workbench import text

UNKNOWN = "–"


def count(value: float | None) -> str:
    """12 345 678 → 12.3M; three significant digits."""
    return UNKNOWN if value is None or not math.isfinite(value) else text.count(value)


def size(value: float | None) -> str:
    """Bytes in binary units: 3.2 GiB."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    for power, suffix in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if abs(value) >= 2**power:
            return f"{value / 2**power:.3g} {suffix}"
    return f"{value:.0f} B"


def duration(seconds: float | None) -> str:
    """Seconds as 45s, 3m20s, 2h05m, 3d04h."""
    if seconds is None or not math.isfinite(seconds):
        return UNKNOWN
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def loss(value: float | None) -> str:
    """Nats per token, four decimals."""
    return UNKNOWN if value is None or not math.isfinite(value) else f"{value:.4f}"


def rate(value: float | None) -> str:
    """A learning rate: 6.0e-4."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa}e{int(exponent)}" if value else "0"


def share(value: float | None) -> str:
    """0.412 → 41%."""
    return UNKNOWN if value is None or not math.isfinite(value) else f"{value:.0%}"


def bar(fraction: float, width: int) -> str:
    """A bar of ``width`` cells, in eighths, for a fraction in [0, 1]."""
    eighths = round(max(0.0, min(1.0, fraction)) * width * 8) if math.isfinite(fraction) else 0
    full, part = divmod(eighths, 8)
    return ("█" * full + (" ▏▎▍▌▋▊▉"[part] if part else "")).ljust(width)[:width]
