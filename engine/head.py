"""The head: hidden states to losses, without the logits of a whole batch ever standing in memory.

Logits are made for some rows at a time and turned at once into their loss and into both gradients, so that the head
costs the same three matrix products as the plain way, and memory for ``head_rows`` rows rather than for all (the idea
of Liger-Kernel's fused linear cross-entropy, linkedin/Liger-Kernel). On CUDA one Triton kernel does a row in place
(``engine.head_kernel``); a CPU works in place too; what is left is written for torch.compile to fuse.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

IGNORE = -1  # a target that is not trained on or counted


def head_rows(device_type: str, compiled: bool = False) -> int:
    """Tokens whose logits are computed at a time: few enough to stay in a CPU's cache, enough to fill a GPU.

    Where nothing is compiled and there is no kernel, several float32 temporaries stand beside them, hence fewer.
    """
    if device_type == "cpu":
        return 256
    return 8192 if compiled or device_type == "cuda" else 1024


def lean_cross_entropy(
    hidden: Tensor, weight: Tensor, targets: Tensor, softcap: float = 0.0, fp8: bool = False
) -> Tensor:
    """Mean cross-entropy of ``hidden @ weight.T`` against ``targets``, without the logits ever standing in memory.

    Args:
        hidden: [N, C], in the dtype the products are to be computed in.
        weight: [V, C], float32.
        targets: int64 [N]; ``IGNORE`` is left out.
        softcap: logits are ``softcap * tanh(logits / softcap)``; 0: as they are.
        fp8: compute the products in eight bits, where a gradient is wanted: see ``engine.head_fp8``.

    Returns:
        float32 scalar; NaN if every target is ignored.
    """
    if not torch.is_grad_enabled():
        return token_losses(hidden, weight, targets, softcap).sum() / (targets != IGNORE).sum()
    loss: Tensor = _LeanCrossEntropy.apply(hidden, weight, targets, softcap, fp8)
    return loss


def token_losses(hidden: Tensor, weight: Tensor, targets: Tensor, softcap: float = 0.0) -> Tensor:
    """Cross-entropy of each target, float32 [N], 0 where ignored; no gradient. Arguments as ``lean_cross_entropy``."""
    hidden, weight = hidden.detach(), weight.detach()
    if _kernel(hidden):
        losses: Tensor = torch.ops.gptbench.head(hidden, weight, targets, softcap, False)[0]
        return losses
    cast, rows = weight.to(hidden.dtype), head_rows(hidden.device.type, torch.compiler.is_compiling())
    plain = _in_one_buffer(hidden)
    buffer = hidden.new_empty(min(rows, len(hidden)), len(weight)) if plain else hidden
    found = []
    for h, t in zip(hidden.split(rows), targets.split(rows), strict=True):
        logits = torch.mm(h, cast.t(), out=buffer[: len(h)]) if plain else (h @ cast.t()).float()
        logits = capped(logits, softcap)
        target = logits.gather(1, t.clamp(min=0).unsqueeze(1)).squeeze(1)
        highest = logits.amax(1)
        total = logits.sub_(highest.unsqueeze(1)).exp_().sum(1)
        found.append(torch.where(t == IGNORE, 0.0, total.log() + highest - target))
    return torch.cat(found)


def capped(logits: Tensor, softcap: float) -> Tensor:
    """Logits bent below ``softcap`` (Gemma 2, arXiv 2408.00118); 0: as they are."""
    return softcap * torch.tanh(logits / softcap) if softcap else logits


def _kernel(hidden: Tensor) -> bool:
    """Whether the Triton kernel serves; it comes with torch's builds for CUDA on Linux."""
    return hidden.device.type == "cuda" and hasattr(torch.ops.gptbench, "head")


def _in_one_buffer(hidden: Tensor) -> bool:
    """Whether the logits share one buffer and are worked on in place: on a CPU fresh memory costs a page fault every
    4 KiB, and each pass over it counts, which doubles the time; elsewhere torch.compile does better without."""
    return hidden.device.type == "cpu" and hidden.dtype == torch.float32


class _LeanCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, softcap: float, fp8: bool) -> Tensor:
        count = (targets != IGNORE).sum()
        if fp8 or _kernel(hidden):
            found = (
                torch.ops.gptbench.head_fp8(hidden, weight, targets, softcap)
                if fp8
                else torch.ops.gptbench.head(hidden, weight, targets, softcap, True)
            )
            losses, grad_hidden, grad_weight = found
            ctx.save_for_backward(grad_hidden, grad_weight, count)
            return losses.sum() / count
        rows, cast = head_rows(hidden.device.type, torch.compiler.is_compiling()), weight.to(hidden.dtype)
        plain = _in_one_buffer(hidden) and not softcap
        buffer = hidden.new_empty(min(rows, len(hidden)), len(weight)) if plain else hidden
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        grad_weight = torch.zeros_like(weight)
        parts = []
        for h, t in zip(hidden.split(rows), targets.split(rows), strict=True):
            if plain:
                loss, grad = _in_place(torch.mm(h, cast.t(), out=buffer[: len(h)]), t.unsqueeze(1))
                grad_weight.addmm_(grad.t(), h)
            else:
                loss, grad = _fusible(h @ cast.t(), t.unsqueeze(1), softcap)
                grad_weight += grad.t() @ h
            total = total + loss
            parts.append(grad @ cast)
        ctx.save_for_backward(torch.cat(parts), grad_weight, count)
        return total / count

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        grad_hidden, grad_weight, count = ctx.saved_tensors
        scale = grad_output / count
        return grad_hidden * scale.to(grad_hidden.dtype), grad_weight * scale, None, None, None


def _fusible(logits: Tensor, targets: Tensor, softcap: float) -> tuple[Tensor, Tensor]:
    """Summed loss and its gradient in the logits' dtype, as an expression that torch.compile fuses into two kernels."""
    wide = capped(logits.float(), softcap)
    kept = targets != IGNORE
    index = targets.clamp(min=0)
    lse = torch.logsumexp(wide, 1, keepdim=True)
    loss = torch.where(kept, lse - wide.gather(1, index), 0.0).sum()
    hit = torch.arange(logits.shape[1], device=logits.device) == index
    grad = torch.where(kept, torch.exp(wide - lse) - hit.float(), 0.0)
    if softcap:
        grad = grad * (1 - (wide / softcap).square())
    return loss, grad.to(logits.dtype)


def _in_place(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The same in the logits' own memory, which the gradient takes over."""
    kept = (targets != IGNORE).to(logits.dtype)
    index = targets.clamp(min=0)
    highest = logits.amax(1, keepdim=True)
    target = logits.gather(1, index)
    total = logits.sub_(highest).exp_().sum(1, keepdim=True)
    loss = ((total.log() + highest - target) * kept).sum()
    grad = logits.mul_(kept / total)
    grad.scatter_add_(1, index, -kept)
    return loss.float(), grad
