"""Variations of the model: each computes what it says, is causal, and trains; Muon; parameter counts."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from engine import optim, plan
from engine.attention import alibi_slopes, positions, rotary, rotate
from engine.config import PRESETS, ConfigError, resolve
from engine.gelu import FastGELU
from engine.head import IGNORE, lean_cross_entropy, token_losses
from engine.model import GPT
from engine.muon import orthogonal

SHAPE = ["model.n_layer=2", "model.n_head=4", "model.n_embd=32", "model.block_size=24", "model.vocab_size=300"]
MODERN = [*SHAPE, "model.family=modern"]
VARIANTS = [
    [], ["model.mlp=swiglu", "model.qk_norm=false", "model.softcap=0"], ["model.tied=true"], ["model.n_kv_head=2"],
    ["model.window=5"], ["model.positions=alibi"], ["model.positions=learned"],
    ["model.norm=layernorm", "model.bias=true"], ["model.zero_init=false", "model.dropout=0.1"],
]  # fmt: skip


def model_of(sets: list[str]) -> GPT:
    torch.manual_seed(0)
    model = GPT(resolve(sets=sets).model)
    for p in model.parameters():  # away from the zeros it begins with
        p.data.add_(torch.randn_like(p) * 0.1)
    return model.eval()


@pytest.mark.parametrize("family", ["gpt2", "modern"])
@pytest.mark.parametrize("sets", VARIANTS, ids=lambda s: ",".join(s) or "plain")
def test_every_variation_is_causal_counted_and_differentiable(family: str, sets: list[str]) -> None:
    sets = [*SHAPE, f"model.family={family}", *sets]
    model, c = model_of(sets), resolve(sets=sets).model
    assert sum(p.numel() for p in model.parameters()) == plan.parameter_count(c) + plan.position_parameters(c)
    tokens = torch.randint(0, 300, (2, 24))
    other = tokens.clone()
    other[:, 10] = (other[:, 10] + 1) % 300
    a, b = model(tokens), model(other)
    torch.testing.assert_close(a[:, :10], b[:, :10])
    assert not torch.allclose(a[:, 10], b[:, 10])
    targets = tokens.roll(-1, 1)
    loss = model(tokens, targets)
    torch.testing.assert_close(loss, F.cross_entropy(a.flatten(0, 1), targets.flatten()))
    torch.testing.assert_close(model(tokens, targets, per_token=True).mean(), loss)
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("preset", [p for p in PRESETS if p.startswith("modern")])
def test_presets_count_what_they_hold(preset: str) -> None:
    model = resolve(sets=[f"model.preset={preset}", "model.n_layer=1", "model.vocab_size=500"]).model
    assert sum(p.numel() for p in GPT(model).parameters()) == plan.parameter_count(model)


def test_what_a_family_decides_can_be_set() -> None:
    c = resolve(sets=["model.family=modern", "model.tied=true", "optim.kind=adamw"])
    assert (c.model.positions, c.model.tied, c.optim.kind, c.optim.embed_scale) == ("rotary", True, "adamw", 1.0)
    assert resolve(sets=["optim.kind=muon", "optim.lr=0.02"]).optim.lr == 0.02
    assert resolve(overrides=_flat(c)) == c, "a resolved configuration is read back unchanged"


def _flat(c: object) -> dict[str, object]:
    sections = c.to_dict()  # type: ignore[attr-defined]
    return {f"{s}.{k}": v for s, values in sections.items() for k, v in values.items() if v is not None}


@pytest.mark.parametrize("sets", [["model.n_kv_head=3"], ["model.n_head=32", "model.positions=rotary"]])
def test_impossible_shapes_are_refused(sets: list[str]) -> None:
    with pytest.raises(ConfigError, match="n_head"):
        resolve(sets=[*SHAPE, *sets])


def test_rotation_tells_relative_positions() -> None:
    c = resolve(sets=MODERN).model
    q, k = torch.randn(8), torch.randn(8)
    at = rotary(c, torch.arange(20))
    a = rotate(q.expand(1, 20, 1, 8), at)[0, :, 0] @ rotate(k.expand(1, 20, 1, 8), at)[0, :, 0].T
    for offset in range(5):
        diagonal = a.diagonal(offset)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=1e-4, atol=1e-4)


def test_windows_and_slopes() -> None:
    c = resolve(sets=[*MODERN, "model.n_layer=6", "model.window=5"]).model
    assert [plan.window_of(c, i) for i in range(6)] == [5, 5, 5, 24, 5, 24]
    mask = positions(c, 24, torch.device("cpu")).masks[5]
    assert mask[10].nonzero().flatten().tolist() == [6, 7, 8, 9, 10]
    assert alibi_slopes(8, torch.device("cpu")).tolist() == [2.0**-i for i in range(1, 9)]
    assert plan.flops_per_token(c) < plan.flops_per_token(resolve(sets=[*MODERN, "model.n_layer=6"]).model)


@pytest.mark.parametrize("softcap", [0.0, 3.0])
def test_softcapped_loss_and_gradients(softcap: float) -> None:
    hidden, weight = torch.randn(300, 8), torch.randn(77, 8)
    targets = torch.randint(0, 77, (300,))
    targets[::3] = IGNORE
    a, b = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
    logits = a @ b.T
    bent = softcap * torch.tanh(logits / softcap) if softcap else logits
    plain = F.cross_entropy(bent, targets, ignore_index=IGNORE)
    plain.backward()
    c, d = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
    lean = lean_cross_entropy(c, d, targets, softcap)
    lean.backward()
    torch.testing.assert_close(lean, plain)
    torch.testing.assert_close(c.grad, a.grad)
    torch.testing.assert_close(d.grad, b.grad)
    expected = F.cross_entropy(bent.detach(), targets, ignore_index=IGNORE, reduction="none")
    torch.testing.assert_close(token_losses(hidden, weight, targets, softcap), expected)


def test_fast_gelu_is_the_exact_one() -> None:
    x = torch.linspace(-9, 9, 20001, requires_grad=True)
    (y,) = torch.autograd.grad(FastGELU.apply(x).sum(), x)
    (expected,) = torch.autograd.grad(F.gelu(x).sum(), x)
    torch.testing.assert_close(FastGELU.apply(x), F.gelu(x), rtol=0, atol=3e-6)
    torch.testing.assert_close(y, expected, rtol=0, atol=3e-6)


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 16, 64), (2, 64, 16)])
def test_orthogonal_factors(shape: tuple[int, ...]) -> None:
    given = torch.randn(shape)
    u, _, v = torch.linalg.svd(given, full_matrices=False)
    found = orthogonal(given, torch.float32)
    assert F.cosine_similarity(found.flatten(1), (u @ v).flatten(1)).min() > 0.97
    assert (torch.linalg.svdvals(found) - 1).abs().max() < 0.35


def test_muon_moves_each_matrix_by_its_rate() -> None:
    c = resolve(sets=[*MODERN, "optim.weight_decay=0"])
    model = model_of(MODERN)
    optimiser = optim.build(model, c.optim, "cpu")
    optim.set_rate(optimiser, 0.02)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    tokens = torch.randint(0, 300, (2, 25))
    model(tokens[:, :-1], tokens[:, 1:]).backward()
    optimiser.step()
    moved = {n: p.detach() - before[n] for n, p in model.named_parameters()}
    q, k, v = moved["h.0.attn.c_attn.weight"].split(32)
    for matrix, size in (
        (q, 1),
        (k, 1),
        (v, 1),
        (moved["h.1.mlp.c_proj.weight"], 1),
        (moved["h.0.mlp.c_fc.weight"], 2),
    ):
        assert torch.linalg.svdvals(matrix).median().item() == pytest.approx(0.02 * size, rel=0.3)
    assert moved["wte.weight"].abs().max().item() == pytest.approx(0.02 * c.optim.embed_scale, rel=0.01)
    assert moved["lm_head.weight"].abs().max().item() == pytest.approx(0.02 * c.optim.head_scale, rel=0.01)


def test_muon_leaves_a_step_out_and_resumes_exactly() -> None:
    c = resolve(sets=MODERN)
    model = model_of(MODERN)
    optimiser = optim.build(model, c.optim, "cpu")

    def step(poison: bool = False) -> None:
        tokens = torch.arange(50).view(2, 25)
        model(tokens[:, :-1], tokens[:, 1:]).backward()
        if poison:
            model.h[0].attn.c_proj.weight.grad[0, 0] = math.nan
        optimiser.step()
        optimiser.zero_grad()

    step()
    matrix = model.h[0].attn.c_proj.weight
    before, moment = matrix.detach().clone(), optimiser.state[matrix]["momentum"].clone()
    optimiser.found_inf = torch.ones(())
    optimiser._muon(optimiser.param_groups[0])
    step_count = optimiser.state[model.wte.weight]["step"].clone()
    for g in optimiser.param_groups[:1]:
        for p in g["params"]:
            p.grad = torch.full_like(p, math.nan)
    optimiser._muon(optimiser.param_groups[0])
    assert (matrix == before).all() and (optimiser.state[matrix]["momentum"] == moment).all() and step_count == 1
    optimiser.found_inf = None
    optimiser.zero_grad()

    saved = {n: p.detach().clone() for n, p in model.named_parameters()}
    state = {n: t.clone() for n, t in optim.state_tensors(model, optimiser).items()}
    step()
    after = {n: p.detach().clone() for n, p in model.named_parameters()}
    model.load_state_dict(saved)
    optimiser = optim.build(model, c.optim, "cpu")
    optim.load_state(model, optimiser, state)
    step()
    for name, p in model.named_parameters():
        assert (p == after[name]).all(), name


@pytest.mark.parametrize("sets", [[], ["model.mlp=swiglu", "model.n_kv_head=2"]])
def test_modern_learns(sets: list[str]) -> None:
    c = resolve(sets=[*MODERN, *sets])
    torch.manual_seed(1)
    model = GPT(c.model)
    optimiser = optim.build(model, c.optim, "cpu")
    tokens = torch.randint(0, 300, (4, 25))
    losses = []
    for _ in range(25):
        loss = model(tokens[:, :-1], tokens[:, 1:])
        losses.append(loss.item())
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    assert losses[0] == pytest.approx(math.log(300), abs=1e-4), "the head begins at zero"
    assert losses[-1] < 3
