"""The model, of two families. Read it top to bottom.

``gpt2`` is GPT-2 as nanoGPT trains it: same parameters, same initialisation, same loss (Radford et al. 2019,
with karpathy/nanoGPT's choices: pre-norm blocks, learned positions, tied head, exact GELU, biases optional, residual
projections initialised smaller by 1/sqrt(2 n_layer)). ``modern`` is what its successors train (modded-nanogpt,
nanochat, Llama): rotary positions, RMS norms, normalised queries and keys, squared ReLU or SwiGLU, an untied head,
softcapped logits, projections that begin at zero. Every one of these is a field of ``engine.config.Model`` of its own.
Parameter names are GPT-2's throughout. The head never materialises the logits of a whole batch: see ``engine.head``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine import config as config_module
from engine.attention import Attention, Positions, documents_of, positions, rotary_table
from engine.gelu import gelu
from engine.head import IGNORE, capped, lean_cross_entropy, token_losses
from engine.plan import mlp_width

__all__ = ["GPT", "IGNORE", "lean_cross_entropy", "token_losses"]


class LayerNorm(nn.Module):
    """Layer norm with an optional bias, over the last dimension."""

    def __init__(self, width: int, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, 1e-5)


class RMSNorm(nn.Module):
    """Root-mean-square norm with a gain, over the last dimension (Zhang & Sennrich 2019, arXiv 1910.07467)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), 1e-6)


def make_norm(c: config_module.Model) -> nn.Module:
    """The norm that the configuration names."""
    return RMSNorm(c.n_embd) if c.norm == "rmsnorm" else LayerNorm(c.n_embd, c.bias)


class MLP(nn.Module):
    """Two linear layers with exact GELU, squared ReLU (So et al. 2021) or SwiGLU (Shazeer 2020) between.

    [B, T, C] → [B, T, C]. ``c_fc`` holds for SwiGLU the gate's rows and then those of what it gates.
    """

    def __init__(self, c: config_module.Model) -> None:
        super().__init__()
        width = mlp_width(c)
        self.kind = c.mlp
        self.c_fc = nn.Linear(c.n_embd, 2 * width if c.mlp == "swiglu" else width, bias=c.bias)
        self.c_proj = nn.Linear(width, c.n_embd, bias=c.bias)
        self.dropout = c.dropout

    def forward(self, x: Tensor) -> Tensor:
        x = self.c_fc(x)
        if self.kind == "swiglu":
            gate, x = x.chunk(2, dim=-1)
            x = F.silu(gate) * x
        else:
            x = gelu(x) if self.kind == "gelu" else F.relu(x).square()
        return F.dropout(self.c_proj(x), self.dropout, self.training)


class Block(nn.Module):
    """Pre-norm transformer block.

    It takes the residual stream and what the block before has yet to add to it, and hands on both, [B, T, C] each: so
    blocks compiled one by one fuse that sum with the norm behind it, as they would within one graph.
    """

    def __init__(self, c: config_module.Model, layer: int) -> None:
        super().__init__()
        self.ln_1 = make_norm(c)
        self.attn = Attention(c, layer)
        self.ln_2 = make_norm(c)
        self.mlp = MLP(c)

    def forward(self, x: Tensor, addend: Tensor, p: Positions) -> tuple[Tensor, Tensor]:
        x = x + addend
        x = x + self.attn(self.ln_1(x), p)
        return x, self.mlp(self.ln_2(x))


