"""Results of a run's probes, by cause: what ``explain`` reads."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path

from data.bounded import read_json
from workbench.atomic import write_atomically
from workbench.probes.judge import Result, judge
from workbench.probes.site import FOLDER, RESULT


def settle(run_dir: Path) -> dict[str, Result]:
    """Every result of the run's probes by cause; what is done and not yet judged is judged, and its file written."""
    found: dict[str, Result] = {}
    try:
        folders = sorted(p for p in (run_dir / FOLDER).iterdir() if p.is_dir() and p.name != "arms")
    except OSError:
        return found
    for folder in folders:
        result = _read(folder / RESULT)
        if result is None and (result := judge(run_dir, folder.name)) is not None:
            with contextlib.suppress(OSError):  # a run that is not ours to write is explained all the same
                text = json.dumps({**result.to_dict(), "time": time.time()}, indent=1, allow_nan=False)
                write_atomically(folder / RESULT, text)
        if result is not None:
            found[result.cause] = result
    return found


def _read(path: Path) -> Result | None:
    try:
        known = read_json(path)
        known.pop("time", None)
        result = Result(**known)
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    sound = isinstance(result.why, str) and isinstance(result.step, int) and result.confirmed in (True, False, None)
    return result if sound and isinstance(result.cause, str) else None
