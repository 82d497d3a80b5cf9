"""The logs, recorded once: a line a run, with its plant, the log as it was printed, the held-out losses that it holds
(for the labels alone), and what its owner knows of the data."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.benchmarks.planted import record
from tests.benchmarks.planted.others import plan
from tests.benchmarks.planted.plan import Plant

RECORDED = record.RECORDED
DOCUMENT_SD = 0.45  # nats: spread of a document's loss
_EVAL = re.compile(r"step (\d+): train loss \S+, val loss (\S+)")
_STEP = re.compile(r"(?:step|iter) (\d+):")


def read(out: Path = RECORDED) -> dict[str, dict[str, Any]]:
    """Name → recorded run."""
    return {line["plant"]["name"]: line for line in record.read(out, plan.SUBSET)}


def names(out: Path) -> set[str]:
    """Runs that are recorded already."""
    return set(read(out))


def write(runs: Path, out: Path) -> None:
    """Record every ended run below ``runs``, beside what ``out`` holds already."""
    lines = read(out)
    for p in plan.all_plants():
        folder = runs / (p.of or p.name)
        if p.name not in lines and (folder / "done").is_file():
            lines[p.name] = line(p, folder)
    record.save(plan.SUBSET, list(lines.values()), out)
    print(f"{len(lines)} runs of {plan.SUBSET} recorded in {out}", flush=True)


def line(p: Plant, folder: Path) -> dict[str, Any]:
    """One run as it is kept."""
    told = json.loads((folder / "told.json").read_text())
    if p.base == "hf":
        told |= _known(plan.options(p))
        log = _cut_state((folder / "trainer_state.json").read_text(), p.cut)
        evals = [(e["step"], e["eval_loss"]) for e in json.loads(log)["log_history"] if "eval_loss" in e]
    else:
        log = _cut((folder / "log").read_text(), p.cut)
        evals = [(int(m[1]), float(m[2])) for m in _EVAL.finditer(log)]
    error = DOCUMENT_SD / max(1, told["val_documents"]) ** 0.5
    events = [{"event": "eval", "split": "heldout", "step": s, "loss": v if v == v else None, "se": error}
              for s, v in evals]  # fmt: skip
    return {"plant": asdict(p), "log": log, "told": told, "events": events}


def _known(options: dict[str, Any]) -> dict[str, Any]:
    """What a person knows of a Trainer's run, and its state does not say."""
    width, layers, rows = options["n_embd"], options["n_layer"], plan.ENCODINGS["hf"][1]
    batch = options["per_device_train_batch_size"] * options.get("gradient_accumulation_steps", 1)
    return {
        "parameters": rows * width + 12 * layers * width * width, "vocab_size": rows,
        "tokens_per_step": batch * options["n_positions"], "block_size": options["n_positions"],
        "dropout": options["dropout"], "grad_clip": options["max_grad_norm"], "optimizer": "adamw",
        "weight_decay": options["weight_decay"],
    }  # fmt: skip


def _cut(log: str, share: float) -> str:
    """The log up to that share of its steps, without the path of its data."""
    lines = [v for v in log.splitlines() if not v.startswith(("Overriding: dataset", "Overriding: out_dir"))]
    if share < 1:
        last = max(int(m[1]) for m in map(_STEP.match, lines) if m)
        lines = [v for v in lines if not ((m := _STEP.match(v)) and int(m[1]) > share * last)]
    return "\n".join(lines) + "\n"


def _cut_state(text: str, share: float) -> str:
    state = json.loads(text)
    if share < 1:
        last = int(share * state["global_step"])
        state["log_history"] = [e for e in state["log_history"] if e["step"] <= last]
        state["global_step"] = last
    for entry in state["log_history"]:
        for key in [k for k in entry if k.endswith(("_runtime", "_per_second", "flos"))]:
            del entry[key]
    return json.dumps(state)


def merge(source: Path, out: Path = RECORDED) -> None:
    """Add the runs recorded in ``source``; what ``out`` holds already stays as it is."""
    lines = read(out)
    new = [v for name, v in read(source).items() if name not in lines]
    record.save(plan.SUBSET, [*lines.values(), *new], out)
    print(f"{len(new)} runs added to {len(lines)}")


def kept(split: str, out: Path = RECORDED) -> Iterator[dict[str, Any]]:
    """The runs of a split."""
    yield from (v for v in read(out).values() if v["plant"]["split"] == split)
