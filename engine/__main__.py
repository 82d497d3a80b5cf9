"""``python -P -m engine train RUN_DIR``: the engine's own command line, for the workbench, for Slurm, or by hand."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from data.bounded import read_toml
from engine import ahead
from engine.signals import Signals
from engine.text import Safe


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code (0 finished or stopped, 1 failed, 2 wrong usage)."""
    began = time.perf_counter()
    parser = argparse.ArgumentParser(
        prog="python -P -m engine", description="Train a model, or use one, in this process."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train the run of a directory, from its newest checkpoint if it has one")
    train.add_argument("run_dir", type=Path, help="directory that holds config.toml")
    sample = commands.add_parser("sample", help="write text with a run's model")
    sample.add_argument("run_dir", type=Path)
    sample.add_argument("--prompt", default="")
    sample.add_argument("--step", default="newest", help="a checkpoint's step, newest or best")
    sample.add_argument("--tokens", type=int, default=200)
    sample.add_argument("--temperature", type=float, default=0.8)
    sample.add_argument("--top-k", type=int, default=0)
    sample.add_argument("--top-p", type=float, default=1.0)
    sample.add_argument("--seed", type=int, default=0)
    sample.add_argument("--device", default="auto")
    sample.add_argument("--json", action="store_true")
    hf = commands.add_parser("hf", help="write a folder that transformers loads")
    hf.add_argument("run_dir", type=Path)
    hf.add_argument("-o", "--output", type=Path, required=True)
    hf.add_argument("--step", default="newest", help="a checkpoint's step, newest or best")
    hf.add_argument("--json", action="store_true")
    probe = commands.add_parser("probe", help="carry out a probe that the workbench has planned")
    probe.add_argument("run_dir", type=Path)
    probe.add_argument("cause")
    given = parser.parse_args(arguments)
    return _train(given, began) if given.command == "train" else _use(given, began)


def _train(given: argparse.Namespace, began: float) -> int:
    signals = Signals()
    # GNU OpenMP's threads otherwise spin for milliseconds at every barrier: on two cores shared with another process a
    # training step then takes 2 to 3 times as long. Read when torch loads it.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    ahead.begin(lambda: ahead.context(_device(given.run_dir)))
    from engine import run  # imports torch: not before the command is known to be right, and can be stopped

    code = run.train(given.run_dir, signals, began)
    if "RANK" in os.environ:
        # Everything is written. As the interpreter ends, gloo's own threads now and then abort a process of several
        # ("terminate called without an active exception"), which torchrun takes for a failed run.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _device(run_dir: Path) -> str:
    """``train.device`` as the run's configuration has it; whether it is sound is found out later."""
    try:
        train = read_toml(run_dir / "config.toml").get("train", {})
        return str(train.get("device", "auto"))
    except (OSError, ValueError, AttributeError):
        return "cpu"


def _use(given: argparse.Namespace, began: float) -> int:
    """What is done with a trained model; a failure is one line on standard error."""
    signals = Signals() if given.command == "probe" else None
    from data.files import ShardError
    from data.packed import Cancelled
    from engine.config import ConfigError
    from engine.errors import RunError

    try:
        if signals is not None:
            os.environ.setdefault("GOMP_SPINCOUNT", "1000")
            from engine import probe

            return probe.main(given.run_dir, given.cause, signals, began)
        if given.command == "hf":
            from engine import hf

            return hf.main(given.run_dir, given.output, step=given.step, as_json=given.json)
        from engine import sample

        return sample.main(
            given.run_dir, given.prompt, step=given.step, tokens=given.tokens, seed=given.seed, as_json=given.json,
            choice=sample.Choice(given.temperature, given.top_k, given.top_p), device_name=given.device,
        )  # fmt: skip
    except Cancelled:
        return 0
    except (RunError, ConfigError, ShardError) as error:
        print(error, file=sys.stderr)
    except OSError as error:
        print(f"{error.filename}: {error.strerror}" if error.filename else error, file=sys.stderr)
    except KeyboardInterrupt:
        print()
        return 130
    return 1


if __name__ == "__main__":
    sys.stdout, sys.stderr = Safe(sys.stdout), Safe(sys.stderr)
    sys.exit(main())
