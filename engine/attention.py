"""Causal self-attention and what belongs to it: rotary positions, ALiBi, windows, documents, grouped queries.

Full attention goes through SDPA (flash kernels); windows, ALiBi and document masks through FlexAttention on CUDA (Dong
et al. 2024, arXiv 2412.05496), and through SDPA with an explicit mask elsewhere. FlexAttention drops no weights of
attention: there ``dropout`` is that of the residual stream alone.

With document masks a token sees its own document alone. Positions stay those of the sequence: rotary ones and ALiBi
tell distances only, so that a document is read as if it stood alone; learned ones begin where it begins.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine import config as config_module
from engine.plan import window_of

BLOCK = 128  # queries, and keys, of a block of FlexAttention's masks


@dataclass(frozen=True, eq=False)
class Positions:
    """What attention needs to know of the positions of a sequence of T tokens.

    Attributes:
        rotation: cosines and sines, float32 [T, D / 2] each, for rotary positions.
        slopes: float32 [n_head], ALiBi's.
        masks: explicit mask or bias for SDPA by window, [T, T] or [n_head, T, T]; with documents
            [B, 1 or n_head, T, T]; no entry: plain causal attention.
        blocks: FlexAttention's block mask by window, in place of ``masks``.
    """

    rotation: tuple[Tensor, Tensor] | None
    slopes: Tensor | None
    masks: dict[int, Tensor]
    blocks: dict[int, Any]


def positions(
    c: config_module.Model, length: int, device: torch.device, table: Tensor | None = None,
    documents: Tensor | None = None,
) -> Positions:  # fmt: skip
    """Positions 0 … length - 1 for a model; ``table`` is its ``rotary_table``, else worked out anew.

    ``documents`` (integers [B, T]) tells of each token which document it is of: what is of another is not seen.
    """
    rotation = None
    if c.positions == "rotary":
        table = rotary_table(c) if table is None else table
        cos, sin = table[:, :length].to(device)
        rotation = cos, sin
    slopes = alibi_slopes(c.n_head, device) if c.positions == "alibi" else None
    windows = {window_of(c, layer) for layer in range(c.n_layer)}
    special = {w for w in windows if w < length or slopes is not None or documents is not None}
    if device.type == "cuda":
        return Positions(rotation, slopes, {}, {w: _block_mask(w, length, device, documents) for w in special})
    return Positions(rotation, slopes, {w: _mask(w, length, slopes, device, documents) for w in special}, {})


def documents_of(tokens: Tensor, separator: int) -> Tensor:
    """Which document of its sequence each token is of, int32 as tokens [B, T].

    The separator that ends a document in the stream counts to the next one: as an input it is what that one's first
    token is predicted from, just as in an evaluation's windows and behind a prompt.
    """
    return (tokens == separator).cumsum(1, dtype=torch.int32)


def rotary(c: config_module.Model, at: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines, float32 [T, D / 2], of the angles at positions ``at`` [T] (RoFormer, arXiv 2104.09864)."""
    half = c.n_embd // c.n_head // 2
    frequencies = c.rope_base ** (-torch.arange(half, dtype=torch.float32, device=at.device) / half)
    angles = torch.outer(at.float(), frequencies)
    return angles.cos(), angles.sin()


def rotary_table(c: config_module.Model) -> Tensor:
    """Cosines and sines of all positions, float32 [2, block_size, D / 2]: as an input of the compiled step, which else
    works them out for every element anew (measured: 28 ms of a 150 ms step)."""
    return torch.stack(rotary(c, torch.arange(c.block_size, device="cpu")))


