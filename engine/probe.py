"""A probe: the short experiment that settles why a run is flat. The workbench plans it, this carries it out.

``RUN_DIR/probes/<cause>/plan.json`` names arms, short runs that branch off one checkpoint (``probes/arms/<arm>``, made
beforehand), or a measurement of checkpoints that is written to ``measured.json`` beside the plan. A stop leaves what is
done; the next call goes on from there.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from data.bounded import read_json
from engine import checkpoint, config, evaluate, prepare, run
from engine import device as device_module
from engine.corpus import Documents, Ints, positions
from engine.errors import RunError
from engine.events import EventReader
from engine.model import GPT
from engine.order import Source, TokenStream
from engine.record import Past
from engine.signals import Signals

FOLDER, PLAN, MEASURED = "probes", "plan.json", "measured.json"
OVERFIT_RATE, OVERFIT_WARMUP = 1e-3, 10  # of the single batch: AdamW's, whatever the run's own is


def main(run_dir: Path, cause: str, signals: Signals, began: float) -> int:
    """``python -P -m engine probe``: carry out the plan. Returns 0 done or stopped, 1 failed (one line on stderr).

    Raises:
        RunError: no plan, another process is at it, or a measurement that cannot be made.
        data.packed.Cancelled: asked to stop while shards were packed.
    """
    folder = run_dir / FOLDER
    plan = _read(folder / cause / PLAN)
    with run.owned(folder):
        for arm in plan["arms"]:
            where = folder / "arms" / str(arm["name"])
            if not (Past(where).finished or _diverged(where)):
                print(f"arm {arm['name']}", flush=True)
                code = run.train(where, signals, began, once=bool(arm.get("unique")))
                if signals.stop:
                    return 0
                if code and not _diverged(where):
                    return code
                gc.collect()
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
            for path in checkpoint.complete(where):  # its losses are what was wanted
                checkpoint.discard(path)
        if plan["measure"] is not None and not (folder / cause / MEASURED).exists():
            found = _measure(run_dir, plan["measure"], signals.stopping)
            if found is None:
                return 0
            path = folder / cause / MEASURED
            temporary = path.with_name(f".{path.name}")
            temporary.write_text(json.dumps(found))
            temporary.replace(path)
    print("done", flush=True)
    return 0


def _diverged(where: Path) -> bool:
    """Whether an arm ended because its loss was no number: an answer, and no failure."""
    text = ""
    for event in EventReader(where).read():
        text = str(event.get("text")) if event["event"] == "stop" else ""
    return "not finite" in text


def _read(path: Path) -> dict[str, Any]:
    try:
        plan = read_json(path)
        return {"arms": list(plan["arms"]), "measure": plan["measure"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path}: no plan of a probe ({error}); gptbench probe makes one") from None


def _measure(run_dir: Path, wanted: dict[str, Any], stopping: Callable[[], bool]) -> dict[str, Any] | None:
    """What ``wanted`` asks: losses of document sets at each of ``steps``, and a single batch overfitted."""
    c = config.load(run_dir / "config.toml")
    device = device_module.choose(dataclasses.replace(c.train, compile="off"))
    data = prepare.prepare(c, run_dir, cancelled=stopping)
    parts = data.settled(stopping)
    begin = time.perf_counter()
    steps = [int(step) for step in wanted["steps"]]
    newest = checkpoint.read_state(checkpoint.find(run_dir, str(max(steps))))
    chosen = document_sets(parts, c, newest, int(wanted["documents"]), list(wanted["sets"]), data.feed)
    sets = {
        name: evaluate.build(
            name, documents, block=c.model.block_size, cap=c.eval.document_tokens, eot=data.eot, byte_lengths=None
        )
        for name, documents in chosen.items() if len(documents)
    }  # fmt: skip
    answer: dict[str, Any] = {"sets": {name: len(documents) for name, documents in chosen.items()}, "losses": []}
    tokens = 0
    for step in sorted(steps):
        _, weights = checkpoint.load_model(checkpoint.find(run_dir, str(step)))
        model = GPT(c.model, data.eot)
        model.load_state_dict(weights)
        model.to(device.device).eval()
        for name, windows in sets.items():
            result = evaluate.evaluate(
                model, windows, batch=c.train.micro_batch, device=device.device, autocast=device.autocast,
                cancelled=stopping,
            )  # fmt: skip
            if result is None:
                return None
            counts = windows.document_tokens
            tokens += int(counts.sum())
            answer["losses"].append(
                {"step": step, "set": name, "losses": result.losses.tolist(), "tokens": counts.tolist()}
            )
            print(f"step {step}: {name} loss {result.loss:.4f} ± {result.se:.4f}", flush=True)
    answer["forward_tokens"], answer["trained_tokens"] = tokens, 0
    if count := int(wanted.get("overfit", 0)):
        stream = TokenStream(data.source, c.train.seed)
        pair = torch.from_numpy(stream.batch(0, c.train.micro_batch, c.model.block_size)).to(device.device)
        fallen = overfit(model, pair[0], pair[1], count, device, stopping)
        if fallen is None:
            return None
        answer |= fallen
        answer["trained_tokens"] = count * pair[0].numel()
    answer["seconds"] = time.perf_counter() - begin
    return answer


def overfit(
    model: GPT,
    tokens: torch.Tensor,
    targets: torch.Tensor,
    steps: int,
    device: device_module.Device,
    stopping: Callable[[], bool],
) -> dict[str, Any] | None:
    """Loss of one batch [B, T] as it alone is trained on, dropout off; and tensors whose first gradient is nothing.

    A fresh AdamW at a rate of its own: what is asked is whether anything can be learnt, not how the run learns.
    """
    optimiser = torch.optim.AdamW(model.parameters(), lr=OVERFIT_RATE, betas=(0.9, 0.95), weight_decay=0.0)
    losses: list[float] = []
    dead = 0
    for step in range(steps):
        if stopping():
            return None
        with device.autocast():
            loss = model(tokens, targets)
        loss.backward()
        if not step:
            norms = [float(p.grad.norm()) if p.grad is not None else 0.0 for p in model.parameters()]
            dead = sum(not 1e-12 < norm < float("inf") for norm in norms)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimiser.param_groups:
            group["lr"] = OVERFIT_RATE * min(1.0, (step + 1) / OVERFIT_WARMUP)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
    return {"overfit": losses, "dead_tensors": dead, "tensors": len(list(model.parameters()))}


class Scrambled(Documents):
    """Documents whose tokens are in random order (always the same one); the separator stays last."""

    def read(self, document: int, begin: int = 0, end: int | None = None) -> npt.NDArray[Any]:
        whole = Documents.read(self, document)
        order = np.random.default_rng([document, len(whole)]).permutation(len(whole) - 1)
        mixed = np.concatenate([whole[:-1][order], whole[-1:]])
        return mixed[begin:end]


def document_sets(
    parts: Any, c: config.Config, state: dict[str, Any], count: int, names: list[str], source: Source | None = None
) -> dict[str, Documents]:
    """The named sets of at most ``count`` documents each.

    ``own``: what the run itself evaluates. ``heldout``: held-out documents, ``more``: those behind ``own`` (and, where
    they come from the same shards, training documents not read yet). ``seen``, ``unread``: training documents that were
    trained on whole, or not at all. ``leaked``, ``clean``: held-out documents with and without an exact copy among the
    training documents. ``scrambled``: as ``heldout``, the tokens in random order.
    """
    held: Documents = parts.held_out_unique
    seen, unread = read_and_unread(parts.train, c, state, source)
    found: dict[str, Documents] = {}
    for name in names:
        if name == "own":
            some = held.first(c.eval.documents)
        elif name == "more":
            some = held.take(np.arange(min(c.eval.documents, len(held)), len(held))).first(count)
        elif name == "seen":
            known = parts.train.take(seen)
            some = evaluate.sample(known, count, c.train.seed)
        elif name == "unread":
            some = evaluate.sample(parts.train.take(unread), count, c.train.seed)
        elif name in ("leaked", "clean"):
            trained = set(map(bytes, np.ascontiguousarray(parts.unique.hashes)))
            copied = np.array([bytes(h) in trained for h in np.ascontiguousarray(held.hashes)], bool)
            some = held.take(copied if name == "leaked" else ~copied).first(count)
        else:
            some = held.first(count)
            if name == "scrambled":
                some = Scrambled(**{f.name: getattr(some, f.name) for f in dataclasses.fields(Documents)})
        found[name] = some
    return found


def read_and_unread(
    train: Documents, c: config.Config, state: dict[str, Any], source: Source | None = None
) -> tuple[Ints, Ints]:
    """Documents of the stream that were trained on whole by a checkpoint, and those not at all.

    Behind the first epoch every one was read. A branch's stream tells nothing of what was read before it: none counts
    as unread there. ``source`` is what the stream was made of, where that was not ``train`` as a whole.
    """
    position, block = int(state["position"]), c.model.block_size
    everything = np.arange(len(train))
    if position >= train.total or state.get("origin", [0, 0])[0]:
        return everything, everything[:0]
    stream = TokenStream(train if source is None else source, c.train.seed)
    trained = np.zeros(-(-train.total // block) + 1, np.int64)
    segments = [stream.segment(number) for number in range(stream.source.windows)]
    for s in segments:
        first, end = stream.sequences(s, block)
        done = max(0, min(position // block, end) - first)
        trained[first + stream.shuffled(s, block)[:done] + 1] = 1
    before = np.cumsum(trained)  # windows trained before each
    where = np.concatenate([positions(train, s.documents)[s.order] for s in segments])
    starts = np.concatenate([s.begin + s.starts[:-1] for s in segments])
    ends = np.concatenate([s.begin + s.starts[1:] for s in segments])
    begins, lasts = starts // block, (ends - 1) // block
    inside = before[lasts + 1] - before[begins]
    return where[inside == lasts - begins + 1], where[inside == 0]
