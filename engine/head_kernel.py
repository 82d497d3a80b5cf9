"""The head on CUDA: matrix products by cuBLAS, and one Triton kernel that turns a row of logits into loss and gradient.

The kernel reads a row twice and writes the gradient, here over it, in place. It was bound by arithmetic, and is
written for few instructions an element: exponentials to base two, no mask but at a row's end, the target by itself.
The operator is opaque to torch.compile, which then has neither its loop to unroll nor its kernels to build.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from engine.head import IGNORE, head_rows

LOG2E = tl.constexpr(1.4426950408889634)
LOWEST = tl.constexpr(-1e30)  # below every logit, and finite: the difference of two of them is a number


@triton.jit
def _tanh(x):  # type: ignore[no-untyped-def]
    """Hyperbolic tangent by the card's own instruction, within 2^-11: the logits' bfloat16 is coarser."""
    return tl.inline_asm_elementwise("tanh.approx.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1)


@triton.jit
def _taken(x, highest, total):  # type: ignore[no-untyped-def]
    """Online sums of exponentials (Milakov & Gimelshein 2018, arXiv 1805.02867), one for each group of neighbours, so
    that threads need not wait for one another: x [groups, n]; highest and total [groups]."""
    new = tl.maximum(highest, tl.max(x, 1))
    total = total * tl.exp2((highest - new) * LOG2E) + tl.sum(tl.exp2(x * LOG2E - (new * LOG2E)[:, None]), 1)
    return new, total


@triton.jit
def _slope(x, lse, softcap, inverse, scale, CAPPED: tl.constexpr):  # type: ignore[no-untyped-def]
    """``scale`` times the softmax of x, by the logit before it was bent."""
    if CAPPED:
        bent = _tanh(x * inverse)
        return tl.exp2(bent * (softcap * LOG2E) - lse * LOG2E) * (1 - bent * bent) * scale
    return tl.exp2(x * LOG2E - lse * LOG2E) * scale


@triton.jit
def _rows(  # type: ignore[no-untyped-def]
    logits, targets, losses, gradients, vocabulary, softcap, inverse, factor,
    CAPPED: tl.constexpr, GRADIENT: tl.constexpr, IGNORED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program a row: its logsumexp, then its gradient, from which the target's own is taken last."""
    row = tl.program_id(0)
    logits += row.to(tl.int64) * vocabulary
    gradients += row.to(tl.int64) * vocabulary
    target = tl.load(targets + row)
    kept = target != IGNORED
    at_target = tl.load(logits + tl.where(kept, target, 0)).to(tl.float32)
    inner = tl.arange(0, BLOCK // 8)[:, None] * 8 + tl.arange(0, 8)[None, :]
    whole = vocabulary // BLOCK * BLOCK  # what stands behind is masked
    rest = whole + inner < vocabulary
    if CAPPED:  # no logit is above softcap: it stands for the highest
        sums = tl.zeros((BLOCK // 8, 8), tl.float32)
        for begin in range(0, whole, BLOCK):
            x = tl.load(logits + begin + inner).to(tl.float32)
            sums += tl.exp2((_tanh(x * inverse) - 1) * (softcap * LOG2E))
        x = tl.load(logits + whole + inner, mask=rest, other=0.0).to(tl.float32)
        sums += tl.where(rest, tl.exp2((_tanh(x * inverse) - 1) * (softcap * LOG2E)), 0.0)
        lse = softcap + tl.log(tl.sum(tl.sum(sums, 1), 0))
    else:
        highest = tl.full((BLOCK // 8,), LOWEST, tl.float32)
        total = tl.zeros((BLOCK // 8,), tl.float32)
        for begin in range(0, whole, BLOCK):
            highest, total = _taken(tl.load(logits + begin + inner).to(tl.float32), highest, total)
        x = tl.load(logits + whole + inner, mask=rest, other=LOWEST).to(tl.float32)
        highest, total = _taken(x, highest, total)
        top = tl.max(highest, 0)
        lse = top + tl.log(tl.sum(total * tl.exp2((highest - top) * LOG2E), 0))
    loss = lse - (softcap * _tanh(at_target * inverse) if CAPPED else at_target)
    tl.store(losses + row, tl.where(kept, loss, 0.0))
    if GRADIENT:
        scale = tl.where(kept, factor, 0.0)
        kind = gradients.dtype.element_ty
        for begin in range(0, whole, BLOCK):
            x = tl.load(logits + begin + inner).to(tl.float32)
            tl.store(gradients + begin + inner, _slope(x, lse, softcap, inverse, scale, CAPPED).to(kind))
        x = tl.load(logits + whole + inner, mask=rest, other=0.0).to(tl.float32)
        tl.store(gradients + whole + inner, _slope(x, lse, softcap, inverse, scale, CAPPED).to(kind), mask=rest)
        tl.debug_barrier()  # another thread wrote there
        own = _slope(at_target, lse, softcap, inverse, scale, CAPPED) - scale
        if CAPPED:
            bent = _tanh(at_target * inverse)
            own += scale * bent * bent
        tl.store(gradients + target, own.to(kind), mask=kept)


def cross_entropy_rows(
    logits: Tensor, targets: Tensor, losses: Tensor, softcap: float, gradients: Tensor | None, factor: float = 1.0
) -> None:
    """Losses of rows of logits [n, V] into ``losses``, and ``factor`` times d loss / d logits into ``gradients``, where
    given: [n, V] of any dtype, the logits themselves for one."""
    rows, vocabulary = logits.shape
    _rows[(rows,)](
        logits, targets, losses, logits if gradients is None else gradients, vocabulary, softcap or 1.0,
        1 / (softcap or 1.0), factor, CAPPED=bool(softcap), GRADIENT=gradients is not None, IGNORED=IGNORE, BLOCK=4096,
        num_warps=8,
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
        cross_entropy_rows(logits, t, losses[begin : begin + step], softcap, logits if gradient else None)
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
