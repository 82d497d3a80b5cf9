"""``python -m tests.benchmarks.planted make``: makes the suite's runs; ``… score`` scores what is recorded."""

from __future__ import annotations

import argparse
from pathlib import Path

from tests.benchmarks.planted import main, record

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.planted", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    making = verbs.add_parser("make", help="make what is missing, and record it")
    making.add_argument("--subset", choices=("cpu", "cuda"), default="cpu")
    making.add_argument("--device", choices=("cpu", "cuda"), default="", help="(default: the subset's own)")
    making.add_argument("--jobs", type=int, default=1, help="runs at once")
    making.add_argument("--budget", type=float, default=3600.0, help="seconds after which runs are put aside")
    making.add_argument("--only", default="", help="plants whose name holds this")
    making.add_argument("--work", type=Path, default=Path("build/planted"), help="folder of shards and runs")
    making.add_argument("-o", "--output", type=Path, default=record.RECORDED)
    verbs.add_parser("score", help="score the recorded runs")
    given = parser.parse_args()
    if given.verb == "make":
        from tests.benchmarks.planted.make import make  # the engine's configuration: not for scoring

        make(given.subset, given.work, given.output, given.jobs, given.budget, given.only, given.device)
    else:
        main()
