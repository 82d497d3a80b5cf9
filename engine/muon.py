"""Muon for the blocks' matrices, AdamW for the rest.

Jordan et al. 2024 (kellerjordan.github.io/posts/muon): Nesterov momentum, whose matrix is then replaced by the nearest
semi-orthogonal one, so that every direction moves at the same rate. The orthogonalisation is five steps of a
Newton-Schulz iteration in bfloat16 with the coefficients of Polar Express (Amsel et al. 2025, arXiv 2505.16932), in
batches: all matrices of one shape at once, the queries', keys' and values' rows of ``c_attn`` as matrices of their own.

Sharded matrices keep their momentum in shards; for the orthogonalisation they are dealt out over the ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor

from engine.parallel import is_shard, local

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
        matrices, splits = [p for p, _ in cut], [s for _, s in cut]
        if not matrices:
            return
        for p in matrices:
            if "momentum" not in self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
        parameters, gradients = [local(p) for p in matrices], [local(p.grad) for p in matrices]
        moments = [local(self.state[p]["momentum"]) for p in matrices]
        if found is not None:
            gradients = [torch.nan_to_num(g, 0.0, 0.0, 0.0) for g in gradients]
        # m <- beta m + (1 - beta) g, and Nesterov's look ahead; a step that is left out moves nothing.
        torch._foreach_add_(moments, torch._foreach_mul(torch._foreach_sub(gradients, moments), (1 - beta) * keep))
        updates = torch._foreach_lerp(gradients, moments, beta)
        torch._foreach_mul_(parameters, 1.0 - rate * decay * keep)
        if not is_shard(matrices[0]):
            _move(parameters, splits, updates, rate, keep)
            return
        dealt = Dealt(matrices)
        wholes = dealt.collect([u.bfloat16() for u in updates])  # as the orthogonalisation takes them
        moves = [torch.zeros_like(w, dtype=parameters[0].dtype) for w in wholes]
        _move(moves, [splits[i] for i in dealt.own], wholes, rate, keep)
        torch._foreach_add_(parameters, dealt.give_back(moves))


def _move(
    targets: list[Tensor], splits: list[list[int]], updates: Sequence[Tensor], rate: float, keep: Any
) -> None:  # fmt: skip
    """Move ``targets`` against the orthogonal factors of ``updates``, piece by piece; all pieces of a shape at once."""
    pieces: dict[tuple[int, ...], list[tuple[Tensor, Tensor]]] = {}
    for target, split, update in zip(targets, splits, updates, strict=True):
        for t, u in zip(target.split(split), update.split(split), strict=True):
            pieces.setdefault(tuple(t.shape), []).append((t, u))
    for (rows, columns), same in pieces.items():
        scale = rate * max(1.0, rows / columns) ** 0.5
        moved = orthogonal(torch.stack([u for _, u in same])).float() * (-scale * keep)
        torch._foreach_add_([t for t, _ in same], list(moved.unbind()))


class Dealt:
    """Matrices of which every rank holds some rows (FSDP2's shards), dealt out so that each is whole on one rank.

    A rank thus orthogonalises its share of them, and each update crosses the network twice: to where it is made whole
    and back (as modded-nanogpt's distributed Muon, which gathers them instead, shares out the work).

    Attributes:
        own: indices of this rank's matrices.
    """

    def __init__(self, matrices: list[Tensor]) -> None:
        self._group = cast(Any, matrices[0]).device_mesh.get_group()
        size, rank = dist.get_world_size(self._group), dist.get_rank(self._group)
        self._dtype, self._device = matrices[0].dtype, matrices[0].device
        self._columns = [m.shape[1] for m in matrices]
        # As torch.chunk has it: as many rows for each rank, fewer or none for the last ones.
        even = [-(-len(m) // size) for m in matrices]
        self._rows = [
            [max(0, min(e, len(m) - r * e)) for r in range(size)] for m, e in zip(matrices, even, strict=True)
        ]
        self._of: list[list[int]] = [[] for _ in range(size)]
        loads = [0] * size
        work = [m.numel() * min(m.shape) for m in matrices]
        for i in sorted(range(len(matrices)), key=lambda i: -work[i]):
            least = loads.index(min(loads))
            loads[least] += work[i]
            self._of[least].append(i)
        self.own = self._of[rank]
        self._here = [(i, self._rows[i][rank]) for part in self._of for i in part]  # shards, as they are sent
        self._there = [(i, self._rows[i][r]) for r in range(size) for i in self.own]  # and as they arrive
        self._sent = [sum(self._rows[i][rank] * self._columns[i] for i in part) for part in self._of]
        self._received = [sum(self._rows[i][r] * self._columns[i] for i in self.own) for r in range(size)]

    def collect(self, shards: list[Tensor]) -> list[Tensor]:
        """The whole matrices of ``own``, of this rank's rows [rows here, columns] of all of them."""
        out = self._exchange([shards[i] for i, _ in self._here], self._sent, self._received, self._there)
        return [torch.cat(out[k :: len(self.own)]) for k in range(len(self.own))]

    def give_back(self, wholes: list[Tensor]) -> list[Tensor]:
        """This rank's rows of all matrices, of the whole ones of ``own``."""
        cut = [w.split(self._rows[i]) for i, w in zip(self.own, wholes, strict=True)]
        parts = [rows[r] for r in range(len(self._of)) for rows in cut]
        out = self._exchange(parts, self._received, self._sent, self._here)
        by_index = {i: rows for (i, _), rows in zip(self._here, out, strict=True)}
        return [by_index[i] for i in range(len(by_index))]

    def _exchange(
        self, parts: list[Tensor], sent: list[int], received: list[int], expected: list[tuple[int, int]]
    ) -> list[Tensor]:  # fmt: skip
        """Send ``parts``, so many elements to each rank; what arrives as matrices of the ``expected`` rows."""
        dtype = parts[0].dtype if parts else self._dtype
        send = torch.cat([torch.empty(0, dtype=dtype, device=self._device), *(p.flatten() for p in parts)])
        out = send.new_empty(sum(received))
        dist.all_to_all_single(out, send, received, sent, group=self._group)
        pieces = out.split([rows * self._columns[i] for i, rows in expected])
        return [p.view(rows, self._columns[i]) for (i, rows), p in zip(expected, pieces, strict=True)]
