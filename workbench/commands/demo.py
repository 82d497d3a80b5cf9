"""``gptbench demo``: shards → statistics → a run that plateaus → why → summary.md."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from workbench import demo as steps
from workbench.commands.run import show, watch
from workbench.text import plain, quoted


def demo(args: argparse.Namespace) -> int:
    """In the workbench on a terminal; plain progress without one, or with ``--plain``."""
    base = Path(args.dir or "demo").expanduser().resolve()
    runs = Path(args.runs).expanduser().resolve() if args.runs else steps.folders(base)[1]
    if sys.stdin.isatty() and sys.stdout.isatty() and not args.plain:
        from workbench.app import GptbenchApp

        show(GptbenchApp(runs, demo=base), args)
    return in_plain_text(base, runs)


def in_plain_text(base: Path, runs: Path) -> int:
    """The whole job with progress on standard output; 0 once the summary is written."""
    _say("1/5  shards: this Python's standard library, as FineWeb-edu parquet")
    shards = steps.prepare(base)

    from data.catalogue import Catalogue
    from data.statistics import statistics
    from workbench.commands.data import print_statistics

    _say("2/5  what they hold")
    print_statistics(statistics(Catalogue([str(path) for path in shards])))

    from workbench.runs import launch

    run_dir = launch.create(steps.configuration(shards), runs, steps.NAME)
    launch.start(run_dir)
    _say(f"3/5  training, in a process of its own: {plain(run_dir)}")
    watch(run_dir, to=sys.stdout)

    from workbench.commands.why import explain_run
    from workbench.export.files import write_summary

    _say("4/5  why the loss is where it is")
    print("\n".join(explain_run(run_dir)))
    _say(f"5/5  the summary: {plain(write_summary(run_dir)[0])}")
    _say(f"look at it in the workbench:  gptbench --runs {quoted(runs)}")
    _say(f"the commands above find it with:  export GPTBENCH_RUNS={quoted(runs)}")
    return 0


def _say(text: str) -> None:
    print(text, flush=True)
