"""How a training step is compiled, and what only some cards compute."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from engine.config import Config
from engine.device import Device
from engine.errors import RunError
from engine.model import GPT

SMALL = 5e9  # a micro-batch's tokens times squared width; below it a GPU waits for the launches of its kernels


def compiled(model: GPT, shared: Callable[..., Tensor], c: Config, graphs: bool) -> tuple[Callable[..., Tensor], bool]:
    """The model compiled, and whether as CUDA graphs, which only happens where ``graphs`` allows it.

    Measured on an H200: part by part starts sooner, and costs no time where a block has enough to do. A small model
    waits for its launches: gpt2-10m takes four times as long in parts as replayed from graphs.
    """
    mode = c.train.compile_mode
    small = c.model.n_embd**2 * c.model.block_size * c.train.micro_batch < SMALL
    if mode == "auto":
        mode = "reduce-overhead" if small and graphs else "default"
    if mode == "reduce-overhead" and not graphs:
        mode = "default"
    if small or mode == "reduce-overhead":
        return torch.compile(shared, mode=mode), mode == "reduce-overhead"
    model.compile_parts(mode=mode)
    return shared, False


def allows_fp8(config: Config, device: Device) -> bool:
    """That the head can be computed in eight bits here. Raises RunError if it cannot."""
    m, tokens = config.model, config.train.micro_batch * config.model.block_size
    if device.type == "cuda" and hasattr(torch.ops.gptbench, "head"):
        from engine import head_fp8

        if device.dtype == torch.bfloat16 and head_fp8.fits(tokens, m.n_embd, m.vocab_size):
            return True
    raise RunError(
        "train.fp8_head needs an NVIDIA GPU of compute capability 8.9 or newer, bfloat16, and a micro-batch's "
        "tokens, model.n_embd and model.vocab_size that are multiples of 16; set train.fp8_head=false"
    )
