"""The optimiser: AdamW, or Muon for the blocks' matrices with AdamW for the rest; decay on matrices only.

Loshchilov & Hutter 2019 (arXiv 1711.05101); the split into decayed and undecayed parameters is that of GPT-2's and
nanoGPT's training: what has two dimensions (matrices and embeddings) decays, norms and biases do not. With Muon the
embeddings do not either: their rate is far too high for it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from engine import config
from engine.attention import Attention
from engine.model import MLP
from engine.muon import MuonAdamW
from engine.parallel import is_shard


def build(model: nn.Module, c: config.Optim, device_type: str) -> torch.optim.AdamW:
    """The optimiser of the model's parameters; its first group is the matrices', whose rate the events report.

    Each group's ``"scale"`` is its learning rate in units of the matrices'.
    """
    kinds: dict[str, list[nn.Parameter]] = {"matrices": [], "embeddings": [], "head": [], "scalars": []}
    for name, p in model.named_parameters():
        kind = "embeddings" if name.split(".")[-2] in ("wte", "wpe") else "head" if "lm_head" in name else "matrices"
        kinds[kind if p.dim() >= 2 else "scalars"].append(p)
    muon = c.kind == "muon"
    scales = {"embeddings": c.embed_scale, "head": c.head_scale, "scalars": c.scalar_scale}
    groups: list[dict[str, Any]] = []
    for kind, parameters in kinds.items():
        decays = kind == "matrices" or (not muon and kind != "scalars")
        scale = scales.get(kind, 1.0)
        if parameters or kind == "matrices":
            groups.append({"params": parameters, "weight_decay": c.weight_decay if decays else 0.0, "scale": scale})
    fused = device_type in ("cuda", "cpu")  # one pass over memory instead of a dozen
    betas = (c.betas[0], c.betas[1])
    if not muon:
        return torch.optim.AdamW(groups, lr=c.lr, betas=betas, eps=1e-8, fused=fused)
    pieces = _pieces(model)
    groups[0].update(muon=True, momentum=c.momentum, splits=[pieces.get(p, [len(p)]) for p in groups[0]["params"]])
    return MuonAdamW(groups, lr=c.lr, betas=betas, eps=1e-10, fused=fused)


def _pieces(model: nn.Module) -> dict[Tensor, list[int]]:
    """Rows of those parameters that hold several matrices."""
    found: dict[Tensor, list[int]] = {}
    for module in model.modules():
        if isinstance(module, Attention):
            found[module.c_attn.weight] = list(module.sizes)
        elif isinstance(module, MLP) and module.kind == "swiglu":
            found[module.c_fc.weight] = [len(module.c_fc.weight) // 2] * 2
    return found


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set the matrices' learning rate, and every other group's in its proportion to it."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["scale"]


def state_tensors(model: nn.Module, optimiser: torch.optim.AdamW) -> dict[str, Tensor]:
    """The optimiser's state as named tensors, ``<state>.<parameter>``; empty before the first step."""
    return {
        f"{key}.{name}": value
        for name, parameter in model.named_parameters()
        for key, value in optimiser.state.get(parameter, {}).items()
    }


def load_state(model: nn.Module, optimiser: torch.optim.AdamW, tensors: dict[str, Tensor]) -> None:
    """Take in what ``state_tensors`` gave.

    Raises:
        KeyError: state of a parameter that the model does not have.
        ValueError: a shape that is not the parameter's.
    """
    parameters = dict(model.named_parameters())
    for full, value in tensors.items():
        key, _, name = full.partition(".")
        parameter = parameters[name]
        if key != "step" and value.shape != parameter.shape:
            raise ValueError(f"optimiser state {full} has shape {list(value.shape)}, not {list(parameter.shape)}")
        fused = optimiser.defaults.get("fused")
        device = parameter.device if key != "step" or (fused and parameter.device.type == "cuda") else "cpu"
        if is_shard(parameter) and key != "step":
            from torch.distributed.tensor import DTensor, distribute_tensor

            assert isinstance(parameter, DTensor)
            optimiser.state[parameter][key] = distribute_tensor(value, parameter.device_mesh, parameter.placements)
        else:
            optimiser.state[parameter][key] = value.to(device, copy=True)
