"""The sections of a configuration: every field with its type, default and one-line help. Torch-free.

The Launch screen and ``gptbench train --options`` show the help. ``engine.config`` resolves files and ``--set`` into
them.
"""

from __future__ import annotations

import dataclasses
import json
import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class ConfigError(ValueError):
    """A configuration that cannot be run: one line that says what, where and what to do."""


COOLDOWN = 0.2  # share of the steps that cool down where schedule.cooldown_steps is null


def _f(default: Any, help: str, choices: tuple[str, ...] = ()) -> Any:
    return field(default=default, metadata={"help": help, "choices": choices})


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
    document_mask: bool = _f(False, "a token sees its own document alone; positions stay those of the whole context")
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
    shuffle_window: int | None = _f(
        None,
        "shards shuffled together in the first epoch, so that training starts with the first one packed; "
        "0: all are packed before; null: 4, or 0 where all are packed already",
    )
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
    cooldown_steps: int | None = _f(None, "last steps that cool down (wsd); null: a fifth of the steps")
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
    fp8_head: bool = _f(False, "the head's products in 8-bit floats (Hopper or newer): faster, gradients coarser")
    checkpoint_every: int = _f(500, "steps between checkpoints; 0: only at the end and at a stop")
    keep_checkpoints: int = _f(3, "newest checkpoints kept; 0: all")
    keep_best: bool = _f(True, "also keep the checkpoint with the lowest held-out loss")
    init_from: str | None = _f(None, "checkpoint folder whose weights the run starts from")
    branched_from: str | None = _f(None, "checkpoint that the run was branched off; gptbench branch writes it")
    processes: int = _f(1, "processes on this machine that train together, one a GPU; more nodes: torchrun or Slurm")
    parallel: str = _f(
        "auto", "how processes share a model: copies (ddp), shards (fsdp), auto", ("auto", "ddp", "fsdp")
    )
    batch_schedule: tuple[tuple[float, int], ...] = _f(
        (), "[[from, sequences], …]: another batch from that step (below 1: that part of the run) on"
    )
    compile_mode: str = _f(
        "auto", "torch.compile's mode; reduce-overhead uses CUDA graphs, auto does so for small models on one GPU",
        ("auto", "default", "max-autotune-no-cudagraphs", "reduce-overhead"),
    )  # fmt: skip
    system_every: float = _f(15.0, "seconds between system events; 0: none")


@dataclass(frozen=True)
class Eval:
    """Evaluation, dropout off, always on the same windows."""

    every: int = _f(100, "steps between evaluations; 0: only at the end")
    documents: int = _f(400, "held-out documents evaluated, at most")
    seen: int = _f(200, "training documents evaluated beside them, at most; 0: off")
    document_tokens: int = _f(4096, "tokens evaluated of one document, at most")
    sample_every: int = _f(5, "evaluations between samples of the model's text; 0: none")
    prompts: tuple[str, ...] = _f(("",), "what the samples go on from; empty text: the beginning of a document")
    sample_tokens: int = _f(64, "tokens of a sample")


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
        """Tokens that an optimiser step trains on, over all ranks (the first, where there is a batch schedule)."""
        return self.model.block_size * self.train.micro_batch * self.train.grad_accum

    @property
    def decay_steps(self) -> int:
        """Step at which the learning rate's decay ends."""
        return self.train.max_steps if self.schedule.decay_steps is None else self.schedule.decay_steps

    @property
    def cooldown_steps(self) -> int:
        """Last steps that cool down (wsd): those set, else a fifth of the steps up to the decay's end.

        With 20% of the steps a wsd schedule ends as low as a cosine of the same length, and longer cooldowns gain
        little more (Hägele et al. 2024, arXiv 2405.18392, figures 3 to 5).
        """
        given = self.schedule.cooldown_steps
        return round(COOLDOWN * self.decay_steps) if given is None else given

    @property
    def stages(self) -> list[tuple[int, int]]:
        """Steps taken when a batch size begins, and its sequences, in order; the first begins at 0."""
        t = self.train
        found = [(0, t.micro_batch * t.grad_accum)]
        for begin, batch in t.batch_schedule:
            found.append((math.floor(begin * t.max_steps) if begin < 1 else int(begin), batch))
        return found

    def micro_batches(self, step: int) -> int:
        """Micro-batches of optimiser step ``step`` (counted from 1), over all ranks."""
        batch = 0
        for begin, sequences in self.stages:
            if step > begin:
                batch = sequences
        return batch // self.train.micro_batch

    def tokens_after(self, steps: int) -> int:
        """Tokens trained on in the first ``steps`` steps."""
        stages = self.stages
        ends = [begin for begin, _ in stages[1:]] + [steps]
        sequences = sum(
            max(0, min(steps, end) - min(steps, begin)) * batch
            for (begin, batch), end in zip(stages, ends, strict=True)
        )
        return sequences * self.model.block_size

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Sections as plain dictionaries, tuples as lists."""
        return {name: {k: _plain(v) for k, v in section.items()} for name, section in dataclasses.asdict(self).items()}

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


def fields_of(section: str) -> dict[str, dataclasses.Field[Any]]:
    """Field name → dataclass field (``metadata["help"]``, ``metadata["choices"]``) of a section."""
    return {f.name: f for f in dataclasses.fields(SECTIONS[section])}


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml_value(v) for v in value) + "]"
    return repr(value)
