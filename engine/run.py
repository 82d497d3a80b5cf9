"""A run as a process: one at a time, started, stopped, resumed, and failing in one line."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import socket
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from data.files import ShardError
from data.packed import Cancelled
from engine import ahead, checkpoint, events, parallel, plan, prepare, process
from engine import config as config_module
from engine import device as device_module
from engine.config import Config, ConfigError
from engine.described import Prepared
from engine.errors import RunError
from engine.parallel import Ranks
from engine.record import Past, Recorder, Silent
from engine.signals import Signals
from engine.train import Trainer

QUIET = 120.0  # seconds without an event after which a run of another host, if it did not stop, counts as dead


def train(run_dir: Path, signals: Signals, began: float, once: bool = False) -> int:
    """Train the run of that directory, from its newest checkpoint if it has one. Returns the exit code.

    0: finished or stopped. 1: failed; one line on stderr, the same in the ``stop`` event.

    Args:
        began: ``time.perf_counter()`` when the process began, for the first ``phase``.
        once: train on one of each set of exact copies (a probe's arm).
    """
    try:
        ranks = parallel.join()
    except RunError as error:
        print(error, file=sys.stderr, flush=True)
        return 1
    ranks.watch()
    try:
        if not run_dir.is_dir():
            raise RunError(f"{run_dir}: no such run directory")
        with owned(run_dir) if ranks.main else nullcontext():
            return _owned(run_dir, ranks, signals, began, once)
    except (RunError, OSError, RuntimeError) as error:
        text = parallel.broken(error) or (_system(error) if isinstance(error, OSError) else str(error))
        if isinstance(error, RuntimeError) and not parallel.broken(error):
            raise
        text = ranks.fail(text)
        if ranks.main:
            print(text, file=sys.stderr, flush=True)
        return 1
    finally:
        ranks.rest()


def _owned(run_dir: Path, ranks: Ranks, signals: Signals, began: float, once: bool) -> int:
    past = ranks.tell(Past(run_dir) if ranks.main else None)
    record = Recorder(run_dir) if ranks.main else Silent()
    trainer: list[Trainer] = []
    reason, text = "failed", ""

    def other_failed(text: str) -> None:
        _stop(record, trainer[0].step if trainer else past.steps, "failed", text)

    ranks.on_failure = other_failed
    try:
        reason = _train(run_dir, ranks, past, record, signals, trainer, Phases(record, began), once)
        parallel.leave()
    except Cancelled:
        reason = "stopped"
    except (RunError, ConfigError, ShardError) as error:
        text = str(error)
    except OSError as error:
        text = _system(error)
    except (RuntimeError, MemoryError) as error:
        text = (
            _out_of_memory(error, trainer)
            or parallel.broken(error)
            or _device(error, run_dir, trainer)
            or _unexpected(error)
        )
    except Exception as error:
        text = _unexpected(error)
    if reason == "finished" and not trainer:
        return 0
    if text:
        text = ranks.fail(text)
    if not ranks.main:
        return int(reason == "failed")
    return _stop(record, trainer[0].step if trainer else past.steps, reason, text)


def _stop(record: Recorder, step: int, reason: str, text: str) -> int:
    """Record the end of the run and say it. Returns the exit code."""
    record.add("stop", step=step, reason=reason, text=text)
    if not record.close():
        print("the last events could not be written; free some space and resume", file=sys.stderr)
        return 1
    if text:
        print(" ".join(text.split("\n")), file=sys.stderr, flush=True)
    else:
        print(f"{reason} at step {step}", flush=True)
    return int(reason == "failed")


def _train(
    run_dir: Path, ranks: Ranks, past: Past, record: Recorder, signals: Signals, trainer: list[Trainer], clock: Phases,
    once: bool = False,
) -> str:  # fmt: skip
    config = config_module.load(run_dir / "config.toml")
    ranks.fit(config)
    clock.end("import")
    device = device_module.choose(replace(config.train, device=ranks.device(config.train)))
    _refuse_other_device(config, device, past, run_dir)
    ranks.choose(config, device.memory if device.type == "cuda" else None)
    if device.compiled:
        ahead.begin(ahead.compiler)
    clock.end("device")
    with ranks.in_turn(signals.stopping):
        data = prepare.prepare(
            config, run_dir, cancelled=signals.stopping, decides=ranks.main, packs=ranks.local == 0
        )  # fmt: skip
    try:
        if once:
            parts = data.settled(signals.stopping)
            data = replace(data, split=replace(parts, train=parts.unique), feed=None)
        return _run(config, run_dir, data, device, ranks, past, record, signals, trainer, clock)
    finally:
        data.close()


def _run(
    config: Config, run_dir: Path, data: Prepared, device: device_module.Device, ranks: Ranks, past: Past,
    record: Recorder, signals: Signals, trainer: list[Trainer], clock: Phases,
) -> str:  # fmt: skip
    planned = data.facts.get("planned_tokens") or data.facts["tokens"]  # once planned, the steps stay what they are
    config = config.replace(train={"max_steps": plan.steps_of_epochs(config, planned)})
    if past.finished and past.steps >= config.train.max_steps:
        record.forget()
        print(f"{run_dir}: finished at step {past.steps} already; nothing to do")
        return "finished"
    clock.end("pack")
    _start(config, data, device, record, past, ranks)
    begin = time.perf_counter()

    def heard(what: str, about: dict[str, Any]) -> None:
        step = trainer[0].step if trainer else past.steps
        if what == "packed":
            seconds = time.perf_counter() - begin
            record.add("phase", name="pack all", seconds=seconds, **{k: about[k] for k in ("tokens", "unique_tokens")})
            if leaked := about["held_out"]["leaked_documents"]:
                record.warn(step, _leak(leaked))
        else:
            record.warn(step, ("left out: " if what == "skipped" else "") + about["error"])

    data.listen(heard)
    if ranks.agree(signals.stop):
        return "stopped"
    trainer.append(Trainer(config, run_dir, data, device, record, past, signals.stopping, ranks))
    trainer[0].build()
    clock.end("build")
    if device.compiled:
        trainer[0].warm_up()
        clock.end("compile")
    return trainer[0].run()


def _refuse_other_device(config: Config, device: device_module.Device, past: Past, run_dir: Path) -> None:
    """A graphics card that was lost must not make a CPU of ``train.device`` auto: the run would crawl on unnoticed."""
    if config.train.device == "auto" and device.type == "cpu" and past.device not in (None, "cpu"):
        raise RunError(
            f"this run was trained on {past.device_name}, which is not to be found now; "
            f"{checkpoint.last_good(run_dir)}; see that the device is well (nvidia-smi), then resume the run, "
            'or set train.device = "cpu" in its config.toml'
        )


def _start(
    config: Config, data: Prepared, device: device_module.Device, record: Recorder, past: Past, ranks: Ranks
) -> None:
    facts = data.facts
    planned = plan.plan(
        config, train_tokens=facts["tokens"] or facts.get("planned_tokens"), unique_tokens=facts["unique_tokens"],
        device_memory=device.memory,
        device_name=device.name if device.type == "cuda" else None, shards=ranks.size if ranks.sharded else 1,
    )  # fmt: skip
    certain = 16 * (planned.parameters + plan.position_parameters(config.model))  # weights, gradients, two moments
    if ranks.sharded:
        certain //= ranks.size
    needed = planned.memory if device.type == "cpu" else certain
    if device.memory is not None and needed > device.memory:
        shards = ranks.size if ranks.sharded else 1
        raise RunError(
            f"this run needs about {needed / 2**30:.1f} GiB of memory, {device.name} has {device.memory / 2**30:.1f}: "
            + plan.remedy(config, device.memory, device=device.type, shards=shards)
        )
    text = json.dumps(config.to_dict(), sort_keys=True)
    record.add(
        "start", schema=events.SCHEMA, parameters=planned.parameters, tokens_per_step=planned.tokens_per_step,
        max_steps=planned.max_steps, device=device.type, device_name=device.name,
        dtype=str(device.dtype).removeprefix("torch."), compiled=device.compiled, versions=_versions(),
        config_hash=hashlib.sha256(text.encode()).hexdigest()[:16], flops_per_token=plan.flops_per_token(config.model),
        memory_predicted=planned.memory, threads=torch.get_num_threads(),
        processes=ranks.size, parallel=ranks.mode if ranks.size > 1 else None, cooldown_steps=planned.cooldown_steps,
        batches=[{"step": begin + 1, "tokens": batch * config.model.block_size} for begin, batch in config.stages],
    )  # fmt: skip
    unique = facts["unique_tokens"]
    epochs = f"{planned.total_tokens / unique:.2f} epochs over unique tokens" if unique else "shards are still packed"
    print(
        f"{planned.parameters:,} parameters, {planned.max_steps:,} steps of {planned.tokens_per_step:,} tokens "
        f"({epochs}) on {device.name}",
        flush=True,
    )
    if past.begun:
        return
    for error in facts["errors"]:
        if error.get("skipped"):
            continue
        record.warn(0, f"left out: {error['error']}")
    for warning in planned.warnings:
        record.warn(0, warning)
    if device.type == "cuda" and plan.peak_flops(device.name) is None:
        record.warn(0, f"the arithmetic peak of {device.name} is not known: MFU is not reported")
    if leaked := facts["held_out"]["leaked_documents"]:
        record.warn(0, _leak(leaked))
    record.flush()


def _leak(documents: int) -> str:
    return f"{documents:,} held-out documents have an exact copy in the training data"


class Phases:
    """Start-up, phase by phase."""

    def __init__(self, record: Recorder, began: float) -> None:
        self._record = record
        self._begin = began

    def end(self, name: str) -> None:
        """Record the phase that ends here."""
        now = time.perf_counter()
        self._record.add("phase", name=name, seconds=now - self._begin)
        self._begin = now


@contextmanager
def owned(run_dir: Path) -> Iterator[None]:
    """Be the one process that runs this directory; says so in ``process.json``.

    Raises:
        RunError: another process runs it.
    """
    with process.lock(run_dir, patience=2.0) as ours:  # whoever starts an engine holds it until it is started
        if not ours:
            raise RunError(f"{run_dir}: another process runs it already; stop that one first")
        _refuse_other(run_dir)
        process.write(run_dir)
        yield


def _refuse_other(run_dir: Path) -> None:
    other = process.read(run_dir)
    launcher = os.getppid() if "TORCHELASTIC_RUN_ID" in os.environ else None
    if other is None or other.get("pid") in (os.getpid(), launcher):
        return
    alive = process.alive(run_dir)
    if alive:
        raise RunError(f"{run_dir}: process {other.get('pid')} runs it already; stop that one first")
    if alive is None:
        try:
            os.utime(run_dir / process.LOCK)  # the time of the file system's own clock, which stamped the events
            now = (run_dir / process.LOCK).stat().st_mtime
            age = now - (run_dir / events.FILE_NAME).stat().st_mtime
        except OSError:
            return
        if abs(age) < QUIET and not _stopped(run_dir):
            raise RunError(
                f"{run_dir}: seems to run on {other.get('host')}: its last event is {age:.0f} s old, no stop among "
                f"them; stop it there, or wait {QUIET:.0f} s after its end"
            )


def _stopped(run_dir: Path) -> bool:
    last = ""
    for event in events.EventReader(run_dir).read():
        last = event["event"]
    return last == "stop"


def _versions() -> dict[str, Any]:
    return {
        "python": platform.python_version(), "torch": torch.__version__, "cuda": torch.version.cuda,
        "platform": platform.platform(), "host": socket.gethostname(),
    }  # fmt: skip


def _out_of_memory(error: BaseException, trainer: list[Trainer]) -> str:
    known = isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(
        text in str(error) for text in ("not enough memory", "can't allocate memory", "CUDA error: out of memory")
    )
    if not known:
        return ""
    if not trainer:
        return "out of memory; choose a smaller model"
    t, device = trainer[0].config.train, trainer[0].device
    where = f"out of memory on {device.name}"
    if device.memory is not None:
        where += f" ({device.memory / 2**30:.1f} GiB)"
    if t.micro_batch == 1:
        half = trainer[0].config.model.block_size // 2
        return f"{where} with a micro-batch of 1: start a new run with model.block_size={half}, or with a smaller model"
    half = t.micro_batch // 2
    half = next(b for b in range(half, 0, -1) if t.micro_batch % b == 0)  # so that a step keeps its sequences
    accumulate = t.micro_batch * t.grad_accum // half
    return (
        f"{where}: set train.micro_batch={half} and train.grad_accum={accumulate} in config.toml, for as many tokens a "
        "step, and resume"
    )


def _device(error: BaseException, run_dir: Path, trainer: list[Trainer]) -> str:
    """A device that failed under the run. Its errors come late and at any call: a trace would name the wrong one."""
    if not (
        isinstance(error, torch.AcceleratorError)
        or re.match(r"(CUDA|CUBLAS|CUDNN|HIP|NCCL|MPS)\b.*\berror", str(error), re.I)
    ):
        return ""
    what, name = str(error).strip().split("\n")[0][:200], trainer[0].device.name if trainer else "the device"
    good = checkpoint.last_good(run_dir, trainer[0].saved if trainer else None)
    return f"{name} failed: {what}; {good}; see that it is well (nvidia-smi), then resume the run"


def _system(error: OSError) -> str:
    """What the operating system refused."""
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}; check the disk and its permissions"


def _unexpected(error: BaseException) -> str:
    """A failure that nobody foresaw: its trace goes to the log, one line to the event."""
    traceback.print_exception(error)
    return f"internal error: {type(error).__name__}: {' '.join(str(error).split())[:300]}; the trace is in engine.log"
