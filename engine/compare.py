"""Whether a checkpoint belongs to a run's configuration, or to another one. Torch-free."""

from __future__ import annotations

from typing import Any

from engine.config import Config

# What may change between a checkpoint and its resume without making it another run.
FREE = {
    "model.preset", "data.paths", "data.val_paths", "data.cache", "data.shuffle_window",
    "train.max_steps", "train.epochs", "train.device",
    "train.dtype", "train.compile", "train.fp8_head",
    "train.checkpoint_every", "train.keep_checkpoints", "train.keep_best",
    "train.init_from", "train.branched_from", "train.processes", "train.parallel", "eval.every",
    "schedule.decay_steps", "train.compile_mode", "train.system_every",
    "eval.sample_every", "eval.prompts", "eval.sample_tokens",
}  # fmt: skip


def differences(before: dict[str, dict[str, Any]], config: Config) -> str:
    """What tells a checkpoint's configuration from the run's, as "optim.lr was 0.001, is 0.002"; "" if nothing does.

    Steps may be added as long as the learning rate of those already planned stays what it was, and a step's sequences
    may be cut into other micro-batches, as one does who ran out of memory.
    """
    now, default = config.to_dict(), Config().to_dict()  # a field newer than the checkpoint had its default
    changed = [
        f"{section}.{name} was {was}, is {value}"
        for section, values in now.items()
        for name, value in values.items()
        if f"{section}.{name}" not in FREE
        and (was := before.get(section, {}).get(name, default[section][name])) != value
    ]
    old, t = before["train"], config.train
    if old["micro_batch"] * old["grad_accum"] == t.micro_batch * t.grad_accum:
        changed = [text for text in changed if not text.startswith(("train.micro_batch ", "train.grad_accum "))]
    if config.schedule.kind != "constant":
        was = before["schedule"].get("decay_steps") or before["train"]["max_steps"]
        if was != config.decay_steps:
            changed.append(f"the learning rate's decay ended at step {was}, now at {config.decay_steps}")
    return "; ".join(changed[:3])
