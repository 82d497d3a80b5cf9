"""Makes the runs: shards as for the rest of the suite, packed by this project's own encoder into files of tokens."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import time
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from data.packed import pack_shard
from data.workers import cores
from tests.benchmarks.planted import shards
from tests.benchmarks.planted.others import plan, record
from tests.benchmarks.planted.plan import Plant

HERE = Path(__file__).parent
PLUGIN = HERE.parent / "plugin"  # of tokenizers


def make(bases: list[str], nanogpt: Path, work: Path, out: Path, jobs: int, budget: float, only: str = "",
         tiny: bool = False) -> int:  # fmt: skip
    """Make what is missing on these bases and record all that there is. Returns how many runs failed.

    Args:
        nanogpt: folder of ``train.py``, ``model.py`` and ``configurator.py``. budget: seconds until what is under way
            is put aside. tiny: next to nothing of each run, on a CPU: does it work at all?
    """
    sys.path.append(str(PLUGIN))
    begin, work = time.monotonic(), work.absolute()
    known = record.names(out) | (set() if tiny else record.names(record.RECORDED))
    todo = [p for b in bases for p in plan.plants(b) if not p.of and only in p.name and p.name not in known]
    todo = [p for p in todo if not (work / "runs" / p.name / "done").is_file()]
    print(f"{len(todo)} runs to make", flush=True)
    running: dict[str, subprocess.Popen[bytes]] = {}
    failed = 0
    with ProcessPoolExecutor(min(cores(), 12), mp_context=get_context("spawn")) as pool:
        bins: dict[tuple[str, int], Future[dict[str, Any]]] = {}
        for p in todo:
            for need in _needs(p, tiny):
                if need not in bins:
                    bins[need] = pool.submit(packed, *need, work, plan.ENCODINGS[p.base][0])
        try:
            while (todo or running) and time.monotonic() - begin < budget:
                for name in [n for n, process in running.items() if process.poll() is not None]:
                    code, folder = running.pop(name).returncode, work / "runs" / name
                    if code == 0:
                        (folder / "done").touch()
                    else:
                        failed += 1
                        lines = (folder / "errors").read_text(errors="replace").strip().splitlines()
                        print(f"{name} failed ({code}): {' | '.join(lines[-3:])[-400:]}", flush=True)
                    print(f"{time.monotonic() - begin:4.0f} s  {name} ended", flush=True)
                ready = (p for p in todo if all(bins[n].done() for n in _needs(p, tiny)))
                if len(running) < jobs and (p := next(ready, None)) is not None:
                    todo.remove(p)
                    running[p.name] = _start(p, nanogpt, work, [bins[n].result() for n in _needs(p, tiny)], tiny)
                else:
                    time.sleep(0.2)
        finally:
            for process in running.values():
                process.kill()
            pool.shutdown(wait=False, cancel_futures=True)
            record.write(work / "runs", out)
    print(f"{time.monotonic() - begin:.0f} s; not made: {', '.join([p.name for p in todo] + list(running)) or 'none'}")
    return failed


def _needs(p: Plant, tiny: bool) -> list[tuple[str, int]]:
    b = next(b for b in plan.BASES if b.name == p.base)
    return [(p.corpus, b.tokens // (100 if tiny else 1)), (p.val, 0)]


def _start(p: Plant, nanogpt: Path, work: Path, told: list[dict[str, Any]], tiny: bool) -> subprocess.Popen[bytes]:
    folder = work / "runs" / p.name
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    for name, about in zip(("train.bin", "val.bin"), told, strict=True):
        (data / name).unlink(missing_ok=True)
        (data / name).symlink_to(about["path"])
    (folder / "told.json").write_text(json.dumps({
        "unique_tokens": told[0]["unique_tokens"], "train_tokens": told[0]["tokens"], "val_tokens": told[1]["tokens"],
        "val_documents": told[1]["documents"],
    }))  # fmt: skip
    encoding, rows = plan.ENCODINGS[p.base]
    if encoding != "gpt2":
        (data / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": rows}))  # where nanoGPT looks for it
    options = plan.options(p)
    if tiny:
        options = _tiny(options)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    if p.base == "hf":
        options |= {
            "train": str(data / "train.bin"),
            "val": str(data / "val.bin"),
            "fault": p.fault,
            "vocab_size": rows,
        }
        (folder / "options.json").write_text(json.dumps(options))
        command = [sys.executable, str(HERE / "hf.py"), str(folder / "options.json"), str(folder)]
    else:
        options |= {"out_dir": "out"}
        if tiny:
            options |= {"device": "cpu", "dtype": "float32"}
        command = [sys.executable, str(HERE / "nanogpt.py"), str(nanogpt.absolute()), str(1336 + p.seed), p.fault,
                   f"--dataset={data}", *(f"--{k}={v}" for k, v in options.items())]  # fmt: skip
    with (folder / "log").open("wb") as log, (folder / "errors").open("wb") as errors:
        return subprocess.Popen(command, stdout=log, stderr=errors, env=environment)


def packed(kind: str, tokens: int, work: Path, encoding: str) -> dict[str, Any]:
    """A file of tokens of that kind (``shards.build``'s, ``unigram``: all tokens shuffled; ``zeros``: read at half the
    width, so that each other one is 0; ``val-first-N``: the first N of the held-out ones), and what it holds."""
    plain, most = kind, None
    if kind.startswith("val-first-"):
        plain, most = "val", int(kind.rpartition("-")[2])
    odd = kind.removeprefix("val-") if kind.removeprefix("val-") in ("unigram", "zeros") else ""
    if odd:
        plain = "val" if kind.startswith("val-") else "fresh"
    name = kind.replace("/", "-of-")
    # A folder each: several kinds are made of the same shard, at the same time.
    path = shards.build(plain, tokens, work / name, shards.MEASURES["cuda" if encoding == "gpt2" else "cpu"])
    pack = pack_shard(str(path), encoding=encoding, column="text", cache=work / name)
    array = np.asarray(pack.tokens[:most], dtype=np.uint16)
    if odd == "unigram":
        array = np.random.default_rng(0).permutation(array)
    elif odd == "zeros":
        wide = np.zeros(2 * len(array), np.uint16)
        wide[::2] = array
        array = wide
    file = work / f"{name}-{tokens}.bin"
    temporary = file.with_suffix(f".{os.getpid()}")
    array.tofile(temporary)
    temporary.replace(file)
    lengths = np.diff(pack.offsets)
    _, first = np.unique(pack.hashes[:, 0], return_index=True)
    documents = int(np.searchsorted(pack.offsets, len(array), side="left")) if most else pack.documents
    unique = len(array) if most or odd else int(lengths[first].sum())
    return {"path": str(file), "tokens": len(array), "documents": documents, "unique_tokens": unique}


def _tiny(options: dict[str, Any]) -> dict[str, Any]:
    small = options | {"n_layer": 1, "n_embd": 16, "n_head": 1}
    for key in ("max_iters", "lr_decay_iters", "max_steps"):
        if key in small:
            small[key] = 40
    for key in ("eval_interval", "eval_steps"):
        if key in small:
            small[key] = 2
    for key in ("warmup_iters", "warmup_steps", "log_interval", "logging_steps"):
        if key in small:
            small[key] = 2
    if "batch_size" in small:
        small |= {"batch_size": 2, "block_size": 32, "eval_iters": 2, "gradient_accumulation_steps": 1}
    else:
        small |= {"per_device_train_batch_size": 2, "n_positions": 32, "eval_windows": 8}
    return small
