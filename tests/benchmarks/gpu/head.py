"""The head's kernel on a GPU: against float64, and its time by block and warps.

python -m tests.benchmarks.gpu.head [check]
"""

from __future__ import annotations

import sys

import torch
import torch.nn.functional as F
import triton

from engine import head_fp8, head_kernel
from engine.head import IGNORE, lean_cross_entropy


def check(fp8: bool, bound: float, shapes: tuple[tuple[int, int, int, float], ...]) -> None:
    """Losses and gradients against plain float64 expressions, on random inputs; shapes are rows, width, V, softcap."""
    for rows, width, vocabulary, softcap in shapes:
        hidden = torch.randn(rows, width, device="cuda", dtype=torch.bfloat16, requires_grad=True)
        weight = (torch.randn(vocabulary, width, device="cuda") * 0.5).requires_grad_()
        targets = torch.randint(0, vocabulary, (rows,), device="cuda")
        targets[::7] = IGNORE
        loss = lean_cross_entropy(hidden, weight, targets, softcap, fp8)
        loss.backward()
        a = hidden.detach().double().requires_grad_()
        b = weight.detach().bfloat16().double().requires_grad_()
        logits = a @ b.T
        bent = softcap * torch.tanh(logits / softcap) if softcap else logits
        expected = F.cross_entropy(bent, targets, ignore_index=IGNORE)
        expected.backward()
        for what, x, y in (("loss", loss, expected), ("hidden", hidden.grad, a.grad), ("weight", weight.grad, b.grad)):
            error = float(((x.detach().double() - y).norm() / y.norm()).detach())
            print(f"fp8 {fp8}, V {vocabulary} softcap {softcap}: {what} relative error {error:.1e}")
            assert error < bound


def times() -> None:
    """Milliseconds of the kernel on 8,192 rows, by block and warps."""
    logits = torch.randn(8192, 50304, device="cuda", dtype=torch.bfloat16)
    targets = torch.randint(0, 50304, (8192,), device="cuda")
    losses = torch.empty(8192, device="cuda")
    for block, warps in ((2048, 4), (4096, 4), (4096, 8), (4096, 16), (8192, 8), (8192, 16)):

        def go(block: int = block, warps: int = warps) -> None:
            head_kernel._rows[(8192,)](
                logits, targets, losses, logits, 50304, 1.0, 1.0, 1.0, CAPPED=False, GRADIENT=True, IGNORED=IGNORE,
                BLOCK=block, num_warps=warps,
            )  # fmt: skip

        print(f"rows 8192, block {block}, warps {warps}: {triton.testing.do_bench(go, 20, 60):.3f} ms", flush=True)


def whole() -> None:
    """Milliseconds of the head with both gradients, 65,536 tokens, in bfloat16 and in eight bits."""
    for width in (384, 768, 1024):
        hidden = torch.randn(65536, width, device="cuda", dtype=torch.bfloat16, requires_grad=True)
        weight = (torch.randn(50304, width, device="cuda") * 0.05).requires_grad_()
        targets = torch.randint(0, 50304, (65536,), device="cuda")
        for rows in (0, 8192, 16384, 32768):
            head_fp8.ROWS = rows

            def go(
                fp8: bool = rows > 0, h: torch.Tensor = hidden, w: torch.Tensor = weight, t: torch.Tensor = targets
            ) -> None:
                lean_cross_entropy(h, w, t, 0.0, fp8).backward()
                h.grad = w.grad = None

            name = f"fp8, rows {rows}" if rows else "bf16"
            print(f"width {width}, {name}: {triton.testing.do_bench(go, 50, 300):.2f} ms", flush=True)


if __name__ == "__main__":
    junk = [torch.full((1 << 28,), float("nan"), device="cuda") for _ in range(4)]  # what is left unwritten shows
    del junk
    check(False, 1e-2, ((9000, 64, 50304, 0.0), (9000, 64, 50304, 15.0), (100, 64, 999, 5.0)))
    check(True, 6e-2, ((9008, 64, 50304, 0.0), (9008, 64, 50304, 15.0), (96, 64, 1008, 5.0)))
    if "check" not in sys.argv:
        times()
        whole()
