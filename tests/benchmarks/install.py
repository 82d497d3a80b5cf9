"""What an installation costs: the wheel's size, and how long the command takes until it answers.

``python -m tests.benchmarks install``
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from tests.packaging.wheel import build

REPEATS = 7
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "gptbench --help": ["-m", "workbench.cli", "--help"],
    "import workbench.cli": ["-c", "import workbench.cli"],
    "import workbench.commands.why": ["-c", "import workbench.commands.why"],
    "import workbench.app": ["-c", "import workbench.app"],
}


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        wheel = build(Path(folder) / "wheel")
        with zipfile.ZipFile(wheel) as archive:
            files, unpacked = len(archive.infolist()), sum(info.file_size for info in archive.infolist())
        print(f"wheel {wheel.stat().st_size / 1024:,.0f} KiB, {files} files, {unpacked / 1024:,.0f} KiB unpacked")
    for name, arguments in COMMANDS.items():
        print(f"{name:<32} {median_ms(arguments):6.0f} ms (median of {REPEATS}, files warm)")
    shown = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "workbench.cli", "--help"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    rows = [line.split("|") for line in shown.stderr.splitlines() if line.count("|") == 2]
    slowest = sorted((int(r[0].split(":")[1]), r[2].strip()) for r in rows if r[0].split(":")[1].strip().isdigit())
    print("slowest modules of gptbench --help:", ", ".join(f"{m} {us / 1000:.1f} ms" for us, m in slowest[-5:][::-1]))


def median_ms(arguments: list[str]) -> float:
    """Median wall time of a Python command, milliseconds."""
    times = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
        times.append(1000 * (time.perf_counter() - begin))
    return statistics.median(times)
