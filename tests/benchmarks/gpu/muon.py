"""A step of the optimiser alone: the engine's Muon beside ``torch.optim.Muon``, each with fused AdamW for the rest.

    python -m tests.benchmarks.gpu.muon [key=value …]

torch's takes the parameters as they are, queries, keys and values as one matrix, and goes through them one by one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch

from engine import config, optim
from engine.model import GPT
from tests.benchmarks.gpu.common import DEVICE
from tests.benchmarks.gpu.speed import CUDA, rate


def steps(c: config.Config) -> dict[str, Callable[[int], object]]:
    """One step of each, on gradients that stay what they are."""
    model = GPT(c.model, 0).to(DEVICE)
    for p in model.parameters():
        p.grad = torch.randn_like(p)
    ours = optim.build(model, c.optim, DEVICE.type)
    matrices, *rest = ours.param_groups
    muon = torch.optim.Muon(matrices["params"], lr=c.optim.lr, weight_decay=c.optim.weight_decay)
    others = torch.optim.AdamW([p for group in rest for p in group["params"]], lr=1e-4, fused=True)

    def theirs(_: int) -> None:
        muon.step()
        others.step()

    return {"engine": lambda _: ours.step(), "torch.optim.Muon": theirs}


def main() -> int:
    base = ["model.preset=modern-124m"] if CUDA else ["model.preset=modern-25m"]
    c = config.resolve(sets=[*base, *sys.argv[1:]])
    for name, step in steps(c).items():
        print(f"{name}: {rate(step) * 1e3:.2f} ms a step of {c.model.preset}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
