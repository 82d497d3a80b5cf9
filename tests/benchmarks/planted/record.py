"""The suite's metrics, recorded once: one file of gzipped lines a subset and split, one manifest with hashes.

A line is a run: its plant, configuration, data facts, events (the fields that a diagnosis reads) and per-document
losses. The manifest holds the hash of each line and, for the held-out runs, of the whole file.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from engine.events import EventReader
from tests.benchmarks.planted import plan

RECORDED = Path(__file__).parent / "recorded"
MANIFEST = "manifest.json"
_KEEP = {
    "start": ("schema", "parameters", "tokens_per_step", "max_steps", "device"),
    "step": ("step", "tokens", "epoch", "loss", "lr", "grad_norm", "clipped"),
    "eval": ("step", "split", "loss", "se", "documents", "tokens"),
    "noise_scale": ("step", "b_noise"),
    "warning": ("step", "text"),
    "stop": ("step", "reason", "text"),
}
MAX_STEPS = 600  # step events kept of a run; of a longer one, each n-th


def write(subset: str, runs: Path, out: Path) -> None:
    """Record every ended run below ``runs``, beside what ``out`` holds already of the subset."""
    lines = {line["plant"]["name"]: line for line in read(out, subset)}
    for p in plan.plants(subset):
        run_dir = runs / (p.of or p.name)
        if p.name not in lines and run_dir.is_dir() and (line := _line(p, run_dir)) is not None:
            lines[p.name] = line
    save(subset, list(lines.values()), out)
    print(f"{len(lines)} runs of {subset} recorded in {out}", flush=True)


def merge(source: Path, out: Path) -> None:
    """Add the runs recorded in ``source`` to those of ``out``. What ``out`` holds already stays as it is."""
    for subset in plan.BASES:
        lines = {line["plant"]["name"]: line for line in read(out, subset)}
        new = [line for line in read(source, subset) if line["plant"]["name"] not in lines]
        if new:
            save(subset, [*lines.values(), *new], out)
            print(f"{len(new)} runs of {subset} added to {len(lines)}")


def save(subset: str, lines: list[dict[str, Any]], out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    path = out / MANIFEST
    manifest = json.loads(path.read_text()) if path.is_file() else {}
    for split in (plan.DEV, plan.HELDOUT):
        some = [json.dumps(v, separators=(",", ":")) for v in lines if v["plant"]["split"] == split]
        if not some:
            continue
        name = f"{subset}-{split}.jsonl.gz"
        with gzip.GzipFile(out / name, "wb", mtime=0) as file:
            file.write(("\n".join(some) + "\n").encode())
        manifest[name] = {
            "sha256": hashlib.sha256(("\n".join(some)).encode()).hexdigest(),
            "runs": {json.loads(s)["plant"]["name"]: hashlib.sha256(s.encode()).hexdigest()[:16] for s in some},
        }
    path.write_text(json.dumps(manifest, indent=1) + "\n")


def names(out: Path, subset: str) -> set[str]:
    """Plants that are recorded already."""
    return {line["plant"]["name"] for line in read(out, subset)}


def read(out: Path, subset: str) -> Iterator[dict[str, Any]]:
    """The recorded runs of a subset, checked against the manifest. Raises ValueError where a hash differs."""
    path = out / MANIFEST
    manifest = json.loads(path.read_text()) if path.is_file() else {}
    for name, about in manifest.items():
        if not name.startswith(f"{subset}-"):
            continue
        text = gzip.decompress((out / name).read_bytes()).decode().rstrip("\n")
        if hashlib.sha256(text.encode()).hexdigest() != about["sha256"]:
            raise ValueError(f"{name}: its runs are not those of the manifest")
        yield from map(json.loads, text.split("\n"))


def _line(p: plan.Plant, run_dir: Path) -> dict[str, Any] | None:
    found = list(EventReader(run_dir).read())
    if not any(e["event"] == "stop" and of_itself(e) for e in found):
        return None
    last = max((e.get("step", 0) for e in found if e["event"] == "step"), default=0)
    until = int(p.cut * last)
    stride = -(-last // MAX_STEPS)
    events = []
    for e in found:
        kind, step = e["event"], e.get("step", 0)
        if kind not in _KEEP or step > until or (kind == "stop" and p.cut < 1):
            continue
        if kind == "step" and step % stride and step != until:
            continue
        events.append({"event": kind} | {k: _short(e[k]) for k in _KEEP[kind] if k in e})
    data = json.loads((run_dir / "data.json").read_text())
    for entry in (*data["files"], *data["val_files"]):
        entry["path"] = Path(entry["path"]).name
    arrays = {
        f.stem: np.load(f).astype(np.float16 if f.stem[-8:].isdigit() else np.int32)
        for f in sorted((run_dir / "evals").glob("*.npy"))
        if not f.stem.endswith("-documents") and not (f.stem[-8:].isdigit() and int(f.stem[-8:]) > until)
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    config = "\n".join(
        line
        for line in (run_dir / "config.toml").read_text().splitlines()
        if not line.startswith(("cache =", "paths =", "val_paths ="))
    )
    return {
        "plant": asdict(p), "config": config, "data": data, "events": events,
        "evals": base64.b64encode(buffer.getvalue()).decode(),
    }  # fmt: skip


def of_itself(stop: dict[str, Any]) -> bool:
    """Whether a run ended by its own: finished, or its losses were lost. An error of the engine is no end."""
    return stop.get("reason") == "finished" or (stop.get("reason") == "failed" and "finite" in str(stop.get("text")))


def unpack(line: dict[str, Any], folder: Path) -> Path:
    """A run directory as the engine leaves it."""
    run_dir = folder / line["plant"]["name"]
    (run_dir / "evals").mkdir(parents=True)
    (run_dir / "config.toml").write_text(line["config"])
    (run_dir / "data.json").write_text(json.dumps(line["data"]))
    (run_dir / "events.jsonl").write_text("".join(json.dumps({"time": 0.0, **e}) + "\n" for e in line["events"]))
    with np.load(io.BytesIO(base64.b64decode(line["evals"]))) as arrays:
        for key in arrays.files:
            np.save(run_dir / "evals" / f"{key}.npy", arrays[key])
    return run_dir


def _short(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value
