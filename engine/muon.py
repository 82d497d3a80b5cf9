"""Muon for the blocks' matrices, AdamW for the rest.

Jordan et al. 2024 (kellerjordan.github.io/posts/muon): Nesterov momentum, whose matrix is then replaced by the nearest
semi-orthogonal one, so that every direction moves at the same rate. The orthogonalisation is five steps of a
Newton-Schulz iteration in bfloat16 with the coefficients of Polar Express (Amsel et al. 2025, arXiv 2505.16932), in
batches: all matrices of one shape at once, the queries', keys' and values' rows of ``c_attn`` as matrices of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# Five steps; each takes the singular values in [l, 1] to a narrower interval around 1.
POLAR_EXPRESS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)


def orthogonal(matrices: Tensor, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """The semi-orthogonal factors of matrices [K, rows, columns], nearly: singular values end within about 0.1 of 1."""
    x = matrices.to(dtype)
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) * 1.02 + 1e-6)
    for a, b, c in POLAR_EXPRESS:
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class MuonAdamW(torch.optim.AdamW):
    """One optimiser of both kinds: groups with ``"muon": True`` hold matrices, the others are AdamW's.

    Of each of Muon's groups ``"splits"`` says into which pieces of rows each of its parameters is cut. State of a
    matrix: ``momentum``, in its shape. ``found_inf``, if set (float32 scalar on the device), leaves a step out where
    it is 1.
    """

    def __init__(self, groups: list[dict[str, Any]], *, fused: bool, **defaults: Any) -> None:
        super().__init__(groups, fused=fused, **defaults)
        self.found_inf: Tensor | None = None

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of every group."""
        groups = self.param_groups
        self.param_groups = [g for g in groups if not g.get("muon")]
        try:
            super().step(closure)
        finally:
            self.param_groups = groups
        for group in groups:
            if group.get("muon"):
                self._muon(group)

    @torch.no_grad()
    def _muon(self, group: dict[str, Any]) -> None:
        rate, decay, beta = group["lr"], group["weight_decay"], group["momentum"]
        found = self.found_inf
        keep: Any = 1.0 if found is None else 1.0 - found
        cut = [(p, s) for p, s in zip(group["params"], group["splits"], strict=True) if p.grad is not None]
        parameters, gradients = [p for p, _ in cut], [p.grad for p, _ in cut]
        if not parameters:
            return
        if found is not None:
            gradients = [torch.nan_to_num(g, 0.0, 0.0, 0.0) for g in gradients]
        moments = [self.state[p].setdefault("momentum", torch.zeros_like(p)) for p in parameters]
        # m <- beta m + (1 - beta) g, and Nesterov's look ahead; a step that is left out moves nothing.
        torch._foreach_add_(moments, torch._foreach_mul(torch._foreach_sub(gradients, moments), (1 - beta) * keep))
        updates = torch._foreach_lerp(gradients, moments, beta)
        torch._foreach_mul_(parameters, 1.0 - rate * decay * keep)
        pieces: dict[tuple[int, ...], list[tuple[Tensor, Tensor]]] = {}
        for (parameter, split), update in zip(cut, updates, strict=True):
            for p, u in zip(parameter.split(split), update.split(split), strict=True):
                pieces.setdefault(tuple(p.shape), []).append((p, u))
        for (rows, columns), same in pieces.items():
            scale = rate * max(1.0, rows / columns) ** 0.5
            moved = orthogonal(torch.stack([u for _, u in same])).float() * (-scale * keep)
            torch._foreach_add_([p for p, _ in same], list(moved.unbind()))
