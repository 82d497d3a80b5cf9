"""The head's kernel on a GPU: against float64, and its time by block and warps.

python -m tests.benchmarks.gpu.head
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
import triton

from engine import head_kernel
from engine.head import IGNORE, lean_cross_entropy


def check() -> None:
    """Losses and gradients against plain float64 expressions, on random inputs."""
    for rows, width, vocabulary, softcap in ((9000, 64, 50304, 0.0), (9000, 64, 50304, 15.0), (100, 64, 999, 5.0)):
        hidden = torch.randn(rows, width, device="cuda", dtype=torch.bfloat16, requires_grad=True)
        weight = (torch.randn(vocabulary, width, device="cuda") * 0.5).requires_grad_()
        targets = torch.randint(0, vocabulary, (rows,), device="cuda")
        targets[::7] = IGNORE
        loss = lean_cross_entropy(hidden, weight, targets, softcap)
        loss.backward()
        a = hidden.detach().double().requires_grad_()
        b = weight.detach().bfloat16().double().requires_grad_()
        logits = a @ b.T
        bent = softcap * torch.tanh(logits / softcap) if softcap else logits
        expected = F.cross_entropy(bent, targets, ignore_index=IGNORE)
        expected.backward()
        for what, x, y in (("loss", loss, expected), ("hidden", hidden.grad, a.grad), ("weight", weight.grad, b.grad)):
            error = float((x.double() - y).norm() / y.norm())
            print(f"V {vocabulary} softcap {softcap}: {what} relative error {error:.1e}")
            assert error < 1e-2


def times() -> None:
    """Milliseconds of the kernel on 8,192 rows, by block and warps."""
    logits = torch.randn(8192, 50304, device="cuda", dtype=torch.bfloat16)
    targets = torch.randint(0, 50304, (8192,), device="cuda")
    losses = torch.empty(8192, device="cuda")
    for block, warps in ((4096, 8), (4096, 16), (8192, 16), (8192, 32), (16384, 32)):

        def go(block: int = block, warps: int = warps) -> None:
            head_kernel._rows[(8192,)](
                logits, targets, losses, 50304, 1.0, 1.0, CAPPED=False, GRADIENT=True, IGNORED=IGNORE, BLOCK=block,
                num_warps=warps,
            )  # fmt: skip

        print(f"rows 8192, block {block}, warps {warps}: {triton.testing.do_bench(go, 20, 60):.3f} ms", flush=True)


if __name__ == "__main__":
    check()
    times()
