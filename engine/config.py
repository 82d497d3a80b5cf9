"""The configuration of a run: typed sections, presets, TOML in and out.

Precedence: preset < ``--config FILE`` < ``--set key=value`` (the last one wins). Torch-free.
Each field carries its one-line help, which the Launch screen and ``gptbench train --help`` show.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class ConfigError(ValueError):
    """A configuration that cannot be run: one line that says what, where and what to do."""


def _f(default: Any, help: str, choices: tuple[str, ...] = ()) -> Any:
    metadata = {"help": help, "choices": choices}
    if isinstance(default, tuple):
        return field(default=default, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Model:
    """Shape of the network. Everything that decides parameters and FLOPs stands here."""

    preset: str = _f("gpt2-124m", "named shape that fills in this section")
    family: str = _f(
        "gpt2", "architecture; it decides what the fields below are where nothing sets them", ("gpt2", "modern")
    )
    n_layer: int = _f(12, "transformer blocks")
    n_head: int = _f(12, "attention heads")
    n_kv_head: int = _f(0, "heads of keys and values (grouped-query attention); 0: as many as n_head")
    n_embd: int = _f(768, "width of the residual stream")
    block_size: int = _f(1024, "context length in tokens")
    vocab_size: int = _f(50304, "rows of the embedding; at least the encoding's vocabulary")
    positions: str = _f("learned", "how positions enter", ("learned", "rotary", "alibi"))
    norm: str = _f("layernorm", "normalisation", ("layernorm", "rmsnorm"))
    mlp: str = _f("gelu", "feed-forward layer", ("gelu", "relu2", "swiglu"))
    tied: bool = _f(True, "the head shares the embedding's weights")
    bias: bool = _f(False, "biases in linear layers and layer norms")
    dropout: float = _f(0.0, "dropout probability while training")
    window: int = _f(0, "tokens that local layers look back (every fourth, and the last, sees all); 0: all see all")
    softcap: float = _f(0.0, "logits are bent below this by tanh; 0: off")
    qk_norm: bool = _f(False, "queries and keys are normalised in each head")
    zero_init: bool = _f(False, "projections back into the residual stream, and an untied head, begin at zero")
    rope_base: float = _f(10000.0, "base of the rotary frequencies")


@dataclass(frozen=True)
class Data:
    """What the run trains on."""

    paths: tuple[str, ...] = _f((), "parquet files, folders, globs or pack folders")
    val_paths: tuple[str, ...] = _f((), "held-out shards; empty: a fraction of the training documents is held out")
    val_fraction: float = _f(0.01, "fraction of documents held out where val_paths is empty")
    encoding: str = _f("gpt2", "tiktoken encoding")
    column: str = _f("text", "column that holds the documents")
    cache: str = _f("", "folder of packed shards; empty: $GPTBENCH_CACHE or the user's cache folder")
    recipe: str = _f("", "recipe (TOML) that chooses documents; resolved to rows before the launch")


@dataclass(frozen=True)
class Optim:
    """The optimiser."""

    kind: str = _f("adamw", "optimiser; muon is for the blocks' matrices, with AdamW for the rest", ("adamw", "muon"))
    lr: float = _f(6e-4, "peak learning rate of the matrices")
    embed_scale: float = _f(1.0, "the embeddings' learning rate, in units of lr")
    head_scale: float = _f(1.0, "an untied head's learning rate, in units of lr")
    scalar_scale: float = _f(1.0, "the norms' and biases' learning rate, in units of lr")
    weight_decay: float = _f(0.1, "decoupled weight decay, on matrices only")
    betas: tuple[float, ...] = _f((0.9, 0.95), "AdamW's beta1 and beta2")
    momentum: float = _f(0.95, "Muon's momentum")
    grad_clip: float = _f(1.0, "clip the gradient's norm to this; 0: off")


@dataclass(frozen=True)
class Schedule:
    """The learning rate over the run."""

    kind: str = _f("cosine", "shape after the warm-up", ("cosine", "linear", "wsd", "constant"))
    warmup_steps: int = _f(200, "steps of linear warm-up from 0")
    min_lr: float = _f(6e-5, "learning rate at the end of the decay (cosine, linear, wsd)")
    decay_steps: int | None = _f(None, "step at which the decay ends; null: train.max_steps")
    cooldown_steps: int = _f(0, "last steps that cool down (wsd)")
    cooldown_shape: str = _f("1-sqrt", "shape of the wsd cooldown", ("linear", "1-sqrt"))


@dataclass(frozen=True)
class Train:
    """The loop."""

    max_steps: int = _f(2000, "optimiser steps; ignored where train.epochs is set")
    epochs: float | None = _f(None, "passes over the training tokens, in place of max_steps")
    micro_batch: int = _f(16, "sequences per forward pass on one device")
    grad_accum: int = _f(1, "micro-batches per optimiser step, over all ranks")
    seed: int = _f(1337, "seed of initialisation, dropout and document order")
    device: str = _f("auto", "cuda, mps, cpu or auto")
    dtype: str = _f("auto", "bfloat16, float32 or auto (bfloat16 on CUDA)", ("auto", "bfloat16", "float32"))
    compile: str = _f("auto", "torch.compile: on, off or auto (on for CUDA)", ("auto", "on", "off"))
    checkpoint_every: int = _f(500, "steps between checkpoints; 0: only at the end and at a stop")
    keep_checkpoints: int = _f(3, "newest checkpoints kept; 0: all")
    keep_best: bool = _f(True, "also keep the checkpoint with the lowest held-out loss")
    init_from: str | None = _f(None, "checkpoint folder whose weights the run starts from")
    branched_from: str | None = _f(None, "checkpoint that the run was branched off; gptbench branch writes it")
    processes: int = _f(1, "processes on this machine that train together, one a GPU; more nodes: torchrun or Slurm")
    parallel: str = _f(
        "auto", "how processes share a model: copies (ddp), shards (fsdp), auto", ("auto", "ddp", "fsdp")
    )


@dataclass(frozen=True)
class Eval:
    """Evaluation, dropout off, always on the same windows."""

    every: int = _f(100, "steps between evaluations; 0: only at the end")
    documents: int = _f(400, "held-out documents evaluated, at most")
    seen: int = _f(200, "training documents evaluated beside them, at most; 0: off")
    document_tokens: int = _f(4096, "tokens evaluated of one document, at most")


@dataclass(frozen=True)
class Config:
    """A whole run. ``resolve`` builds it; ``to_toml`` writes what ``resolve`` reads back unchanged."""

    model: Model = field(default_factory=Model)
    data: Data = field(default_factory=Data)
    optim: Optim = field(default_factory=Optim)
    schedule: Schedule = field(default_factory=Schedule)
    train: Train = field(default_factory=Train)
    eval: Eval = field(default_factory=Eval)

    @property
    def tokens_per_step(self) -> int:
        """Tokens that one optimiser step trains on, over all ranks."""
        return self.model.block_size * self.train.micro_batch * self.train.grad_accum

    @property
    def decay_steps(self) -> int:
        """Step at which the learning rate's decay ends."""
        return self.train.max_steps if self.schedule.decay_steps is None else self.schedule.decay_steps

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Sections as plain dictionaries, tuples as lists."""
        return {
            name: {k: list(v) if isinstance(v, tuple) else v for k, v in section.items()}
            for name, section in dataclasses.asdict(self).items()
        }

    def to_toml(self) -> str:
        """TOML text; null fields are left out, since TOML has no null."""
        lines: list[str] = []
        for name, section in self.to_dict().items():
            lines.append(f"[{name}]")
            lines += [f"{key} = {_toml_value(value)}" for key, value in section.items() if value is not None]
            lines.append("")
        return "\n".join(lines)

    def replace(self, **sections: Mapping[str, Any]) -> Config:
        """A copy with fields of some sections changed: ``config.replace(train={"max_steps": 10})``."""
        return dataclasses.replace(
            self, **{name: dataclasses.replace(getattr(self, name), **changes) for name, changes in sections.items()}
        )


SECTIONS: dict[str, type] = {f.name: typing.get_type_hints(Config)[f.name] for f in dataclasses.fields(Config)}

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    # n_head * 64 = n_embd throughout, as in GPT-2.
    "demo-1m": {
        "model": {"n_layer": 4, "n_head": 4, "n_embd": 64, "block_size": 128},
        "optim": {"lr": 3e-3},
        "schedule": {"min_lr": 3e-4, "warmup_steps": 20},
        "eval": {"documents": 40, "seen": 20, "document_tokens": 512},  # a CPU evaluates a few thousand tokens a second
    },
    "gpt2-10m": {
        "model": {"n_layer": 6, "n_head": 4, "n_embd": 192, "block_size": 512},
        "optim": {"lr": 2e-3},
        "schedule": {"min_lr": 2e-4},
    },
    # The run that started the project: exactly 40,560,000 parameters in nanoGPT's count.
    "seed-40m": {
        "model": {"n_layer": 12, "n_head": 6, "n_embd": 384},
        "optim": {"lr": 1e-3},
        "schedule": {"min_lr": 1e-4},
    },
    "gpt2-124m": {"model": {"n_layer": 12, "n_head": 12, "n_embd": 768}},
    "gpt2-350m": {
        "model": {"n_layer": 24, "n_head": 16, "n_embd": 1024},
        "optim": {"lr": 3e-4},
        "schedule": {"min_lr": 3e-5},
    },
    # Heads of 128 where the width allows: attention is faster, and no worse.
    "modern-6m": {"model": {"family": "modern", "n_layer": 4, "n_head": 1, "n_embd": 64, "block_size": 256}},
    "modern-25m": {"model": {"family": "modern", "n_layer": 6, "n_head": 2, "n_embd": 256, "block_size": 512}},
    "modern-60m": {"model": {"family": "modern", "n_layer": 12, "n_head": 3, "n_embd": 384}},
    "modern-124m": {"model": {"family": "modern", "n_layer": 12, "n_head": 6, "n_embd": 768}},
    "modern-350m": {"model": {"family": "modern", "n_layer": 24, "n_head": 8, "n_embd": 1024}},
}

# What a family, and an optimiser, make of the fields that neither preset, file nor --set names.
FAMILIES: dict[str, dict[str, Any]] = {
    "gpt2": {},
    "modern": {
        "model.positions": "rotary", "model.norm": "rmsnorm", "model.mlp": "relu2", "model.tied": False,
        "model.softcap": 15.0, "model.qk_norm": True, "model.zero_init": True,
        "optim.kind": "muon", "schedule.kind": "wsd", "schedule.cooldown_shape": "linear",
    },
}  # fmt: skip
KINDS: dict[str, dict[str, Any]] = {
    "adamw": {},
    # The rates of modded-nanogpt's train_gpt_simple, halved: embedding 0.35, head 0.002, scalars 0.0075 for a matrix
    # rate of 0.0125. Not swept.
    "muon": {
        "optim.lr": 0.0125, "optim.embed_scale": 28.0, "optim.head_scale": 0.16, "optim.scalar_scale": 0.6,
        "optim.weight_decay": 0.05, "optim.betas": (0.8, 0.95), "optim.grad_clip": 0.0, "schedule.min_lr": 0.0,
        "schedule.warmup_steps": 10,
    },
}  # fmt: skip


# What people coming from nanoGPT, nanochat or litgpt type first.
SYNONYMS = {
    "learning_rate": "optim.lr", "max_lr": "optim.lr",
    "batch_size": "train.micro_batch", "micro_batch_size": "train.micro_batch",
    "gradient_accumulation_steps": "train.grad_accum", "max_iters": "train.max_steps",
    "num_iterations": "train.max_steps",
    "warmup_iters": "schedule.warmup_steps", "lr_decay_iters": "schedule.decay_steps", "eval_interval": "eval.every",
    "depth": "model.n_layer", "dataset": "data.paths",
    "context": "model.block_size", "sequence_length": "model.block_size",
    "always_save_checkpoint": "train.checkpoint_every", "save_interval": "train.checkpoint_every",
}  # fmt: skip


def fields_of(section: str) -> dict[str, dataclasses.Field[Any]]:
    """Field name → dataclass field (``metadata["help"]``, ``metadata["choices"]``) of a section."""
    return {f.name: f for f in dataclasses.fields(SECTIONS[section])}


def parse_set(text: str) -> tuple[str, Any]:
    """``"optim.lr=3e-4"`` → ``("optim.lr", 0.0003)``; the value is TOML, else a bare string.

    Raises:
        ConfigError: no ``=`` in the text.
    """
    key, equals, raw = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {text!r}: write it as key=value, for example --set optim.lr=3e-4")
    raw = raw.strip()
    try:
        value = tomllib.loads(f"value = {raw}")["value"] if raw and "\n" not in raw else raw
    except tomllib.TOMLDecodeError:
        value = None if raw in ("null", "none") else raw
    return key.strip(), value


def resolve(
    file: str | Path | None = None, sets: Iterable[str] = (), overrides: Mapping[str, Any] | None = None
) -> Config:
    """Resolve preset < file < sets < overrides into one validated configuration.

    Args:
        file: TOML file with sections as in ``Config``.
        sets: ``key=value`` texts as of ``--set``.
        overrides: ``{"section.key": value}``, for callers that hold values rather than text.

    Raises:
        ConfigError: file unreadable, unknown key (the nearest known one is named), wrong type, or impossible value.
    """
    layers: list[tuple[str, dict[str, Any]]] = []
    if file is not None:
        layers.append((str(file), _flatten(_read_toml(Path(file)), str(file))))
    layers.append(("--set", dict(parse_set(s) for s in sets)))
    layers.append(("override", dict(overrides or {})))

    values: dict[str, Any] = {}
    for where, layer in layers:
        for key, value in layer.items():
            values[_known_key(key, where)] = value

    preset = values.get("model.preset", Model.preset)
    if preset not in PRESETS:
        raise ConfigError(f"model.preset {preset!r} is not known; known: {', '.join(PRESETS)}")
    for section, changes in PRESETS[preset].items():
        for name, value in changes.items():
            values.setdefault(f"{section}.{name}", value)
    for field_name, table in (("model.family", FAMILIES), ("optim.kind", KINDS)):
        for key, value in table.get(str(values.get(field_name)), {}).items():
            values.setdefault(key, value)

    sections = {
        section: cls(
            **{
                name: _coerce(values[f"{section}.{name}"], typing.get_type_hints(cls)[name], f"{section}.{name}")
                for name in fields_of(section)
                if f"{section}.{name}" in values
            }
        )
        for section, cls in SECTIONS.items()
    }
    config = Config(**sections)
    validate(config)
    return config


def load(path: str | Path) -> Config:
    """Read a run's ``config.toml``. Raises ConfigError as ``resolve`` does."""
    return resolve(path)


