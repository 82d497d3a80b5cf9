"""``make screens``: the pictures of the README, from a real demo run. ``python docs/screens/make.py [DEMO_FOLDER]``."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from textual.pilot import Pilot  # noqa: E402
from textual.widgets import Static  # noqa: E402

from workbench.app import GptbenchApp  # noqa: E402
from workbench.commands.demo import in_plain_text  # noqa: E402
from workbench.widgets.chart import ChartView  # noqa: E402
from workbench.widgets.plateau_pane import PlateauPane  # noqa: E402
from workbench.widgets.preflight import Preflight  # noqa: E402
from workbench.widgets.statistics_pane import StatisticsPane  # noqa: E402
from workbench.widgets.table import Table  # noqa: E402

SIZE = (120, 34)
MOST = 200_000  # bytes of a picture


async def until(pilot: Pilot[None], condition: Callable[[], object], seconds: float = 120) -> None:
    """Let the app work until the condition holds."""
    for _ in range(int(seconds / 0.1)):
        await pilot.pause(0.1)
        if condition():
            await pilot.pause(0.3)
            return
    raise SystemExit("what the picture needs did not come")


def save(app: GptbenchApp, name: str) -> None:
    """Write a picture."""
    text = app.export_screenshot(title=f"gptbench: {name}")
    path = HERE / f"{name}.svg"
    path.write_text("\n".join(line.rstrip() for line in text.splitlines()) + "\n", encoding="utf-8")
    size = path.stat().st_size
    if size > MOST:
        raise SystemExit(f"{path}: {size:,} bytes, more than {MOST:,}")
    print(f"{path.relative_to(HERE.parent.parent)}  {size:,} bytes")


async def pictures(runs: Path, shards: Path, run_dir: Path) -> None:
    """The four screens."""
    app = GptbenchApp(runs, data_paths=[str(shards)])
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: app.screen.query_one("#shards", Table).row_count)
        await pilot.press("a", "s")
        await until(pilot, lambda: app.screen.query_one(StatisticsPane).figures)
        save(app, "data")
        await pilot.press("l")
        await until(pilot, lambda: app.current_mode == "launch" and app.screen.query(Preflight))
        sheet = app.screen.query_one(Preflight).query_one(Static)
        await until(pilot, lambda: "unique tokens" in str(sheet.content) and "counting" not in str(sheet.content))
        save(app, "launch")
    app = GptbenchApp(runs, open_run=run_dir)
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: app.screen.query_one(PlateauPane).diagnosis)
        await until(
            pilot, lambda: all(not view.size.height or view.text().strip() for view in app.screen.query(ChartView))
        )
        save(app, "run")
    app = GptbenchApp(runs)
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: app.screen.query_one(Table).row_count)
        save(app, "runs")


def main() -> None:
    """Play the demo, unless its folder is given, and take the pictures."""
    os.environ.pop("SSH_CONNECTION", None)
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("GPTBENCH_CACHE", f"{folder}/cache")
        base = Path(sys.argv[1]) if sys.argv[1:] else Path(folder) / "demo"
        os.chdir(base.parent)
        if not (base / "runs").is_dir():
            in_plain_text(base, base / "runs")
        run_dir = max((base / "runs").iterdir())
        asyncio.run(pictures(base / "runs", base / "shards", run_dir))


if __name__ == "__main__":
    main()