def rotate(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Turn x [B, T, heads, D] by its positions: the first half of D against the second, as Llama has it."""
    cos, sin = (part.unsqueeze(1) for part in rotation)
    a, b = x.float().chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1).to(x.dtype)


def alibi_slopes(heads: int, device: torch.device) -> Tensor:
    """Slope of each head, 2^(-8 i / heads) (Press et al. 2022, arXiv 2108.12409)."""
    return 2.0 ** (-8.0 * torch.arange(1, heads + 1, dtype=torch.float32, device=device) / heads)


def _mask(
    window: int, length: int, slopes: Tensor | None, device: torch.device, documents: Tensor | None
) -> Tensor:  # fmt: skip
    at = torch.arange(length, device=device)
    back = at[:, None] - at[None, :]
    seen = (back >= 0) & (back < window)
    if documents is not None:
        seen = (seen & (documents[:, :, None] == documents[:, None, :])).unsqueeze(1)
        if slopes is None:  # of a boolean mask every layer would keep a copy in floats
            return torch.where(seen, 0.0, -math.inf)
    if slopes is None:
        return seen
    return torch.where(seen, -slopes[:, None, None] * back, -math.inf)


def _block_mask(window: int, length: int, device: torch.device, documents: Tensor | None) -> Any:
    """FlexAttention's block mask: which blocks of pairs it visits, and which of those need no mask.

    As documents follow each other, the first and the last one of a block tell what it shares with another (as in
    modded-nanogpt): nobody looks at every pair, and it takes a few small kernels, compiled or not.
    """
    from torch.nn.attention.flex_attention import BlockMask

    def seen(batch: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return (q >= k) & (q - k < window)

    def same(batch: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
        assert documents is not None
        return seen(batch, head, q, k) & (documents[batch, q] == documents[batch, k])

    begin = torch.arange(0, length, BLOCK, device=device)
    end = (begin + BLOCK).clamp(max=length) - 1
    nearest, farthest = begin[:, None] - end, end[:, None] - begin  # how far a block's queries look back for its keys
    filled = end - begin + 1 == BLOCK
    some = ((farthest >= 0) & (nearest < window))[None]
    whole = ((nearest >= 0) & (farthest < window) & filled[:, None] & filled)[None]
    if documents is not None:
        first, last = documents[:, begin], documents[:, end]
        some = some & (last[:, None, :] >= first[:, :, None])
        whole = whole & (first[:, None, :] == last[:, :, None])
    tables = [_listed(mask.unsqueeze(1)) for mask in (some & ~whole, whole)]
    return BlockMask.from_kv_blocks(
        *tables[0], *tables[1], BLOCK_SIZE=BLOCK, mask_mod=seen if documents is None else same,
        seq_lengths=(length, length),
    )  # fmt: skip


def _listed(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Of each row of a boolean mask how many are true, and their columns before the others', int32."""
    columns = mask.argsort(dim=-1, descending=True, stable=True)
    return mask.sum(-1, dtype=torch.int32), columns.to(torch.int32)


def _flex(q: Tensor, k: Tensor, v: Tensor, p: Positions, window: int, scale: float) -> Tensor:
    from torch.nn.attention.flex_attention import flex_attention

    slopes = p.slopes
    bias = None
    if slopes is not None:

        def bias(score: Tensor, batch: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
            return score - slopes[head] * (q - k)

    mixed: Tensor = flex_attention(
        q, k, v, score_mod=bias, block_mask=p.blocks[window], scale=scale, enable_gqa=q.shape[1] != k.shape[1]
    )
    return mixed


class Attention(nn.Module):
    """Causal multi-head self-attention. [B, T, C] → [B, T, C].

    ``c_attn`` holds the rows of queries (n_head * D), keys and values (n_kv_head * D each), in this order.
    """

    def __init__(self, c: config_module.Model, layer: int) -> None:
        super().__init__()
        self.head = c.n_embd // c.n_head
        self.n_head, self.n_kv_head = c.n_head, c.n_kv_head or c.n_head
        self.sizes = (c.n_head * self.head, self.n_kv_head * self.head, self.n_kv_head * self.head)
        self.c_attn = nn.Linear(c.n_embd, sum(self.sizes), bias=c.bias)
        self.c_proj = nn.Linear(c.n_embd, c.n_embd, bias=c.bias)
        self.window = window_of(c, layer)
        self.qk_norm = c.qk_norm
        # Normalised queries and keys cannot grow to sharpen attention: modded-nanogpt's fixed scale for heads of 128.
        self.scale = (1.36 if c.qk_norm else 1.0) / math.sqrt(self.head)
        self.dropout = c.dropout

    def project(self, x: Tensor, rotation: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [B, n_head, T, D], keys and values [B, n_kv_head, T, D], normalised and rotated where configured."""
        q, k, v = (part.unflatten(2, (-1, self.head)) for part in self.c_attn(x).split(self.sizes, dim=2))
        if self.qk_norm:
            q, k = F.rms_norm(q, (self.head,), eps=1e-6), F.rms_norm(k, (self.head,), eps=1e-6)
        if rotation is not None:
            q, k = rotate(q, rotation), rotate(k, rotation)
        return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)

    def forward(self, x: Tensor, p: Positions) -> Tensor:
        q, k, v = self.project(x, p.rotation)
        if self.window in p.blocks:
            y = _flex(q, k, v, p, self.window, self.scale)
        else:
            mask = p.masks.get(self.window)
            y = F.scaled_dot_product_attention(
                q, k, v, attn_mask=mask if mask is None or mask.dtype == torch.bool else mask.to(q.dtype),
                dropout_p=self.dropout if self.training else 0.0, is_causal=mask is None, scale=self.scale,
                enable_gqa=self.n_kv_head != self.n_head,
            )  # fmt: skip
        y = self.c_proj(y.transpose(1, 2).flatten(2))
        return F.dropout(y, self.dropout, self.training)