class GPT(nn.Module):
    """The model. Called with targets it returns their loss; without, the logits.

    Initialised from torch's default generator: seed it first. Input is int64 [B, T], T at most ``block_size``.

    ``separator`` is the token that stands between documents; with ``document_mask`` it must be known, else ValueError.
    """

    table: Tensor | None
    _ends: tuple[Callable[..., Tensor], Callable[..., Tensor]] | None  # embed and finish, compiled

    def __init__(self, c: config_module.Model, separator: int | None = None) -> None:
        super().__init__()
        self.config, self.separator = c, separator
        self.fp8_head = False  # a matter of speed: engine.train sets it
        self._ends = None
        if c.document_mask and separator is None:
            raise ValueError("model.document_mask needs the token that stands between documents")
        with torch.device("meta"):  # torch's own initialisation of a layer would be thrown away, and takes seconds
            self.wte = nn.Embedding(c.vocab_size, c.n_embd)
            if c.positions == "learned":
                self.wpe = nn.Embedding(c.block_size, c.n_embd)
            self.h = nn.ModuleList(Block(c, layer) for layer in range(c.n_layer))
            self.ln_f = make_norm(c)
            self.lm_head = None if c.tied else nn.Linear(c.n_embd, c.vocab_size, bias=False)
        if torch.get_default_device().type != "meta":  # else whoever builds it assigns weights of their own
            self.to_empty(device=torch.get_default_device())
            self._initialise(c)
        self.register_buffer("table", rotary_table(c) if c.positions == "rotary" else None, persistent=False)
        if torch.cuda.is_available():
            _load_kernels()

    def _initialise(self, c: config_module.Model) -> None:
        """nanoGPT's initialisation; with ``zero_init`` that of modded-nanogpt: matrices by their inputs, zeros out."""
        for name, parameter in self.named_parameters():
            if name.endswith("c_proj.weight"):
                nn.init.normal_(parameter, std=0.0 if c.zero_init else 0.02 / math.sqrt(2 * c.n_layer))
            elif name == "lm_head.weight":
                nn.init.normal_(parameter, std=0.0 if c.zero_init else 0.02)
            elif name == "wte.weight" and self.normalises_embedding:
                nn.init.normal_(parameter)
            elif parameter.dim() == 2:
                inside = c.zero_init and name.startswith("h.")
                nn.init.normal_(parameter, std=math.sqrt(0.33 / c.n_embd) if inside else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
            else:
                nn.init.ones_(parameter)

    @property
    def normalises_embedding(self) -> bool:
        """Whether each token's embedding passes an RMS norm before the first block (an untied ``modern`` model).

        It depends on the token alone, so that an export can apply it to the rows of ``wte`` once.
        """
        return self.config.family == "modern" and not self.config.tied and self.config.positions != "learned"

    @property
    def head_weight(self) -> Tensor:
        """Weights of the head, [V, C]."""
        return self.wte.weight if self.lm_head is None else self.lm_head.weight

    def embed(self, tokens: Tensor, first: int = 0) -> Tensor:
        """Residual stream [B, T, C] of tokens [B, T] before the first block; the first one stands at ``first``."""
        x = self.wte(tokens)
        if self.config.positions == "learned":
            x = x + self.wpe.weight[first : first + tokens.shape[1]]
        elif self.normalises_embedding:
            x = F.rms_norm(x, (x.shape[-1],), eps=1e-6)
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))  # so is the whole residual stream: half the traffic
        return F.dropout(x, self.config.dropout, self.training)

    def compile_parts(self, **how: Any) -> None:
        """Compile the embedding, one block for all of them, and the head, in place of one graph of everything: a
        fraction of its time, at the same speed (regional compilation, as torchtitan has it). ``how``: torch.compile's
        arguments."""
        for block in self.h:
            block.compile(**how)
        self._ends = torch.compile(self.embed, **how), torch.compile(self.finish, **how)

    def finish(self, x: Tensor, addend: Tensor, targets: Tensor | None, per_token: bool) -> Tensor:
        """What ``forward`` returns, of the last block's residual stream and addend [B, T, C]."""
        x = self.ln_f(x + addend)
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        if targets is None:
            return self.logits(x)
        x, softcap = x.flatten(0, 1), self.config.softcap
        if per_token:
            return token_losses(x, self.head_weight, targets.flatten(), softcap).view(targets.shape)
        return lean_cross_entropy(x, self.head_weight, targets.flatten(), softcap, self.fp8_head)

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits [..., V] of final hidden states [..., C]."""
        return capped(F.linear(hidden, self.head_weight), self.config.softcap)

    def forward(self, tokens: Tensor, targets: Tensor | None = None, per_token: bool = False) -> Tensor:
        """Loss of predicting ``targets`` (int64 [B, T]; ``IGNORE`` is left out), natural logarithm, float32.

        Returns:
            The mean over all targets, a scalar; with ``per_token`` the loss of each, [B, T] (0 where ignored; no
            gradient); without targets the logits [B, T, vocab_size].
        """
        embed, finish = self._ends or (self.embed, self.finish)
        x = embed(tokens)
        addend = torch.zeros_like(x)
        documents = None
        if self.config.document_mask and self.separator is not None:
            documents = documents_of(tokens, self.separator)
        p = positions(self.config, tokens.shape[1], tokens.device, self.table, documents)
        for block in self.h:
            x, addend = block(x, addend, p)
        return finish(x, addend, targets, per_token)


def _load_kernels() -> None:
    """Make the Triton kernels known, where there is Triton: before the model is called on CUDA for the first time."""
    try:
        import engine.gelu_kernel
        import engine.head_kernel  # noqa: F401  they register torch.ops.gptbench.gelu and .head
    except ImportError:
        return
