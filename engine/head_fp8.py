"""The head in eight-bit floats, on Hopper and newer: its three matrix products at twice the rate of bfloat16.

Hidden states and weights are scaled by their largest magnitude into e4m3, the gradients of the logits by a power of two
into e5m2 (Micikevicius et al. 2022, arXiv 2209.05433; for a language model's head modded-nanogpt showed it). Logits
come out in bfloat16, both gradients are summed wider; evaluations do not use any of this. These products want both
operands along the dimension that is summed over, hence the copies that stand turned.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from engine.head_kernel import cross_entropy_rows

ROWS = 16384  # tokens whose logits stand at a time: their weight gradients are then added up fewer times
GRADIENT = 2.0**15  # a logit's gradient is at most 1: e5m2 holds 57344, and so 2^-29 of the largest as well
LARGEST = tl.constexpr(448.0)  # of e4m3
ALIGNED = 16  # what every dimension of these products is a multiple of


def fits(tokens: int, width: int, vocabulary: int) -> bool:
    """Whether a head of these dimensions can be computed in eight bits on this machine's first GPU."""
    shapes = all(n % ALIGNED == 0 for n in (tokens, width, vocabulary))
    return shapes and torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 9)


@triton.jit
def _narrow(x, y, factor, count, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """x times ``factor``; what lies a hair above the largest finite number would be NaN."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    wide = tl.load(x + at, mask=at < count, other=0.0).to(tl.float32) * tl.load(factor)
    narrow = tl.minimum(tl.maximum(wide, -LARGEST), LARGEST).to(y.dtype.element_ty)
    tl.store(y + at, narrow, mask=at < count)


@triton.jit
def _turn(x, turned, rows, columns, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """One program a tile of bytes x [rows, columns]. Four-byte numbers are turned: of narrower ones rows got lost."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    j = tl.program_id(1).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = (i < rows)[:, None] & (j < columns)[None, :]
    tile = tl.trans(tl.load(x + i[:, None] * columns + j[None, :], mask=inside, other=0).to(tl.int32))
    tl.store(turned + j[:, None] * rows + i[None, :], tile.to(tl.uint8), mask=tl.trans(inside))


def scaled(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """x [rows, columns] in e4m3, the same turned, and the float32 scalar that takes both back."""
    highest = torch.linalg.vector_norm(x, float("inf"), dtype=torch.float32).clamp(min=1e-12)
    narrow = torch.empty_like(x, dtype=torch.float8_e4m3fn)
    _narrow[(triton.cdiv(x.numel(), 4096),)](x, narrow, LARGEST.value / highest, x.numel(), BLOCK=4096)
    return narrow, turn(narrow), highest / LARGEST.value


def turn(x: Tensor) -> Tensor:
    """x [rows, columns] of one byte each, turned."""
    rows, columns = x.shape
    turned = x.new_empty(columns, rows)
    _turn[(triton.cdiv(rows, 64), triton.cdiv(columns, 64))](
        x.view(torch.uint8), turned.view(torch.uint8), rows, columns, BLOCK=64
    )
    return turned


@torch.library.custom_op("gptbench::head_fp8", mutates_args=())
def head_fp8(hidden: Tensor, weight: Tensor, targets: Tensor, softcap: float) -> tuple[Tensor, Tensor, Tensor]:
    """As ``engine.head_kernel.head`` with ``gradient``, its products in eight bits; dimensions as ``fits`` has them."""
    count = len(hidden)
    h, h_turned, h_scale = scaled(hidden.contiguous())
    w, w_turned, w_scale = scaled(weight)
    g_scale = torch.full((), 1 / GRADIENT, device=hidden.device)
    losses = torch.empty(count, dtype=torch.float32, device=hidden.device)
    grad_hidden = torch.empty(hidden.shape, dtype=hidden.dtype, device=hidden.device)
    grad_weight = torch.zeros_like(weight)
    for begin in range(0, count, ROWS):
        rows = slice(begin, begin + ROWS)
        logits = torch._scaled_mm(h[rows], w.t(), h_scale, w_scale, out_dtype=hidden.dtype, use_fast_accum=True)
        g = torch.empty_like(logits, dtype=torch.float8_e5m2)
        cross_entropy_rows(logits, targets[rows], losses[rows], softcap, g, GRADIENT)
        del logits
        grad_hidden[rows] = torch._scaled_mm(g, w_turned.t(), g_scale, w_scale, out_dtype=hidden.dtype)
        grad_weight += torch._scaled_mm(turn(g), h_turned[:, rows].t(), g_scale, h_scale, out_dtype=torch.float32)
    return losses, grad_hidden, grad_weight


@head_fp8.register_fake
def _(hidden: Tensor, weight: Tensor, targets: Tensor, softcap: float) -> tuple[Tensor, Tensor, Tensor]:
    losses = hidden.new_empty(len(hidden), dtype=torch.float32)
    return losses, torch.empty_like(hidden, memory_format=torch.contiguous_format), torch.empty_like(weight)
