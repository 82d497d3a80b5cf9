"""The model and its optimiser against a plain implementation that shares nothing with them."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from engine import optim
from engine.config import resolve
from engine.head import IGNORE, lean_cross_entropy, token_losses
from engine.model import GPT

SHAPE = ["model.n_layer=2", "model.n_head=2", "model.n_embd=16", "model.block_size=24", "model.vocab_size=300"]


def reference_logits(w: dict[str, Tensor], tokens: Tensor, n_layer: int, n_head: int) -> Tensor:
    """GPT-2, written out."""

    def norm(x: Tensor, name: str) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return scaled * w[f"{name}.weight"] + w.get(f"{name}.bias", torch.zeros(1, dtype=x.dtype))

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", torch.zeros(1, dtype=x.dtype))

    t = tokens.shape[1]
    x = w["wte.weight"][tokens] + w["wpe.weight"][:t]
    mask = torch.full((t, t), -math.inf, dtype=x.dtype).triu(1)
    for layer in range(n_layer):
        h = f"h.{layer}"
        q, k, v = linear(norm(x, f"{h}.ln_1"), f"{h}.attn.c_attn").chunk(3, dim=-1)
        heads = []
        for qi, ki, vi in zip(*(part.chunk(n_head, dim=-1) for part in (q, k, v)), strict=True):
            scores = qi @ ki.transpose(1, 2) / math.sqrt(qi.shape[-1]) + mask
            heads.append(scores.softmax(-1) @ vi)
        x = x + linear(torch.cat(heads, -1), f"{h}.attn.c_proj")
        wide = linear(norm(x, f"{h}.ln_2"), f"{h}.mlp.c_fc")
        wide = 0.5 * wide * (1 + torch.erf(wide / math.sqrt(2)))
        x = x + linear(wide, f"{h}.mlp.c_proj")
    return norm(x, "ln_f") @ w["wte.weight"].T


def reference_loss(w: dict[str, Tensor], tokens: Tensor, targets: Tensor) -> Tensor:
    logits = reference_logits(w, tokens, 2, 2)
    return -logits.log_softmax(-1).gather(-1, targets.unsqueeze(-1)).mean()


def batch(seed: int = 1) -> tuple[Tensor, Tensor]:
    tokens = torch.randint(0, 300, (3, 25), generator=torch.Generator().manual_seed(seed))
    return tokens[:, :-1], tokens[:, 1:]


@pytest.mark.parametrize("bias", ["true", "false"])
def test_forward_and_gradients(bias: str) -> None:
    model = GPT(resolve(sets=[*SHAPE, f"model.bias={bias}"]).model)
    for p in model.parameters():  # away from the initialisation, where biases are 0 and norms 1
        p.data.add_(torch.randn_like(p) * 0.1)
    tokens, targets = batch()
    w = {n: p.detach().double().requires_grad_() for n, p in model.named_parameters()}
    expected = reference_loss(w, tokens, targets)
    expected.backward()
    loss = model(tokens, targets)
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    torch.testing.assert_close(model(tokens).double(), reference_logits(w, tokens, 2, 2), rtol=1e-4, atol=1e-5)
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.grad.double(), w[name].grad, rtol=1e-3, atol=1e-6, msg=name)


def test_ten_steps_of_adamw() -> None:
    c = resolve(sets=[*SHAPE, "optim.lr=1e-2", "optim.grad_clip=0.5"])
    model = GPT(c.model)
    optimiser = optim.build(model, c.optim, "cpu")
    w = {n: p.detach().double().requires_grad_() for n, p in model.named_parameters()}
    first = {n: torch.zeros_like(p) for n, p in w.items()}
    second = {n: torch.zeros_like(p) for n, p in w.items()}
    for step in range(1, 11):
        tokens, targets = batch(step)
        loss = model(tokens, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), c.optim.grad_clip)
        optimiser.step()
        optimiser.zero_grad()

        expected = reference_loss(w, tokens, targets)
        gradients = dict(zip(w, torch.autograd.grad(expected, list(w.values())), strict=True))
        norm = math.sqrt(sum(float(g.square().sum()) for g in gradients.values()))
        with torch.no_grad():
            for name, p in w.items():
                g = gradients[name] * min(1.0, 0.5 / (norm + 1e-6))
                first[name] = 0.9 * first[name] + 0.1 * g
                second[name] = 0.95 * second[name] + 0.05 * g * g
                if p.dim() == 2:
                    p.mul_(1 - 1e-2 * 0.1)
                corrected = second[name].div(1 - 0.95**step).sqrt().add(1e-8)
                p.sub_(1e-2 * first[name] / (1 - 0.9**step) / corrected)
        assert loss.item() == pytest.approx(expected.item(), rel=2e-5), f"step {step}"


def test_decay_is_for_matrices_only() -> None:
    model = GPT(resolve(sets=[*SHAPE, "model.bias=true"]).model)
    groups = optim.build(model, resolve().optim, "cpu").param_groups
    for p, decay in ((p, g["weight_decay"]) for g in groups for p in g["params"]):
        assert decay == (0.1 if p.dim() == 2 else 0)
    assert sum(p.numel() for g in groups for p in g["params"]) == sum(p.numel() for p in model.parameters())


def test_initialisation() -> None:
    model = GPT(resolve(sets=["model.n_layer=8", "model.n_embd=128", "model.n_head=2", "model.vocab_size=2000"]).model)
    for name, p in model.state_dict().items():
        if p.dim() == 2:
            expected = 0.02 / 4 if name.endswith("c_proj.weight") else 0.02
            assert float(p.std()) == pytest.approx(expected, rel=0.05), name
            assert abs(float(p.mean())) < 1e-3
        else:
            assert (p == 1).all(), name
    tokens = torch.randint(0, 2000, (2, 64))
    assert model(tokens, tokens.roll(-1, 1)).item() == pytest.approx(math.log(2000), abs=0.1)


@pytest.mark.parametrize("count", [1, 255, 256, 257, 600])
def test_lean_loss_equals_the_plain_one(count: int) -> None:
    hidden, weight = torch.randn(count, 8), torch.randn(77, 8)
    targets = torch.randint(0, 77, (count,))
    if count > 2:
        targets[::3] = IGNORE
    a, b = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
    plain = F.cross_entropy(a @ b.T, targets, ignore_index=IGNORE)
    plain.backward()
    c, d = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
    lean = lean_cross_entropy(c, d, targets)
    (lean * 1.0).backward()
    torch.testing.assert_close(lean, plain)
    torch.testing.assert_close(c.grad, a.grad)
    torch.testing.assert_close(d.grad, b.grad)
    expected = F.cross_entropy(hidden @ weight.T, targets, ignore_index=IGNORE, reduction="none")
    torch.testing.assert_close(token_losses(hidden, weight, targets), expected)


def test_huge_logits_stay_finite() -> None:
    hidden = torch.full((4, 8), 1000.0, requires_grad=True)
    weight = torch.randn(50, 8, requires_grad=True)
    loss = lean_cross_entropy(hidden, weight, torch.tensor([0, 1, 2, 3]))
    loss.backward()
    assert loss.isfinite() and weight.grad is not None and weight.grad.isfinite().all()


def test_bfloat16_takes_the_other_path_and_agrees() -> None:
    model = GPT(resolve(sets=SHAPE).model)
    tokens, targets = batch()
    full = model(tokens, targets)
    full.backward()
    gradient = model.wte.weight.grad.clone()
    model.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = model(tokens, targets)
        each = model(tokens, targets, per_token=True)
    half.backward()
    assert half.item() == pytest.approx(full.item(), abs=0.01)
    assert each.mean().item() == pytest.approx(full.item(), abs=0.01)
    assert F.cosine_similarity(model.wte.weight.grad.flatten(), gradient.flatten(), dim=0) > 0.99


def test_a_later_token_changes_nothing_before_it() -> None:
    model = GPT(resolve(sets=SHAPE).model).eval()
    tokens, _ = batch()
    other = tokens.clone()
    other[:, 10] = (other[:, 10] + 1) % 300
    a, b = model(tokens), model(other)
    torch.testing.assert_close(a[:, :10], b[:, :10])
    assert not torch.allclose(a[:, 10:], b[:, 10:])
