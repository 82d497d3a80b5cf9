from __future__ import annotations

import subprocess
import sys
from pathlib import Path

LONG = "SELECT h % 7, count(DISTINCT h) FROM (SELECT hash(range) AS h FROM range({n})) GROUP BY 1"
RUN = """
import sys, time
from data.catalogue import Catalogue
from data.database import scratch
import duckdb
with Catalogue([]) as catalogue, scratch("256MB") as database:
    for connection in (catalogue.cursor(), database):
        n, taken = 16_000_000, 0.0
        while taken < 2.5:
            begin = time.monotonic()
            connection.execute(sys.argv[1].format(n=n)).fetchall()
            taken, n = time.monotonic() - begin, n * 2
"""


def test_long_queries_draw_no_progress_bar() -> None:
    """DuckDB would, after two seconds, on standard output: into JSON, or over the workbench."""
    ran = subprocess.run(
        [sys.executable, "-c", RUN, LONG], capture_output=True, cwd=Path(__file__).resolve().parents[2], timeout=200
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"", b"")
