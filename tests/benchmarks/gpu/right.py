"""What a CPU cannot show to be right: compiled FlexAttention with its backward pass, and sharded steps on a GPU.

    python -m tests.benchmarks.gpu.right

Both in float32. Attention is held against SDPA with an explicit mask, a sharded step against a whole one, a step that
is left out against none. Prints a line each; the exit status is 1 if one differs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import torch
import torch.distributed as dist
import torch.nn.functional as F

from engine import attention, config, model, optim, parallel
from tests.benchmarks.gpu.common import DEVICE, EOT

SHAPE = [
    "model.n_layer=2", "model.n_head=4", "model.n_embd=256", "model.block_size=512", "model.vocab_size=50304",
    "model.zero_init=false",
]  # fmt: skip
MASKED = "model.document_mask=true"
VARIANTS = (
    ["model.family=modern", "model.window=150"],
    ["model.positions=alibi", "model.n_kv_head=2"],
    ["model.family=modern", MASKED],
    ["model.family=modern", MASKED, "model.window=150", "model.n_kv_head=2"],
    ["model.positions=alibi", MASKED],
    ["model.positions=learned", MASKED],
)


def explicit(
    c: config.Model, length: int, device: torch.device, table: torch.Tensor | None = None,
    documents: torch.Tensor | None = None,
) -> attention.Positions:  # fmt: skip
    """The positions that a CPU has, on this device."""
    at = None if documents is None else documents.cpu()
    p = attention.positions(c, length, torch.device("cpu"), None if table is None else table.cpu(), at)
    rotation = None if p.rotation is None else (p.rotation[0].to(device), p.rotation[1].to(device))
    slopes = None if p.slopes is None else p.slopes.to(device)
    return attention.Positions(rotation, slopes, {w: m.to(device) for w, m in p.masks.items()}, {})


def batch(c: config.Model) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and targets of a few documents a sequence."""
    tokens = torch.randint(0, EOT, (4, c.block_size), device=DEVICE)
    tokens[torch.rand(tokens.shape, device=DEVICE) < 0.01] = EOT
    return tokens, tokens.roll(-1, 1)


def attentions() -> Iterator[tuple[str, float]]:
    """Largest difference of a token's loss, and of a gradient's direction (1 - cosine), by variant."""
    for sets in VARIANTS:
        torch.manual_seed(0)
        torch._dynamo.reset()
        c = config.resolve(sets=[*SHAPE, *sets]).model
        gpt = model.GPT(c, EOT).to(DEVICE)
        tokens, targets = batch(c)
        if DEVICE.type == "cuda":
            gpt.compile_parts()
        gpt(tokens, targets).backward()
        found = [p.grad.clone() for p in gpt.parameters() if p.grad is not None]
        each = gpt(tokens, targets, per_token=True)
        plain = model.GPT(c, EOT).to(DEVICE)
        plain.load_state_dict(gpt.state_dict())
        model.positions = explicit  # type: ignore[assignment]
        try:
            plain(tokens, targets).backward()
            expected = plain(tokens, targets, per_token=True)
        finally:
            model.positions = attention.positions  # type: ignore[assignment]
        gradients = [p.grad for p in plain.parameters() if p.grad is not None]
        turned = max(
            1 - float(F.cosine_similarity(a.flatten().double(), b.flatten().double(), dim=0))
            for a, b in zip(found, gradients, strict=True)
        )
        name = " ".join(s.removeprefix("model.") for s in sets)
        yield f"{name}: loss", float((each - expected).abs().max())
        yield f"{name}: gradient", turned


def shards() -> Iterator[tuple[str, float]]:
    """Largest difference of a weight between shards and whole parameters, by optimiser; a group of one process."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29543", "RANK": "0", "WORLD_SIZE": "1"}
    dist.init_process_group("cpu:gloo,cuda:nccl" if DEVICE.type == "cuda" else "gloo")
    for kind in ("adamw", "muon"):
        torch._dynamo.reset()
        c = config.resolve(sets=[*SHAPE, "model.family=modern", f"optim.kind={kind}"])
        ranks = parallel.Ranks(0, 1)
        pairs = []
        for shared in (False, True):
            torch.manual_seed(0)
            gpt = model.GPT(c.model)
            if shared:
                ranks.size, ranks.mode = 2, "fsdp"  # what one process never does by itself
                mesh = dist.device_mesh.init_device_mesh(DEVICE.type, (1,))
                original, dist.device_mesh.init_device_mesh = dist.device_mesh.init_device_mesh, lambda *_, m=mesh: m
                ranks.share(gpt, DEVICE)
                dist.device_mesh.init_device_mesh = original
            else:
                gpt.to(DEVICE)
            pairs.append((gpt, optim.build(gpt, c.optim, DEVICE.type)))
        for skipped in (0.0, 1.0):
            torch.manual_seed(1)
            tokens, targets = batch(c.model)
            for gpt, optimiser in pairs:
                if skipped and gpt is pairs[0][0]:
                    continue  # a step that is left out is no step
                gpt(tokens, targets).backward()
                optimiser.found_inf = torch.tensor(skipped, device=DEVICE)  # type: ignore[attr-defined]
                optimiser.step()
                optimiser.zero_grad()
            whole, shared_one = (dict(gpt.named_parameters()) for gpt, _ in pairs)
            far = max(float((parallel.whole(shared_one[n]) - p).detach().abs().max()) for n, p in whole.items())
            yield f"sharded {kind}, step {'left out' if skipped else 'taken'}", far
    dist.destroy_process_group()


def main() -> int:
    worst = 0
    for found in (attentions(), shards()):
        for name, far in found:
            limit = 1e-4 if "gradient" in name else 2e-3
            worst += not far < limit
            print(f"{name}: {far:.2g}{'' if far < limit else f'  WRONG: above {limit}'}", flush=True)
    return int(worst > 0)


if __name__ == "__main__":
    sys.exit(main())
