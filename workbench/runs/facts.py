"""What is known of a run, each fact with where it comes from. What nobody said stays unknown: it is never guessed.

A native run's facts come from its ``config.toml``, its ``start`` event and ``data.json``; an imported run's from
``facts.toml``; a foreign log's from its own lines and from ``LOG.facts.toml`` beside it. A person may add or correct
any of them (``--fact key=value``). The *name* of a run or a file is never a fact.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data import bounded
from engine import config
from engine.events import number
from workbench.errors import UserError
from workbench.runs.history import History

FILE_NAME = "facts.toml"

KEYS: dict[str, tuple[type, str]] = {
    "parameters": (int, "trainable parameters, position embeddings left out"),
    "architecture": (str, "gpt2, or modern: rotary positions, RMSNorm, a gated or squared feed-forward part"),
    "n_layer": (int, "transformer blocks"),
    "n_head": (int, "attention heads"),
    "n_embd": (int, "width of the residual stream"),
    "block_size": (int, "context length in tokens"),
    "vocab_size": (int, "rows of the embedding"),
    "micro_batch": (int, "sequences per forward pass"),
    "grad_accum": (int, "micro-batches per optimiser step"),
    "tokens_per_step": (int, "tokens one optimiser step trains on"),
    "tokens_seen": (int, "tokens trained on so far"),
    "train_tokens": (int, "tokens of the training data, copies included"),
    "unique_tokens": (int, "tokens of the training data, exact copies counted once"),
    "effective_unique_tokens": (int, "unique tokens, near copies discounted"),
    "epochs": (float, "passes over the unique tokens so far"),
    "duplicate_fraction": (float, "share of the training tokens that are exact copies"),
    "distinct_pairs": (float, "distinct pairs of neighbouring words, as a share of those of shuffled documents"),
    "sampling": (str, "how windows are drawn: without_replacement or with_replacement"),
    "schedule": (str, "shape of the learning rate: cosine, linear, wsd or constant"),
    "lr": (float, "peak learning rate"),
    "min_lr": (float, "learning rate at the end of the decay"),
    "warmup_steps": (int, "steps of warm-up"),
    "decay_steps": (int, "step at which the decay ends"),
    "cooldown_steps": (int, "last steps that cool down (wsd)"),
    "cooldown_shape": (str, "shape of the wsd cooldown: linear or 1-sqrt"),
    "max_steps": (int, "planned optimiser steps"),
    "optimizer": (str, "optimiser"),
    "dropout": (float, "dropout probability while training"),
    "weight_decay": (float, "decoupled weight decay"),
    "grad_clip": (float, "gradient-norm clip; 0: off"),
    "val_tokens": (int, "tokens of one held-out evaluation"),
    "val_documents": (int, "documents of one held-out evaluation"),
    "val_leaked": (int, "held-out documents that also stand in the training data"),
    "eval_windows": (str, "what an evaluation reads: fixed (always the same windows) or redrawn"),
    "train_eval_dropout": (bool, "whether the train loss beside the held-out one is measured with dropout on"),
    "encoding": (str, "tokenizer"),
    "step_seconds": (float, "median time of a step"),
    "devices": (int, "accelerators the run uses"),
    "device_name": (str, "what it runs on"),
}  # fmt: skip

_CHOICES = {
    "sampling": ("without_replacement", "with_replacement"),
    "schedule": ("cosine", "linear", "wsd", "constant"),
    "cooldown_shape": ("linear", "1-sqrt"),
    "eval_windows": ("fixed", "redrawn"),
    "architecture": ("gpt2", "modern"),
}
_ALIASES = {
    "learning_rate": "lr", "max_iters": "max_steps", "warmup_iters": "warmup_steps", "lr_decay_iters": "decay_steps",
    "tokens": "tokens_seen", "params": "parameters", "n_params": "parameters", "batch_tokens": "tokens_per_step",
    "clip": "grad_clip", "width": "n_embd", "depth": "n_layer", "context": "block_size", "tokenizer": "encoding",
    "optim": "optimizer", "lr_schedule": "schedule", "wd": "weight_decay",
}  # fmt: skip
_ABOVE_ZERO = {
    "parameters", "n_layer", "n_head", "n_embd", "block_size", "vocab_size", "micro_batch", "grad_accum",
    "tokens_per_step", "train_tokens", "unique_tokens", "effective_unique_tokens", "lr", "max_steps", "val_tokens",
    "val_documents", "devices", "decay_steps",
}  # fmt: skip
_SUFFIX = {"k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}


@dataclass(frozen=True)
class Fact:
    """A value and where it comes from (``"config.toml"``, ``"log line 12"``, ``"given by --fact"``)."""

    value: Any
    source: str

    def to_dict(self) -> dict[str, Any]:
        return {"value": self.value, "source": self.source}


class Facts(Mapping[str, Fact | None]):
    """All known keys; each maps to a ``Fact``, or to None where nobody said it."""

    def __init__(self, known: Mapping[str, Fact] | None = None) -> None:
        self._known: dict[str, Fact] = {}
        for key, fact in (known or {}).items():
            self.put(key, fact.value, fact.source)

    def __getitem__(self, key: str) -> Fact | None:
        if key not in KEYS:
            raise KeyError(key)
        return self._known.get(key)

    def __iter__(self) -> Iterator[str]:
        return iter(KEYS)

    def __len__(self) -> int:
        return len(KEYS)

    def put(self, key: str, value: Any, source: str) -> None:
        """State a fact, in place of an earlier one. None takes it back. Raises UserError for an impossible value."""
        if value is None:
            self._known.pop(key, None)
        else:
            self._known[key] = Fact(_typed(key, value, source), source)

    def default(self, key: str, value: Any, source: str) -> None:
        """State a fact only where none is known."""
        if value is not None and key not in self._known:
            self.put(key, value, source)

    def number(self, key: str) -> float | None:
        """A numeric fact as a float, or None."""
        fact = self[key]
        return None if fact is None or isinstance(fact.value, (str, bool)) else float(fact.value)

    def text(self, key: str) -> str | None:
        """A textual fact, or None."""
        fact = self[key]
        return fact.value if fact is not None and isinstance(fact.value, str) else None

    def source(self, key: str) -> str:
        """Where a fact comes from, "" where it is unknown."""
        fact = self[key]
        return "" if fact is None else fact.source

    def copy(self) -> Facts:
        return Facts(self._known)

    def to_dict(self) -> dict[str, dict[str, Any] | None]:
        """Every key, unknown ones as None: the ``facts`` of ``explain --json``."""
        return {key: fact.to_dict() if fact else None for key, fact in self.items()}

    def to_toml(self, log: Mapping[str, Any] | None = None) -> str:
        """``facts.toml``: one table a fact, and where the log lies."""
        lines: list[str] = []
        if log:
            lines += ["[log]", *(f"{k} = {_toml(v)}" for k, v in log.items()), ""]
        for key, fact in self._known.items():
            lines += [f"[facts.{key}]", f"value = {_toml(fact.value)}", f"source = {_toml(fact.source)}", ""]
        return "\n".join(lines)


def parse_fact(text: str, source: str = "given by --fact") -> tuple[str, Fact]:
    """``"lr=1e-3"`` → ``("lr", Fact(0.001, …))``; counts may carry k, M, B or T (``unique_tokens=0.75B``).

    Raises:
        UserError: no ``=``, an unknown key (the nearest known one is named), or a value of the wrong kind.
    """
    key, equals, raw = text.partition("=")
    key, raw = key.strip(), raw.strip()
    if not equals or not key:
        raise UserError(f"--fact {text!r}: write it as key=value, for example --fact parameters=124e6", 2)
    _check_key(key, f"--fact {text!r}")
    return key, Fact(_typed(key, _parse_value(raw), f"--fact {text!r}"), source)


def read_toml(path: Path, source: str | None = None) -> tuple[dict[str, Fact], dict[str, Any]]:
    """Facts of a TOML file, and its ``[log]`` table.

    Either plain ``key = value`` lines (``LOG.facts.toml``, written by a person) or ``[facts.key]`` tables with
    ``value`` and ``source`` (``facts.toml`` of an imported run).

    Raises:
        UserError: unreadable, not TOML, an unknown key, or a value of the wrong kind.
    """
    try:
        tree = bounded.read_toml(path)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as facts: {error}") from None
    except ValueError as error:
        raise UserError(f"{path}: not valid TOML: {error}") from None
    log = tree.pop("log", {})
    nested = tree.pop("facts", {})
    entries = {**tree, **(nested if isinstance(nested, dict) else {})}
    facts: dict[str, Fact] = {}
    for key, value in entries.items():
        _check_key(key, str(path))
        where = source or path.name
        if isinstance(value, dict):
            where = str(value.get("source", where))
            value = value.get("value")
        if value is not None:
            facts[key] = Fact(_typed(key, value, str(path)), where)
    return facts, log if isinstance(log, dict) else {}


def facts_of_run(run_dir: str | Path, history: History) -> Facts:
    """All that a run directory says of its run, native or imported; derived facts are marked as such.

    Raises:
        UserError: a ``facts.toml`` that cannot be read. A ``config.toml`` or ``data.json`` that cannot is left out.
    """
    run_dir = Path(run_dir)
    facts = Facts()
    if (run_dir / FILE_NAME).is_file():
        known, _ = read_toml(run_dir / FILE_NAME)
        # What was derived when the log was imported is derived anew: the log may have grown.
        facts = Facts({key: fact for key, fact in known.items() if not fact.source.startswith("derived")})
    if (run_dir / "config.toml").is_file():
        with contextlib.suppress(config.ConfigError):  # a run of another version: its events still speak
            _from_config(facts, config.load(run_dir / "config.toml"))
    _from_data(facts, run_dir / "data.json")
    derive(facts, history)
    return facts


def facts_of_log(known: Mapping[str, Fact], history: History) -> Facts:
    """Facts of a foreign log: what its lines said, and what follows from them."""
    facts = Facts(known)
    derive(facts, history)
    return facts


def override(facts: Facts, given: Iterable[tuple[str, Fact]], history: History) -> Facts:
    """A copy with a person's facts in place of those known, and what is derived computed anew."""
    result = Facts({k: f for k, f in facts.items() if f is not None and not f.source.startswith("derived")})
    for key, fact in given:
        result.put(key, fact.value, fact.source)
    derive(result, history)
    return result


