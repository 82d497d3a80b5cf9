"""Makes the suite's runs with the real engine: resumable, several at once, within a given time.

A run lies in ``WORK/runs/<plant>``; one that has stopped of itself is not made again, one that was interrupted goes on
from its checkpoint. What is done is recorded in ``OUT`` (``record.write``) now and then, and at the end.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from data.packed import pack_shard
from data.workers import cores
from engine.config import resolve
from engine.events import EventReader
from tests.benchmarks.planted import plan, record, shards
from tests.benchmarks.planted.plan import Plant

PLUGIN = Path(__file__).parent / "plugin"
ROOT = Path(__file__).resolve().parents[3]
STOP_SECONDS = 20.0
RECORD_SECONDS = 100.0
ENOUGH = 6  # runs that have to end before their speed counts
CAREFUL = 1.15  # what is left of the runs is taken for so much longer than it looks


@dataclass
class Making:
    """A subset being made. ``processes``: runs under way; ``parts``: shards, each made and packed by a worker."""

    subset: str
    work: Path
    device: str
    tiny: bool
    begin: float
    deadline: float
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    parts: dict[tuple[str, int], Future[str]] = field(default_factory=dict)
    first: dict[tuple[Any, ...], str] = field(default_factory=dict)  # shape → the run that compiles it for the others
    plants: dict[str, Plant] = field(default_factory=dict)
    ended: int = 0
    failed: list[str] = field(default_factory=list)
    eager: set[str] = field(default_factory=set)  # failed once: tried again, without compilation
    again: list[Plant] = field(default_factory=list)  # those of them that wait
    _spent: float = 0.0  # seconds of the runs that ended, as planned
    _moving: float = 0.0  # when the first run began to train

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self.begin:5.0f} s  {text}", flush=True)

    def options(self, p: Plant) -> dict[str, Any]:
        """The configuration of a run, but for its data."""
        sets = plan.options(p, self._base(p))
        if self.tiny:
            sets = tiny(sets)
        return sets | ({"train.device": self.device} if self.device else {})

    def needs(self, p: Plant) -> list[tuple[str, int]]:
        """Kind and tokens of the shards that a run reads: training, held-out."""
        sets = self.options(p)
        tokens = sets["train.max_steps"] * sets["train.micro_batch"] * sets["model.block_size"]
        if self.subset == "cuda":  # all read the same shards, however long they are
            tokens = self._base(p).tokens // (100 if self.tiny else 1)
        return [(p.corpus, tokens), (p.val, 0)]

    def ready(self, p: Plant) -> bool:
        """Whether its shards are packed, and nobody is compiling its shape just now."""
        if not all(self.parts[need].done() for need in self.needs(p)):
            return False
        leader = self.first.get(self._shape(p))
        return leader is None or leader not in self.processes or self.step(leader) > 0

    def step(self, name: str) -> int:
        """Newest step of a run under way."""
        path = self.work / "runs" / name / "events.jsonl"
        if not path.is_file():
            return 0
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 4096))
            found = re.findall(rb'"event": ?"step".{0,40}?"step": ?(\d+)', file.read())
        return int(found[-1]) if found else 0

    def room(self) -> float:
        """Seconds of the plan's that a run may take, to end in time beside those under way, at the speed so far."""
        if self.ended < ENOUGH:  # what compiles says nothing of the speed
            return math.inf
        done = sum(self.plants[n].seconds * self._share(n) for n in self.processes)
        left = sum(self.plants[n].seconds for n in self.processes) - done
        now = time.monotonic()
        speed = (self._spent + done) / (now - self._moving)
        return speed * (self.deadline - now) / CAREFUL - left

    def start(self, p: Plant) -> None:
        """Start a run, or go on with it. A shard that could not be made is that run's failure."""
        try:
            train, held = (self.parts[need].result() for need in self.needs(p))
        except Exception as error:
            self.failed.append(p.name)
            self.say(f"{p.name}: no shards: {error}")
            return
        run_dir = self.work / "runs" / p.name
        second = p.name in self.eager
        if second or not (run_dir / "config.toml").is_file():
            sets = self.options(p) | ({"train.compile": "off"} if second else {}) | {
                "data.paths": [train], "data.val_paths": [held], "data.cache": str(self.work / "packs"),
            }  # fmt: skip
            shutil.rmtree(run_dir, ignore_errors=True)
            run_dir.mkdir(parents=True)
            (run_dir / "config.toml").write_text(resolve(None, (), sets).to_toml())
        path = [str(ROOT), str(PLUGIN), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
        environment = {
            **os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive",
            "PYTHONPATH": os.pathsep.join(filter(None, path)), "TORCHINDUCTOR_COMPILE_THREADS": "4",
            "TORCHINDUCTOR_CACHE_DIR": str(self.work / "compiled"), "TRITON_CACHE_DIR": str(self.work / "triton"),
        }  # fmt: skip
        with (run_dir / "engine.log").open("ab") as log:
            self.processes[p.name] = subprocess.Popen(
                [sys.executable, "-m", "tests.benchmarks.planted.worker", str(run_dir), p.fault],
                stdout=log, stderr=log, cwd=ROOT, env=environment,
            )  # fmt: skip
        if self.options(p)["train.device"] == "cuda" and not second:
            leader = self.first.get(self._shape(p))
            if leader is None or leader not in self.processes:
                self.first[self._shape(p)] = p.name

    def reap(self) -> None:
        """Take note of the runs that ended; their weights are needed no more."""
        if not self._moving and any(self.step(n) for n in self.processes):
            self._moving = time.monotonic()
        for name in [n for n, process in self.processes.items() if process.poll() is not None]:
            code, run_dir = self.processes.pop(name).returncode, self.work / "runs" / name
            if ended(run_dir):
                self.ended += 1
                self._spent += self.plants[name].seconds
                shutil.rmtree(run_dir / "checkpoints", ignore_errors=True)
                self.say(f"{name} done ({self.ended})")
            else:
                if name in self.eager:
                    self.failed.append(name)
                else:
                    self.eager.add(name)
                    self.again.append(self.plants[name])
                lines = (run_dir / "engine.log").read_text(errors="replace").strip().splitlines()
                self.say(f"{name} failed ({code}): {lines[-1][:200] if lines else ''}")

    def stop(self) -> None:
        """Interrupt what is under way."""
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        until = time.monotonic() + STOP_SECONDS
        for process in self.processes.values():
            try:
                process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()

    def _base(self, p: Plant) -> plan.Base:
        return next(b for b in plan.BASES[self.subset] if b.name == p.base)

    def _share(self, name: str) -> float:
        return self.step(name) / self.options(self.plants[name])["train.max_steps"]

    def _shape(self, p: Plant) -> tuple[Any, ...]:
        sets = self.options(p)
        keys = ("n_layer", "n_embd", "n_head", "block_size", "dropout")
        return (sets["train.micro_batch"], *(sets.get(f"model.{k}") for k in keys))


def make(subset: str, work: Path, out: Path, jobs: int, budget: float, only: str = "", device: str = "",
         tiny: bool = False) -> int:  # fmt: skip
    """Make what is missing of a subset, then record all that there is. Returns how many runs failed.

    Args:
        work: folder of shards, packs and runs. out: where records go. jobs: runs at once. budget: seconds until what
            is under way is put aside; none is started that would not end before.
        only: part of a plant's name. device: in place of the subset's own. tiny: a hundredth of everything, to try it.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no run is left behind, going on alone
    sys.path.append(str(PLUGIN))
    begin = time.monotonic()
    m = Making(subset, work.absolute(), device, tiny, begin, begin + budget)
    known = record.names(out, subset) | (set() if tiny else record.names(record.RECORDED, subset))
    todo = [p for p in plan.plants(subset) if not p.of and only in p.name and p.name not in known]
    todo = [p for p in todo if not ended(m.work / "runs" / p.name)]
    m.plants = {p.name: p for p in todo}
    m.say(f"{len(todo)} runs to make, {len(known)} recorded")
    recorded = time.monotonic()
    # Spawned: each reads the corpus for itself, and inherits no thread.
    with ProcessPoolExecutor(min(cores(), 12), mp_context=get_context("spawn")) as pool:
        try:
            for p in todo:
                encoding = str(m.options(p).get("data.encoding", "gpt2"))
                for need in m.needs(p):
                    if need not in m.parts:
                        m.parts[need] = pool.submit(packed, *need, m.work, subset, encoding)
            while (todo or m.processes or m.again) and time.monotonic() < m.deadline:
                m.reap()
                todo += m.again
                m.again.clear()
                free, room = len(m.processes) < jobs, m.room()
                at = next((i for i, p in enumerate(todo) if free and p.seconds < room and m.ready(p)), None)
                if at is not None:
                    m.start(todo.pop(at))
                elif not m.processes and all(p.seconds >= room for p in todo):
                    break
                if time.monotonic() - recorded > RECORD_SECONDS:
                    record.write(subset, m.work / "runs", out)
                    recorded = time.monotonic()
                time.sleep(0.05 if at is not None else 0.3)
        finally:
            m.stop()
            pool.shutdown(wait=False, cancel_futures=True)
            record.write(subset, m.work / "runs", out)
    away = [p.name for p in todo] + list(m.processes)
    m.say(f"{m.ended} runs ended, {len(m.failed)} failed, {len(away)} not made{': ' if away else ''}{', '.join(away)}")
    return len(m.failed)


def packed(kind: str, tokens: int, work: Path, subset: str, encoding: str) -> str:
    """A shard and its pack, in a worker process; its path."""
    path = shards.build(kind, tokens, work / "shards", shards.MEASURES[subset])
    pack_shard(str(path), encoding=encoding, column="text", cache=work / "packs")
    return str(path)


def tiny(sets: dict[str, Any]) -> dict[str, Any]:
    """The same plant on next to nothing: whether it can be made at all, not what it shows."""
    small = dict(sets)
    for key in ("train.max_steps", "schedule.warmup_steps", "schedule.decay_steps", "schedule.cooldown_steps"):
        if small.get(key):
            small[key] = max(1, small[key] // 24)
    small["train.max_steps"] = min(max(8, small["train.max_steps"]), 40)
    small["train.grad_accum"] = min(small.get("train.grad_accum", 1), 4)
    return small | {
        "model.n_layer": 1, "model.n_embd": 16, "model.n_head": 2, "model.block_size": 32, "train.micro_batch": 2,
        "eval.every": max(1, small["train.max_steps"] // 20), "eval.documents": min(small["eval.documents"], 6),
        "eval.seen": 4, "eval.document_tokens": 32, "train.device": "cpu",
    }  # fmt: skip


def ended(run_dir: Path) -> bool:
    """Whether a run stopped of itself: finished, or failed as an unstable one does."""
    if not run_dir.is_dir():
        return False
    last = [e for e in EventReader(run_dir).read() if e["event"] in ("stop", "resume")]
    return bool(last) and record.of_itself(last[-1])
