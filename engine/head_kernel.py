"""The head on CUDA: matrix products by cuBLAS, and one Triton kernel that turns a row of logits into loss and gradient.

The kernel reads a row twice (the second time from the L2 cache: a row is 100 KB, and few are under way at a time) and
writes the gradient over it, in place: one read and one write of memory, where a compiled expression takes two and one.
The operator is opaque to torch.compile, which then has neither its loop to unroll nor its kernels to build.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from engine.head import IGNORE, head_rows


@triton.jit
def _tanh(x):  # type: ignore[no-untyped-def]
    """Hyperbolic tangent by the card's own instruction, within 2^-11: the logits' bfloat16 is coarser."""
    return tl.inline_asm_elementwise("tanh.approx.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1)


@triton.jit
def _rows(  # type: ignore[no-untyped-def]
    logits, targets, losses, vocabulary, softcap, inverse,
    CAPPED: tl.constexpr, GRADIENT: tl.constexpr, IGNORED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program a row: online logsumexp (Milakov & Gimelshein 2018, arXiv 1805.02867), then the gradient."""
    row = tl.program_id(0)
    logits += row.to(tl.int64) * vocabulary
    target = tl.load(targets + row)
    kept = target != IGNORED
    # Read before any thread writes the gradient over it: the reductions below are barriers.
    at_target = tl.load(logits + tl.where(kept, target, 0)).to(tl.float32)
    if CAPPED:
        total = tl.zeros((BLOCK,), tl.float32)
        for begin in range(0, vocabulary, BLOCK):  # no logit is above softcap: it stands for the highest
            at = begin + tl.arange(0, BLOCK)
            x = tl.load(logits + at, mask=at < vocabulary, other=0.0).to(tl.float32)
            total += tl.where(at < vocabulary, tl.exp(softcap * (_tanh(x * inverse) - 1)), 0.0)
        lse = softcap + tl.log(tl.sum(total, 0))
    else:
        highest = -float("inf")
        total = 0.0
        for begin in range(0, vocabulary, BLOCK):
            at = begin + tl.arange(0, BLOCK)
            x = tl.load(logits + at, mask=at < vocabulary, other=-float("inf")).to(tl.float32)
            new = tl.maximum(highest, tl.max(x, 0))
            total = total * tl.exp(highest - new) + tl.sum(tl.exp(x - new), 0)
            highest = new
        lse = highest + tl.log(total)
    if CAPPED:
        at_target = softcap * _tanh(at_target * inverse)
    tl.store(losses + row, tl.where(kept, lse - at_target, 0.0))
    if GRADIENT:
        scale = tl.where(kept, 1.0, 0.0)
        for begin in range(0, vocabulary, BLOCK):
            at = begin + tl.arange(0, BLOCK)
            x = tl.load(logits + at, mask=at < vocabulary, other=0.0).to(tl.float32)
            if CAPPED:
                bent = _tanh(x * inverse)
                p = tl.exp(softcap * bent - lse) - tl.where(at == target, 1.0, 0.0)
                gradient = p * (1 - bent * bent) * scale
            else:
                gradient = (tl.exp(x - lse) - tl.where(at == target, 1.0, 0.0)) * scale
            tl.store(logits + at, gradient.to(logits.dtype.element_ty), mask=at < vocabulary)


def cross_entropy_rows(logits: Tensor, targets: Tensor, losses: Tensor, softcap: float, gradient: bool) -> None:
    """Losses of rows of logits [n, V] into ``losses``; with ``gradient`` the logits become d loss / d logits."""
    rows, vocabulary = logits.shape
    _rows[(rows,)](
        logits, targets, losses, vocabulary, softcap or 1.0, 1 / (softcap or 1.0), CAPPED=bool(softcap),
        GRADIENT=gradient, IGNORED=IGNORE, BLOCK=4096, num_warps=8,
    )  # fmt: skip


@torch.library.custom_op("gptbench::head", mutates_args=())
def head(
    hidden: Tensor, weight: Tensor, targets: Tensor, softcap: float, gradient: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Losses float32 [N] of each target, and the gradients of their sum by hidden [N, C] and by weight [V, C] float32
    (both empty without ``gradient``). Arguments as ``engine.head.lean_cross_entropy``."""
    count, step = len(hidden), head_rows("cuda")
    hidden, cast = hidden.contiguous(), weight.to(hidden.dtype)
    losses = torch.empty(count, dtype=torch.float32, device=hidden.device)
    buffer = torch.empty(min(step, count), len(weight), dtype=hidden.dtype, device=hidden.device)
    grad_hidden = torch.empty_like(hidden if gradient else hidden[:0])
    grad_weight = torch.empty_like(weight if gradient else weight[:0])
    for begin in range(0, count, step):
        h, t = hidden[begin : begin + step], targets[begin : begin + step]
        logits = torch.mm(h, cast.t(), out=buffer[: len(h)])
        cross_entropy_rows(logits, t, losses[begin : begin + step], softcap, gradient)
        if gradient:
            torch.mm(logits, cast, out=grad_hidden[begin : begin + step])
            _accumulate(grad_weight, logits.t(), h, first=begin == 0)
    return losses, grad_hidden, grad_weight


@head.register_fake
def _(hidden: Tensor, weight: Tensor, targets: Tensor, softcap: float, gradient: bool) -> tuple[Tensor, Tensor, Tensor]:
    losses = hidden.new_empty(len(hidden), dtype=torch.float32)
    if not gradient:
        return losses, hidden.new_empty(0, hidden.shape[1]), weight.new_empty(0, weight.shape[1])
    return losses, torch.empty_like(hidden, memory_format=torch.contiguous_format), torch.empty_like(weight)


def _accumulate(total: Tensor, a: Tensor, b: Tensor, first: bool) -> None:
    """``total += a @ b`` in float32, by the matrix product itself."""
    if a.dtype == total.dtype:
        torch.addmm(total, a, b, beta=0 if first else 1, out=total)
    elif first:
        torch.mm(a, b, out_dtype=total.dtype, out=total)
    else:
        torch.addmm(total, a, b, out_dtype=total.dtype, out=total)
