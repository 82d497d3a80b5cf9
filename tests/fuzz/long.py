"""Coverage-guided fuzzing by Atheris (libFuzzer) for as long as it is let: ``make fuzz-long``.

``python -m tests.fuzz.long [TARGET …] [--seconds 600] [--seeds DIR] [--work DIR]``: each target in turn, in a process
of its own, from a corpus that is kept. What a target raises is told once a place and saved; a process that dies (a
crash in native code, more than 2 GB, a minute without an answer) is started again. Exits 1 if anything was found.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

MAX_LEN = 8192


def fuzz(name: str, corpus: Path, found: Path, seconds: int) -> None:
    """Fuzz one target in this process. Never returns: libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=["workbench", "data", "engine"]):
        from tests.fuzz import targets
    target = targets.TARGETS[name]
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="gptbench-fuzz-", dir=memory if memory.is_dir() else None))
    known: set[str] = set()

    def one(content: bytes) -> None:
        try:
            target(content, folder)
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}"
            if place not in known:
                known.add(place)
                key = hashlib.sha256(place.encode()).hexdigest()[:12]
                (found / f"{name}-{key}.bin").write_bytes(content)
                (found / f"{name}-{key}.txt").write_text(traceback.format_exc(), "utf-8", "replace")
                print(f"FOUND {place}", file=sys.stderr, flush=True)

    atheris.Setup(
        [name, str(corpus), f"-max_total_time={seconds}", f"-max_len={MAX_LEN}", "-timeout=60", "-rss_limit_mb=2500",
         f"-artifact_prefix={found}/{name}-native-", "-print_final_stats=1", "-verbosity=1"],
        one,
    )  # fmt: skip
    atheris.Fuzz()


def sow(name: str, corpus: Path, more: Path | None) -> None:
    """Put the tests' samples, and heads and tails of a folder's logs, into a target's corpus."""
    from tests.fuzz.targets import SEEDS

    corpus.mkdir(parents=True, exist_ok=True)
    seeds = list(SEEDS[name])
    files = [path for path in more.rglob("*") if path.is_file()] if more and name == "importers" else []
    recorded = Path(__file__).parents[1] / "workbench" / "recorded"
    files += sorted(recorded.glob("*/events.jsonl")) if name == "events" else []
    files += sorted(recorded.glob("*/config.toml")) if name == "configurations" else []
    for path in files:
        content = path.read_bytes()
        seeds += [content[:4000], content[-4000:]]
    for seed in seeds:
        (corpus / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)


def run(name: str, work: Path, seconds: int, more: Path | None) -> tuple[int, list[str]]:
    """Fuzz one target in processes of its own: (executions, what was found)."""
    corpus, found = work / "corpus" / name, work / "found"
    sow(name, corpus, more)
    found.mkdir(parents=True, exist_ok=True)
    executed, said, end = 0, [], time.monotonic() + seconds
    while (left := int(end - time.monotonic())) > 1:
        command = [
            sys.executable,
            "-m",
            "tests.fuzz.long",
            name,
            "--seconds",
            str(left),
            "--work",
            str(work),
            "--inner",
        ]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, errors="replace", check=False)
        (work / f"{name}.log").write_text(done.stderr[-200_000:])
        counts = re.findall(r"stat::number_of_executed_units:\s*(\d+)", done.stderr)
        counts = counts or re.findall(r"(?m)^#(\d+)\s", done.stderr)
        executed += int(counts[-1]) if counts else 0
        said += re.findall(r"(?m)^FOUND (.*)$", done.stderr)
        if done.returncode:
            why = re.findall(r"(?m)^(?:SUMMARY|==\d+== ?ERROR): (.*)$", done.stderr) or [f"exit {done.returncode}"]
            said.append(f"died: {why[-1]}")
            if not counts:
                break  # it does not even start
    return executed, sorted(set(said))


def main() -> int:
    from_command = argparse.ArgumentParser(description=__doc__)
    from_command.add_argument("targets", nargs="*")
    from_command.add_argument("--seconds", type=int, default=600)
    from_command.add_argument("--seeds", type=Path)
    from_command.add_argument("--work", type=Path, default=Path(".fuzz"))
    from_command.add_argument("--inner", action="store_true", help=argparse.SUPPRESS)
    args = from_command.parse_args()
    if args.inner:
        fuzz(args.targets[0], args.work / "corpus" / args.targets[0], args.work / "found", args.seconds)
    from tests.fuzz.targets import TARGETS

    failed = False
    for name in args.targets or TARGETS:
        executed, said = run(name, args.work, args.seconds, args.seeds)
        failed |= bool(said)
        print(f"{name:<16} {executed:>12,} executions  {len(said)} found", flush=True)
        for text in said:
            print(f"    {text}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