def validate(config: Config) -> None:
    """Raise ConfigError for a shape or value with which no run is possible."""
    m, o, s, t, e, d = config.model, config.optim, config.schedule, config.train, config.eval, config.data
    for section in SECTIONS:
        for name, f in fields_of(section).items():
            value, choices = getattr(getattr(config, section), name), f.metadata["choices"]
            if choices and value not in choices:
                raise ConfigError(f"{section}.{name} {value!r} is not known; known: {', '.join(choices)}")
            if isinstance(value, float) and not math.isfinite(value):
                raise ConfigError(f"{section}.{name} must be a finite number, not {value}")
    positive = {
        "model.n_layer": m.n_layer, "model.n_head": m.n_head, "model.n_embd": m.n_embd,
        "model.block_size": m.block_size, "model.vocab_size": m.vocab_size, "optim.lr": o.lr,
        "optim.embed_scale": o.embed_scale, "optim.head_scale": o.head_scale, "optim.scalar_scale": o.scalar_scale,
        "model.rope_base": m.rope_base,
        "train.max_steps": t.max_steps, "train.micro_batch": t.micro_batch, "train.grad_accum": t.grad_accum,
        "train.processes": t.processes, "eval.documents": e.documents, "eval.document_tokens": e.document_tokens,
    }  # fmt: skip
    not_negative = {
        "optim.weight_decay": o.weight_decay, "optim.grad_clip": o.grad_clip, "schedule.warmup_steps": s.warmup_steps,
        "schedule.min_lr": s.min_lr, "schedule.cooldown_steps": s.cooldown_steps, "train.seed": t.seed,
        "train.checkpoint_every": t.checkpoint_every, "train.keep_checkpoints": t.keep_checkpoints,
        "eval.every": e.every, "eval.seen": e.seen, "model.n_kv_head": m.n_kv_head, "model.window": m.window,
        "model.softcap": m.softcap,
    }  # fmt: skip
    for key, value in positive.items():
        if value <= 0:
            raise ConfigError(f"{key} must be above 0, not {value}")
    for key, value in not_negative.items():
        if value < 0:
            raise ConfigError(f"{key} must not be below 0, not {value}")
    if t.grad_accum % t.processes:
        raise ConfigError(
            f"train.grad_accum {t.grad_accum} micro-batches cannot be shared out evenly over {t.processes} processes; "
            f"set train.grad_accum={-(-t.grad_accum // t.processes) * t.processes}"
        )
    if m.n_embd % m.n_head:
        raise ConfigError(f"model.n_embd {m.n_embd} is not divisible by model.n_head {m.n_head}")
    if m.n_kv_head and m.n_head % m.n_kv_head:
        raise ConfigError(f"model.n_head {m.n_head} is not divisible by model.n_kv_head {m.n_kv_head}")
    if m.positions == "rotary" and m.n_embd // m.n_head % 2:
        raise ConfigError(f"rotary positions need an even head size, not {m.n_embd // m.n_head}: change model.n_head")
    if not 0 <= o.momentum < 1:
        raise ConfigError(f"optim.momentum must be in [0, 1), not {o.momentum}")
    if not 0 <= m.dropout < 1:
        raise ConfigError(f"model.dropout must be in [0, 1), not {m.dropout}")
    if len(o.betas) != 2 or not all(0 <= b < 1 for b in o.betas):
        raise ConfigError(f"optim.betas must be two numbers in [0, 1), not {list(o.betas)}")
    if not d.val_paths and not 0 < d.val_fraction < 1:
        raise ConfigError(f"data.val_fraction must be between 0 and 1, not {d.val_fraction}")
    if t.epochs is not None and t.epochs <= 0:
        raise ConfigError(f"train.epochs must be above 0, not {t.epochs}")
    if s.decay_steps is not None and s.decay_steps <= 0:
        raise ConfigError(f"schedule.decay_steps must be above 0, not {s.decay_steps}")
    if s.kind != "constant" and s.min_lr > o.lr:
        raise ConfigError(f"schedule.min_lr {s.min_lr} is above optim.lr {o.lr}")


