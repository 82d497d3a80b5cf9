"""The ``gptbench`` command: one verb per job; no verb opens the workbench.

Only the parser stands here. Each verb's work is a function of ``workbench.commands``, imported when it is called, so
that ``gptbench --help`` starts at once.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import signal
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from workbench.text import plain

EPILOG = """\
first steps:
  gptbench demo                       the whole job on text of this machine, in about two minutes
  gptbench data stats SHARDS          what the shards hold: tokens, duplicates
  gptbench train SHARDS --set model.preset=seed-40m
  gptbench explain RUN|LOG            why the loss is flat, or that it is not
"""

RUN = "a run's directory, its name, or the unique beginning of one"
RUNS = "runs folder (else $GPTBENCH_RUNS, else ./runs)"
COMPLETION = "Print a shell's completion script, for example: source <(gptbench completion bash)"


class Parser(argparse.ArgumentParser):
    """Wrong usage is one line, too; and the nearest verb or option is named."""

    def error(self, message: str) -> NoReturn:
        """End with exit code 2. An argument may be the name of a file that somebody else chose: ``data stats *``."""
        said = plain(message)
        self.exit(2, f"{self.prog}: {said}{'' if said.endswith('?') else ';'} {self.prog} --help lists what there is\n")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            verb = isinstance(action, argparse._SubParsersAction)
            known = ", ".join(map(str, action.choices))
            raise argparse.ArgumentError(
                None, f"no {'verb' if verb else action.dest} {value!r}; {_near(value, action.choices, known)}"
            )

    def refuse(self, unknown: Sequence[str]) -> NoReturn:
        """Arguments that no verb takes."""
        word = unknown[0]
        if word.startswith("-"):
            option = word.partition("=")[0]
            self.error(f"no option {option}; {_near(option, self._option_string_actions, '')}".rstrip("; "))
        self.error(f"{word!r} is one argument too many, or stands apart from the others: options before or behind them")


def _near(word: str, known: Iterable[str], otherwise: str) -> str:
    """What was probably meant; all there is where that is not told."""
    from difflib import get_close_matches  # on a mistake alone

    near = get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else otherwise and f"known: {otherwise}"


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = Parser(
        prog="gptbench",
        description="A terminal workbench for people who pre-train small GPTs. Without a verb it opens the workbench.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    parser.add_argument("--runs", metavar="DIR", default=None, help=RUNS)
    parser.add_argument("--data", metavar="PATH", action="append", default=[], help="shards the workbench opens on")
    parser.add_argument("--no-mouse", action="store_true", help="keyboard only: leaves the mouse to the terminal")
    web = parser.add_argument_group("in a browser")
    web.add_argument("--web", action="store_true", help="serve the workbench to a browser instead of this terminal")
    web.add_argument("--host", metavar="H", help="where --web listens (default 127.0.0.1); elsewhere a token is needed")
    web.add_argument("--port", metavar="N", type=int, help="its port (default 8000; 0: a free one)")
    web.add_argument("--token", metavar="T", help="its token (else $GPTBENCH_TOKEN; beyond loopback, else one is made)")
    parser.set_defaults(call="workbench.commands.run:workbench", parser=parser)
    verbs = Verbs(parser.add_subparsers(title="verbs", metavar="VERB"))
    demo = verbs.add(
        "demo", "demo:demo", "the main job on text of this machine: shards, statistics, a run, why, summary", json=False
    )
    demo.add_argument("--plain", action="store_true", help="print progress instead of opening the workbench")
    demo.add_argument(
        "--dir", metavar="DIR", default=None, help="folder for the demo's shards and runs (default ./demo)"
    )
    _data(verbs)
    _starting(verbs)
    _runs(verbs)
    _model(verbs)
    _explaining(verbs)
    completion = verbs.of.add_parser("completion", help="a shell's completion script", description=COMPLETION)
    completion.add_argument("shell", choices=("bash", "zsh", "fish"))
    completion.set_defaults(call="workbench.commands.completion:completion", parser=completion)
    verbs.add("doctor", "doctor:doctor", "terminal, GPU, versions, disk: what would go wrong here")
    return parser


class Verbs:
    """Verbs of the command, or of a verb of it; each takes --runs and, as long as it answers with facts, --json."""

    def __init__(self, of: argparse._SubParsersAction) -> None:
        self.of = of

    def add(self, name: str, call: str, help: str, *, json: bool = True, run: bool = False) -> argparse.ArgumentParser:
        """A verb: a function of ``workbench.commands``. With ``run`` it is about one run, its first argument."""
        made: argparse.ArgumentParser = self.of.add_parser(name, help=help, description=help)
        made.add_argument("--runs", metavar="DIR", default=argparse.SUPPRESS, help=RUNS)
        if json:
            made.add_argument("--json", action="store_true", help="answer as JSON")
        if run:
            made.add_argument("target", metavar="RUN", help=RUN)
        made.set_defaults(call=f"workbench.commands.{call}", parser=made)
        return made


def _data(verbs: Verbs) -> None:
    text = "look into parquet shards and pack them"
    group = verbs.of.add_parser("data", help=text, description=text)
    data = Verbs(group.add_subparsers(title="verbs", metavar="VERB", required=True))
    stats = data.add("stats", "data:stats", "files, rows, tokens and duplicates of shards")
    stats.add_argument("paths", nargs="+", metavar="PATH", help="parquet files, folders or globs")
    stats.add_argument("--exact", action="store_true", help="count every token instead of estimating from a sample")
    pack = data.add("pack", "data:pack", "tokenise shards into files the engine maps")
    pack.add_argument("paths", nargs="+", metavar="PATH", help="parquet files, folders or globs")
    pack.add_argument("-o", "--output", metavar="DIR", help="folder of the packs (else the cache)")
    pack.add_argument("--encoding", default="gpt2", help="tiktoken encoding (default gpt2)")
    pack.add_argument("--column", default="text", help="column that holds the documents (default text)")
    pack.add_argument("--recipe", metavar="FILE", help="pack only what this recipe keeps, held-out documents apart")
    sql = data.add("sql", "shards:sql", "ask shards as the table docs, read-only")
    sql.add_argument("paths", nargs="+", metavar="PATH", help="parquet files, folders or globs")
    sql.add_argument("-q", "--query", required=True, metavar="SQL", help="one statement; - reads standard input")
    sql.add_argument("--limit", type=int, default=50, metavar="N", help="rows shown at most (default 50)")
    sql.add_argument("-o", "--output", metavar="FILE", help="write the whole result to a .parquet or .csv file")
    recipe = data.add("recipe", "shards:recipe", "what a recipe would leave of shards")
    recipe.add_argument("recipe", metavar="RECIPE", help="TOML file: filters, deduplicate, held_out")
    recipe.add_argument("paths", nargs="+", metavar="PATH", help="parquet files, folders or globs")
    recipe.add_argument("--exact", action="store_true", help="count every token")
    recipe.add_argument("--config", metavar="FILE", help="configuration of the planned run, for its epochs")
    recipe.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help="one option of it")
    fetch = data.add("fetch", "shards:fetch", "bring shards of a dataset from the Hugging Face hub")
    fetch.add_argument("dataset", metavar="DATASET", help="for example HuggingFaceFW/fineweb-edu")
    fetch.add_argument("--config", metavar="C", help="the dataset's configuration, for example sample-10BT")
    fetch.add_argument("--split", metavar="S", help="only this split (default train where there is one)")
    fetch.add_argument("--shards", type=int, metavar="N", help="the first N shards (default all)")
    fetch.add_argument("--revision", metavar="R", help="branch, tag or commit (default main)")
    fetch.add_argument("-o", "--output", metavar="DIR", help="folder for the shards (default ./NAME)")


def _starting(verbs: Verbs) -> None:
    train = verbs.add(
        "train", "run:train", "start a run of its own, which outlives this terminal; prints its directory"
    )
    train.add_argument("--options", action="store_true", help="list every option with its default, and exit")
    train.add_argument("--wait", action="store_true", help="show progress until the run ends")
    train.add_argument("--nodes", metavar="N", type=int, default=1, help="machines, for --print-command (default 1)")
    train.add_argument(
        "--print-command",
        action="store_true",
        help="make the run without starting it; print the torchrun and Slurm lines that start it",
    )

    queue = verbs.add("queue", "queue:show", "runs that wait for a free GPU (without one: for the CPU); lists them")
    queue_verbs = Verbs(queue.add_subparsers(title="verbs", metavar="VERB"))
    queued = queue_verbs.add("add", "queue:add", "make a run that starts when a GPU is free")
    for planned in (train, queued):
        planned.add_argument(
            "paths", nargs="*", metavar="PATH", help="shards to train on (else data.paths of the configuration)"
        )
        planned.add_argument("--config", metavar="FILE", help="TOML configuration")
        planned.add_argument(
            "--set",
            metavar="KEY=VALUE",
            action="append",
            default=[],
            help="one option, for example optim.lr=3e-4; see gptbench train --options",
        )
        planned.add_argument("--name", help="begin of the run's name (default: the preset)")
        planned.add_argument(
            "--nproc", metavar="N", type=int, help="processes on this machine, one a GPU (train.processes; default 1)"
        )
    queue_verbs.add("remove", "queue:remove", "take a run out of the queue; its directory stays", run=True)
    queue_verbs.add("start", "queue:start", "start the queue's process again, after a stop or a reboot")
    queue_verbs.add("stop", "queue:stop", "end the queue's process; what runs goes on, what waits stays")


def _runs(verbs: Verbs) -> None:
    verbs.add("runs", "run:runs", "list runs")
    verbs.add("stop", "run:stop", "end a run's step, write a checkpoint, stop", run=True)
    resume = verbs.add("resume", "run:resume", "go on from a run's newest checkpoint", run=True)
    resume.add_argument("--wait", action="store_true", help="show progress until the run ends")

    branch = verbs.add(
        "branch", "model:branch", "start a run from a checkpoint of another, with changed options", run=True
    )
    branch.add_argument("--from-step", metavar="N", type=int, required=True, help="step of the checkpoint")
    branch.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help="one changed option")
    branch.add_argument("--name", help="begin of the new run's name (default: the run's, with the step)")
    branch.add_argument("--no-start", action="store_true", help="make the run without starting it")
    branch.add_argument("--wait", action="store_true", help="show progress until the run ends")


def _model(verbs: Verbs) -> None:
    sample = verbs.add("sample", "model:sample", "write text with a run's model", run=True)
    sample.add_argument("--prompt", metavar="TEXT", default="", help="text that the model goes on from")
    sample.add_argument("--tokens", metavar="N", type=int, default=200, help="tokens, at most (default 200)")
    sample.add_argument("--temperature", type=float, default=0.8, help="0: always the likeliest token (default 0.8)")
    sample.add_argument("--top-k", metavar="K", type=int, default=0, help="from the K likeliest tokens (0: from all)")
    sample.add_argument("--top-p", metavar="P", type=float, default=1.0, help="from the likeliest that make up P")
    sample.add_argument("--seed", type=int, default=0, help="the same seed writes the same text (default 0)")
    sample.add_argument("--device", default="auto", help="cuda, mps, cpu or auto")
    hf = verbs.add("hf", "model:hf", "write a run's model as a folder that transformers loads", run=True)
    hf.add_argument("-o", "--output", metavar="DIR", required=True, help="folder to write; it must be new or empty")
    for of_checkpoint in (sample, hf):
        of_checkpoint.add_argument("--step", default="newest", help="a checkpoint's step, newest (default) or best")


def _explaining(verbs: Verbs) -> None:
    import_log = verbs.add("import", "why:import_log", "make a run directory of another trainer's log")
    import_log.add_argument(
        "target", metavar="LOG", help="nanoGPT, llm.c, nanochat, Megatron …, TensorBoard, CSV or JSON lines"
    )
    import_log.add_argument("--name", help="begin of the run's name (default: the log's)")
    explain = verbs.add("explain", "why:explain", "why a run is flat: verdict, causes with evidence, what to do")
    export = verbs.add("export", "why:export", "the summary of a run: markdown with charts as SVG, or one HTML page")
    export.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="file to write (else summary.md in the run; for a log, standard output); charts go beside it",
    )
    export.add_argument("--html", action="store_true", help="one HTML page with its charts, without script or link")
    export.add_argument("--png", action="store_true", help="the charts as PNG too (needs rsvg-convert or cairosvg)")
    for with_facts in (explain, export):
        with_facts.add_argument("target", metavar="RUN|LOG", help=f"{RUN}; or a log of another trainer")
        with_facts.add_argument(
            "--data", metavar="PATH", nargs="+", default=[], help="shards trained on: their unique tokens are counted"
        )
        with_facts.add_argument("--unique-tokens", metavar="N", type=float, help="unique tokens trained on")
    for with_facts in (explain, export, import_log):
        with_facts.add_argument(
            "--fact",
            metavar="KEY=VALUE",
            action="append",
            default=[],
            help="a fact that the log does not say, for example lr=1e-3",
        )

    probe = verbs.add(
        "probe",
        "probe:probe",
        "the short experiment that settles a cause, in a twentieth of the run's compute",
        run=True,
    )
    probe.add_argument(
        "cause",
        metavar="CAUSE",
        nargs="?",
        help="an id as in explain, for example lr_too_low (else the likeliest that is not settled)",
    )
    probe.add_argument("--budget", metavar="F", type=float, help="share of the run's compute so far (default 0.05)")
    probe.add_argument("--again", action="store_true", help="even though it is settled: from the newest checkpoint")
    probe.add_argument("--detach", action="store_true", help="start it and return; the same command follows it later")
    probe.add_argument("--stop", action="store_true", help="end the probe under way; it goes on from there next time")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 done, 1 the work failed, 2 wrong usage."""
    parser = build_parser()
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        args.parser.refuse(unknown)
    if args.version:
        from importlib.metadata import version

        print(f"gptbench {version('gptbench')}")
        return 0
    module, function = args.call.split(":")
    try:
        return int(getattr(importlib.import_module(module), function)(args))
    except KeyboardInterrupt:
        print("gptbench: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:  # `gptbench … | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        from data.files import ShardError
        from engine.config import ConfigError
        from workbench.errors import UserError

        if isinstance(error, ConfigError):
            code = 2
        elif isinstance(error, (UserError, ShardError)):
            code = getattr(error, "exit_code", 1)
        elif isinstance(error, OSError) and error.filename is not None:
            code, error = 1, UserError(f"{error.filename}: {error.strerror}")
        elif isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
            code, error = 1, UserError(f"a file could not be written: {error.strerror}; check the disk")
        elif os.environ.get("GPTBENCH_TRACEBACK"):
            raise
        else:
            code, error = (
                1,
                UserError(
                    f"an error of gptbench itself ({type(error).__name__}: {error}); "
                    "GPTBENCH_TRACEBACK=1 shows where: please report it"
                ),
            )
        print(f"gptbench: {plain(error)}", file=sys.stderr)
        return code


if __name__ == "__main__":
    sys.exit(main())
