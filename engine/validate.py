"""Shapes and values with which no run is possible: one line each. Torch-free."""

from __future__ import annotations

import math

from engine.sections import SECTIONS, Config, ConfigError, fields_of


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
        "eval.sample_tokens": e.sample_tokens,
    }  # fmt: skip
    not_negative = {
        "optim.weight_decay": o.weight_decay, "optim.grad_clip": o.grad_clip, "schedule.warmup_steps": s.warmup_steps,
        "schedule.min_lr": s.min_lr, "schedule.cooldown_steps": s.cooldown_steps or 0,
        "train.system_every": t.system_every, "eval.sample_every": e.sample_every,
        "train.seed": t.seed,
        "train.checkpoint_every": t.checkpoint_every, "train.keep_checkpoints": t.keep_checkpoints,
        "eval.every": e.every, "eval.seen": e.seen, "model.n_kv_head": m.n_kv_head, "model.window": m.window,
        "model.softcap": m.softcap, "data.shuffle_window": d.shuffle_window or 0,
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
    if t.epochs is not None and not 0 < t.epochs <= 1e6:
        raise ConfigError(f"train.epochs must be above 0, and a million at most, not {t.epochs:g}")
    if s.decay_steps is not None and s.decay_steps <= 0:
        raise ConfigError(f"schedule.decay_steps must be above 0, not {s.decay_steps}")
    if s.kind != "constant" and s.min_lr > o.lr:
        raise ConfigError(f"schedule.min_lr {s.min_lr} is above optim.lr {o.lr}")
    if s.kind == "wsd" and s.cooldown_steps is not None and s.cooldown_steps > config.decay_steps and t.epochs is None:
        raise ConfigError(
            f"schedule.cooldown_steps {s.cooldown_steps} is more than the {config.decay_steps} steps of the schedule; "
            "lower it, or leave it out for a fifth of them"
        )
    _batches(config)


def _batches(config: Config) -> None:
    t = config.train
    share = t.micro_batch * t.processes
    before = 0.0
    for begin, batch in t.batch_schedule:
        if not math.isfinite(begin) or begin <= before or (begin >= 1 and begin != int(begin)):
            raise ConfigError(
                f"train.batch_schedule: {begin:g} must be a step above the one before it, or a part of the run below 1"
            )
        if (begin < 1) != (t.batch_schedule[0][0] < 1):
            raise ConfigError("train.batch_schedule: name either steps or parts of the run, not both")
        if batch <= 0 or batch % share:
            raise ConfigError(
                f"train.batch_schedule: {batch} sequences are not a multiple of micro-batch × processes = {share}; "
                f"set {max(1, round(batch / share)) * share}"
            )
        before = begin
