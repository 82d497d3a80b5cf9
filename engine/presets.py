"""Named shapes, what a family and an optimiser decide, and the names that others use for our fields. Torch-free."""

from __future__ import annotations

from typing import Any

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
