"""``python -m tests.benchmarks.planted make``: makes the suite's runs; ``… merge`` adds what another
machine made; ``… score`` scores what is recorded."""

from __future__ import annotations

import argparse
from pathlib import Path

from tests.benchmarks.planted import plan, record

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.planted", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    making = verbs.add_parser("make", help="make what is missing, and record it")
    making.add_argument("--subset", choices=tuple(plan.BASES), default="cpu")
    making.add_argument("--device", choices=("cpu", "cuda"), default="", help="(default: the subset's own)")
    making.add_argument("--jobs", type=int, default=1, help="runs at once")
    making.add_argument("--seconds", type=float, default=3600.0, help="after which runs are put aside")
    making.add_argument("--tiny", action="store_true", help="next to nothing of each run: does it work at all?")
    making.add_argument("--only", default="", help="plants whose name holds this")
    making.add_argument("--work", type=Path, default=Path("build/planted"), help="folder of shards and runs")
    making.add_argument("-o", "--out", type=Path, default=record.RECORDED, help="folder of the records")
    merging = verbs.add_parser("merge", help="add records that were made elsewhere to the suite's")
    merging.add_argument("folder", type=Path)
    merging.add_argument("-o", "--out", type=Path, default=record.RECORDED, help="folder of the records")
    scoring = verbs.add_parser("score", help="score the recorded runs")
    scoring.add_argument("--split", choices=("dev", "heldout"), default="", help="(default: both)")
    scoring.add_argument("--records", type=Path, default=record.RECORDED, help="folder of the records")
    fitting = verbs.add_parser("calibrate", help="fit the probabilities on the development runs")
    fitting.add_argument("--records", type=Path, default=record.RECORDED, help="folder of the records")
    given = parser.parse_args()
    if given.verb == "make":
        from tests.benchmarks.planted.make import make  # the engine's configuration: not for scoring

        make(given.subset, given.work, given.out, given.jobs, given.seconds, given.only, given.device, given.tiny)
    elif given.verb == "merge":
        record.merge(given.folder, given.out)
    elif given.verb == "calibrate":
        from tests.benchmarks.planted.calibrate import main as calibrate

        calibrate(given.records)
    else:
        from tests.benchmarks.planted.score import main

        main(given.records, given.split)