def derive(facts: Facts, history: History) -> None:
    """Add what follows from the events and from other facts; each says how it was derived."""
    start = history.start
    for key in ("parameters", "tokens_per_step", "max_steps", "cooldown_steps"):
        value = number(start, key)
        if math.isfinite(value) and value > 0:
            facts.default(key, value, "start event")
    if (processes := number(start, "processes")) >= 1:
        facts.default("devices", processes, "start event")
    if isinstance(start.get("device_name"), str):
        facts.default("device_name", start["device_name"], "start event")

    n = facts.number
    if (b := n("micro_batch")) and (a := n("grad_accum")) and (t := n("block_size")):
        facts.default("tokens_per_step", a * b * t, "derived: micro_batch × grad_accum × block_size")
    if history.step > 0:
        tokens = history.steps.last("tokens")
        if math.isfinite(tokens) and history.steps.last("step") >= history.step:
            facts.default("tokens_seen", tokens, "derived: newest step event")
        elif per_step := n("tokens_per_step"):
            facts.default("tokens_seen", per_step * history.step, "derived: tokens_per_step × step")
        elif math.isfinite(tokens) and (last := history.steps.last("step")) > 0.9 * history.step:
            facts.default("tokens_seen", tokens * history.step / last, f"derived: step event {last:.0f}")
    if (u := n("unique_tokens")) and (total := n("train_tokens")) and total >= u:
        facts.default("duplicate_fraction", 1 - u / total, "derived: 1 − unique_tokens / train_tokens")
    if (seen := n("tokens_seen")) is not None and (u := n("unique_tokens")):
        facts.default("epochs", seen / u, "derived: tokens_seen / unique_tokens")
    if len(history.steps):
        times = history.steps["step_time"]
        times = times[times > 0]
        if len(times):
            ordered = sorted(times[-500:].tolist())
            facts.default("step_seconds", ordered[len(ordered) // 2], "derived: median of the steps' times")
    if len(history.val):
        for key, column in (("val_documents", "documents"), ("val_tokens", "tokens")):
            value = history.val.last(column)
            if math.isfinite(value) and value > 0:
                facts.default(key, value, "eval events")


def _from_config(facts: Facts, c: config.Config) -> None:
    values: dict[str, Any] = {
        "n_layer": c.model.n_layer, "n_head": c.model.n_head, "n_embd": c.model.n_embd,
        "block_size": c.model.block_size, "vocab_size": c.model.vocab_size, "dropout": c.model.dropout,
        "micro_batch": c.train.micro_batch, "grad_accum": c.train.grad_accum, "tokens_per_step": c.tokens_per_step,
        "schedule": c.schedule.kind, "lr": c.optim.lr, "warmup_steps": c.schedule.warmup_steps,
        "weight_decay": c.optim.weight_decay, "grad_clip": c.optim.grad_clip, "optimizer": c.optim.kind,
        "encoding": c.data.encoding, "architecture": c.model.family,
    }  # fmt: skip
    if c.schedule.kind != "constant":
        values["min_lr"] = c.schedule.min_lr
    if c.schedule.kind == "wsd":
        values["cooldown_shape"] = c.schedule.cooldown_shape
        if c.train.epochs is None or c.schedule.cooldown_steps is not None:  # else the start event says them
            values["cooldown_steps"] = c.cooldown_steps
    if c.train.epochs is None:  # else the start event says the steps
        values["max_steps"] = c.train.max_steps
    if c.schedule.decay_steps is not None and c.schedule.kind != "constant":
        values["decay_steps"] = c.schedule.decay_steps
    for key, value in values.items():
        facts.default(key, value, "config.toml")
    facts.default("sampling", "without_replacement", "the engine shuffles each epoch")
    facts.default("eval_windows", "fixed", "the engine evaluates fixed documents")
    facts.default("train_eval_dropout", False, "the engine evaluates seen documents with dropout off")


def _from_data(facts: Facts, path: Path) -> None:
    try:
        data = bounded.read_json(path)
    except (OSError, ValueError):
        return
    if not isinstance(data, dict):
        return
    for key, name in (("train_tokens", "tokens"), ("unique_tokens", "unique_tokens")):
        value = number(data, name)
        if value > 0:
            facts.default(key, value, "data.json")
    if (pairs := number(data, "distinct_pairs")) > 0:
        facts.default("distinct_pairs", pairs, "data.json")
    effective = data.get("effective_unique_tokens")
    if isinstance(effective, dict) and number(effective, "mid") > 0:
        low, high = number(effective, "low"), number(effective, "high")
        facts.default("effective_unique_tokens", effective["mid"], f"data.json (between {low:.3g} and {high:.3g})")
    held_out = data.get("held_out")
    if isinstance(held_out, dict) and math.isfinite(number(held_out, "leaked_documents")):
        facts.default("val_leaked", number(held_out, "leaked_documents"), "data.json")


def _check_key(key: str, where: str) -> None:
    if key in KEYS:
        return
    near = config.suggest(key.lower(), [*KEYS, *_ALIASES])
    near = _ALIASES.get(near, near)
    hint = f"did you mean {near}?" if near else f"known: {', '.join(KEYS)}"
    raise UserError(f"unknown fact {key!r} in {where}; {hint}", 2)


def _parse_value(raw: str) -> Any:
    if match := re.fullmatch(r"([0-9][0-9_.]*(?:[eE][+-]?[0-9]+)?)\s*([kKmMbBtT])", raw):
        try:
            return float(match[1].replace("_", "")) * _SUFFIX[match[2].lower()]
        except ValueError:
            return raw
    if raw in ("true", "True", "yes"):
        return True
    if raw in ("false", "False", "no"):
        return False
    try:
        return float(raw.replace("_", "").replace(",", ""))
    except ValueError:
        return raw.strip("\"'")


def _typed(key: str, value: Any, where: str) -> Any:
    """``value`` as its key's type. Raises UserError where it is none."""
    kind, meaning = KEYS[key]
    if kind is str and isinstance(value, str):
        choices = _CHOICES.get(key, ())
        if choices and value not in choices:
            raise UserError(f"{where}: {key} must be one of {', '.join(choices)}, not {value!r}", 2)
        return value
    if kind is bool and isinstance(value, bool):
        return value
    if kind in (int, float) and isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            result = float(value)
        except OverflowError:
            result = math.inf
        if math.isfinite(result) and result >= 0 and not (key in _ABOVE_ZERO and result == 0):
            return round(result) if kind is int else result
    what = {str: "text", bool: "true or false", int: "a count", float: "a number"}[kind]
    raise UserError(f"{where}: {key} ({meaning}) must be {what}, not {value!r}", 2)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)
