"""Exact GELU, cheaper where it is compiled for a GPU.

The library's erf makes GELU a kernel bound by arithmetic on a fast card. Abramowitz & Stegun 7.1.26 gives erf within
1.5e-7, float32's own resolution at 1, from one exponential, which the derivative then shares. Where there is Triton it
is a kernel of our own (``engine.gelu_kernel``), else an expression for torch.compile to fuse.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_P = 0.3275911
_A = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)


def gelu(x: Tensor) -> Tensor:
    """x * Phi(x), Phi the normal distribution (Hendrycks & Gimpel 2016); not the tanh approximation."""
    if torch.compiler.is_compiling() and x.is_cuda:
        y: Tensor = FastGELU.apply(x)
        return y
    return F.gelu(x)


def _kernel() -> bool:
    return hasattr(torch.ops.gptbench, "gelu")


def _phi(x: Tensor) -> tuple[Tensor, Tensor]:
    """Phi(x) and exp(-x² / 2), float32."""
    z = x.abs() * 0.7071067811865476
    t = 1.0 / (1.0 + _P * z)
    e = torch.exp(-z * z)
    poly = t * (_A[0] + t * (_A[1] + t * (_A[2] + t * (_A[3] + t * _A[4]))))
    tail = 0.5 * poly * e
    return torch.where(x < 0, tail, 1.0 - tail), e


class FastGELU(torch.autograd.Function):
    """GELU and its derivative from one exponential."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        if _kernel():
            y: Tensor = torch.ops.gptbench.gelu(x)
            return y
        wide = x.float()
        return (wide * _phi(wide)[0]).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        if _kernel():
            found: Tensor = torch.ops.gptbench.gelu_backward(x, grad)
            return found
        wide = x.float()
        phi, e = _phi(wide)
        return (grad.float() * (phi + wide * e * 0.3989422804014327)).to(x.dtype)
