"""``python -m tests.benchmarks.planted.others make|merge|score``; see the package."""

from __future__ import annotations

import argparse
from pathlib import Path

from tests.benchmarks.planted.others import plan, record

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.planted.others", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    making = verbs.add_parser("make", help="make what is missing, and record it")
    making.add_argument("--bases", default=",".join(b.name for b in plan.BASES), help="names, with commas")
    making.add_argument("--nanogpt", type=Path, required=True, help="folder of nanoGPT's source")
    making.add_argument("--jobs", type=int, default=1, help="runs at once")
    making.add_argument("--seconds", type=float, default=3600.0, help="after which runs are put aside")
    making.add_argument("--tiny", action="store_true", help="next to nothing of each run: does it work at all?")
    making.add_argument("--only", default="", help="plants whose name holds this")
    making.add_argument("--work", type=Path, default=Path("build/others"), help="folder of shards and runs")
    making.add_argument("-o", "--out", type=Path, default=record.RECORDED, help="folder of the records")
    merging = verbs.add_parser("merge", help="add records that were made elsewhere to the suite's")
    merging.add_argument("folder", type=Path)
    scoring = verbs.add_parser("score", help="score the recorded runs")
    scoring.add_argument("--split", choices=("dev", "heldout"), default="dev")
    given = parser.parse_args()
    if given.verb == "make":
        from tests.benchmarks.planted.others.make import make

        make(given.bases.split(","), given.nanogpt, given.work, given.out, given.jobs, given.seconds, given.only,
             given.tiny)  # fmt: skip
    elif given.verb == "merge":
        record.merge(given.folder)
    else:
        from tests.benchmarks.planted.others.score import main

        main(given.split)
