"""``gptbench queue``: runs that wait for a free GPU, and the detached process that starts them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from workbench.commands.run import create, planned
from workbench.errors import UserError
from workbench.runs import queue, slots
from workbench.runs.machine import refuse_if_too_large
from workbench.runs.store import runs_root
from workbench.text import plain


def show(args: argparse.Namespace) -> int:
    """``gptbench queue``: what waits, what runs and on which GPU, and whether the queue's process lives."""
    root = runs_root(args.runs)
    waits, pid, running, of = queue.read(root), queue.pid(root), queue.running(root), slots.slots()
    if args.json:
        answer: dict[str, Any] = {
            "pid": pid,
            "slots": of,
            "running": [{"name": name, "slots": sorted(held)} for name, held in running.items()],
            "waiting": [{"run": str(root / name), "name": name} for name in waits.waiting],
            "refused": [{"name": name, "why": why} for name, why in waits.refused.items()],
        }
        print(json.dumps(answer, indent=1))
        return 0
    for name, held in running.items():
        print(f"running   {plain(name)}  on {plain(', '.join(sorted(held)) or 'no GPU')}")
    for place, name in enumerate(waits.waiting, 1):
        print(f"waits {place:<3} {plain(name)}")
    for name, why in waits.refused.items():
        print(f"refused   {plain(name)}  {plain(why)}")
    if pid is not None:
        print(f"queue process {pid}, {slots.counted(of)}")
    elif waits.waiting:
        print("no queue process lives, so nothing starts: gptbench queue start")
    elif not running and not waits.refused:
        print("nothing waits; queue a run with: gptbench queue add SHARDS")
    return 0


def add(args: argparse.Namespace) -> int:
    """``gptbench queue add``: make a run directory, queue it, and see to it that the queue's process lives."""
    config, root = planned(args), runs_root(args.runs)
    refuse_if_too_large(config)
    queue.refuse_too_many(config)
    queue.read(root)  # a queue that cannot be read is said before a run is made
    run_dir = create(config, args)
    place = queue.add(root, run_dir)
    pid = queue.start(root)
    print(json.dumps({"run": str(run_dir), "place": place, "pid": pid}) if args.json else plain(run_dir))
    return 0


def remove(args: argparse.Namespace) -> int:
    """``gptbench queue remove``: the run waits no more, and was never started."""
    root = runs_root(args.runs)
    name = queue.remove(root, Path(args.target).name)
    told = f"{plain(name)} waits no more; gptbench resume {plain(name)} starts it now"
    print(json.dumps({"run": str(root / name)}) if args.json else told)
    return 0


def start(args: argparse.Namespace) -> int:
    """``gptbench queue start``: the process lives again, if something waits."""
    root = runs_root(args.runs)
    waiting = queue.read(root).waiting
    pid = queue.start(root) if waiting else queue.pid(root)
    told = "nothing waits" if pid is None else f"queue process {pid}: {len(waiting)} waiting"
    print(json.dumps({"pid": pid, "waiting": len(waiting)}) if args.json else told)
    return 0


def stop(args: argparse.Namespace) -> int:
    """``gptbench queue stop``: end the queue's process, not the runs."""
    root = runs_root(args.runs)
    if not queue.stop(root):
        raise UserError(f"the queue process {queue.pid(root)} was asked to end and still lives; see its queue.log")
    waiting = len(queue.read(root).waiting)
    told = f"the queue's process has ended; {waiting} waiting (gptbench queue start), and what runs goes on"
    print(json.dumps({"waiting": waiting}) if args.json else told)
    return 0