def suggest(word: str, known: Iterable[str]) -> str:
    """The nearest known word, or "" if none is near."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return near[0] if near else ""


def _known_key(key: str, where: str) -> str:
    known = [f"{section}.{name}" for section in SECTIONS for name in fields_of(section)]
    if key in known:
        return key
    by_leaf = {k.partition(".")[2]: k for k in known}
    leaf = key.rpartition(".")[2]
    near = SYNONYMS.get(leaf) or by_leaf.get(leaf) or suggest(key, known) or by_leaf.get(suggest(leaf, by_leaf), "")
    hint = f"did you mean {near}?" if near else f"sections: {', '.join(SECTIONS)}"
    raise ConfigError(f"unknown configuration key {key!r} in {where}; {hint}")


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such configuration file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as a configuration: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None


def _flatten(tree: Mapping[str, Any], where: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for section, values in tree.items():
        if isinstance(values, dict):
            flat.update({f"{section}.{name}": value for name, value in values.items()})
        else:
            flat[section] = values
    return flat


def _coerce(value: Any, hint: Any, key: str) -> Any:
    """Check ``value`` against a field's type; integers stand for floats, and 1e3 for an integer."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        return _coerce(value, next(a for a in typing.get_args(hint) if a is not type(None)), key)
    if origin is tuple:
        item = typing.get_args(hint)[0]
        values = [value] if isinstance(value, item if item is not float else (int, float)) else value
        if not isinstance(values, (list, tuple)):
            raise ConfigError(f"{key} must be a list of {item.__name__}, not {value!r}")
        return tuple(_coerce(v, item, key) for v in values)
    if hint is bool and isinstance(value, bool):
        return value
    if hint is str and isinstance(value, str):
        return value
    if hint is str and isinstance(value, bool) and key == "train.compile":
        return "on" if value else "off"
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if hint is int and not isinstance(value, bool):
        if isinstance(value, int):
            return value
        if isinstance(value, float) and value.is_integer():
            return int(value)
    raise ConfigError(f"{key} must be {_type_name(hint)}, not {value!r}")


def _type_name(hint: type) -> str:
    return {int: "a whole number", float: "a number", bool: "true or false", str: "text"}.get(hint, str(hint))


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml_value(v) for v in value) + "]"
    return repr(value)
