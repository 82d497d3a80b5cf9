"""Document masks: each document is read as if it stood alone, in losses, gradients, evaluations and whole runs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounter
from torch.nn.attention.flex_attention import create_block_mask

from data.packed import Pack
from engine import attention, evaluate, plan
from engine.__main__ import main
from engine.config import resolve
from engine.corpus import Documents, unique_documents
from engine.model import GPT
from engine.plan import window_of
from tests.engine.conftest import data_of, events_of, losses_of, texts_of

EOT, T = 99, 48
LENGTHS = ((5, 17, 26), (11, 37), (48,), (1, 1, 2, 44))  # of the documents in each sequence, which add up to T
SHAPE = [
    "model.n_layer=3", "model.n_head=4", "model.n_embd=32", f"model.block_size={T}", "model.vocab_size=100",
    "model.document_mask=true",
]  # fmt: skip
VARIANTS = [
    ["model.family=modern"], ["model.family=modern", "model.window=6"], ["model.family=modern", "model.n_kv_head=2"],
    ["model.positions=alibi"], ["model.positions=alibi", "model.window=6", "model.n_kv_head=1"],
    ["model.positions=learned"], ["model.positions=learned", "model.window=6"],
]  # fmt: skip


def model_of(sets: list[str]) -> GPT:
    torch.manual_seed(0)
    model = GPT(resolve(sets=[*SHAPE, *sets]).model, EOT)
    for p in model.parameters():  # away from the zeros it begins with
        p.data.add_(torch.randn_like(p) * 0.1)
    return model.eval()


def sequences() -> tuple[Tensor, Tensor]:
    """Tokens and targets [B, T]: the first document of each begins in the middle, the others behind a separator."""
    tokens = torch.randint(0, EOT, (len(LENGTHS), T), generator=torch.Generator().manual_seed(1))
    for row, lengths in zip(tokens, LENGTHS, strict=True):
        row[torch.tensor(lengths).cumsum(0)[:-1]] = EOT
    return tokens, torch.cat([tokens[:, 1:], torch.full((len(tokens), 1), EOT)], dim=1)


def pieces() -> list[tuple[int, int, int]]:
    """Sequence, begin and end of each document."""
    return [
        (row, sum(lengths[:i]), sum(lengths[: i + 1]))
        for row, lengths in enumerate(LENGTHS)
        for i in range(len(lengths))
    ]


@pytest.mark.parametrize("sets", VARIANTS, ids=",".join)
def test_losses_are_those_of_each_document_alone(sets: list[str]) -> None:
    model = model_of(sets)
    tokens, targets = sequences()
    together = model(tokens, targets, per_token=True)
    where = model.wpe.weight.detach().clone() if model.config.positions == "learned" else None
    for row, begin, end in pieces():
        if where is not None:  # learned positions stay those of the sequence
            model.wpe.weight.data = where.roll(-begin, 0)
        alone = model(tokens[row : row + 1, begin:end], targets[row : row + 1, begin:end], per_token=True)
        torch.testing.assert_close(together[row, begin:end], alone[0], rtol=2e-5, atol=2e-5)
    if where is not None:
        model.wpe.weight.data = where
    plain = GPT(resolve(sets=[*SHAPE, *sets, "model.document_mask=false"]).model).eval()
    plain.load_state_dict(model.state_dict())
    unmasked = plain(tokens, targets, per_token=True)
    torch.testing.assert_close(together[2], unmasked[2], rtol=2e-5, atol=2e-5)
    assert (together[0, 5:] - unmasked[0, 5:]).abs().max() > 1e-3, "the mask does something"


@pytest.mark.parametrize("sets", VARIANTS, ids=",".join)
def test_nothing_leaks_from_one_document_into_another(sets: list[str]) -> None:
    model = model_of(sets)
    tokens, targets = sequences()
    before = model(tokens)
    for row, begin, end in pieces():
        other = tokens.clone()
        other[row, end - 1] = (other[row, end - 1] + 1) % EOT if other[row, end - 1] != EOT else EOT
        if begin < end - 1:
            other[row, begin + 1] = (other[row, begin + 1] + 1) % EOT
        changed = (model(other) != before).any(-1)[row]
        assert not changed[:begin].any() and not changed[end:].any()
        assert (other[row] == tokens[row]).all() or changed[end - 1]
    model.train()
    x: list[Tensor] = []

    def keep(module: torch.nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        output.retain_grad()
        x.append(output)

    hook = model.wte.register_forward_hook(keep)
    for row, begin, end in pieces():
        masked = torch.full_like(targets, -1)
        masked[row, begin:end] = targets[row, begin:end]
        model(tokens, masked).backward()
        gradient = x.pop().grad
        assert gradient is not None and (gradient[row, begin:end] != 0).any(-1).all()
        gradient[row, begin:end] = 0
        assert (gradient == 0).all()
    hook.remove()


@pytest.mark.filterwarnings("ignore:flex_attention called without")
@pytest.mark.parametrize("window", [0, 70])
@pytest.mark.parametrize("kind", ["rotary", "alibi"])
def test_flex_attention_sees_what_the_explicit_mask_shows(window: int, kind: str) -> None:
    """What CUDA takes, worked out on the CPU."""
    length = 256
    c = resolve(
        sets=["model.n_layer=2", "model.n_head=4", "model.n_kv_head=2", "model.n_embd=64", f"model.window={window}",
              f"model.block_size={length}", f"model.positions={kind}"]
    ).model  # fmt: skip
    tokens = torch.randint(0, EOT, (3, length))
    tokens[torch.rand(tokens.shape) < 0.02] = EOT
    documents, cpu = attention.documents_of(tokens, EOT), torch.device("cpu")
    p = attention.positions(c, length, cpu, documents=documents)
    q, k, v = torch.randn(3, 4, length, 16), torch.randn(3, 2, length, 16), torch.randn(3, 2, length, 16)
    for layer in range(2):
        w = window_of(c, layer)
        blocks = {w: attention._block_mask(w, length, cpu, documents)}
        flex = attention.Positions(p.rotation, p.slopes, {}, blocks)
        torch.testing.assert_close(
            attention._flex(q, k, v, flex, w, 0.25),
            torch.nn.functional.scaled_dot_product_attention(
                q, k, v, attn_mask=p.masks[w], scale=0.25, enable_gqa=True
            ),
        )  # fmt: skip


@pytest.mark.parametrize("length", [100, 256, 520])
@pytest.mark.parametrize("window", [1, 64, 129, 10_000])
@pytest.mark.parametrize("masked", [False, True])
def test_block_masks_list_the_blocks_that_are_seen(length: int, window: int, masked: bool) -> None:
    documents = (torch.rand(3, length) < 0.02).cumsum(1, dtype=torch.int32) if masked else None
    found = attention._block_mask(window, length, torch.device("cpu"), documents)
    wanted = create_block_mask(found.mask_mod, 3 if masked else 1, 1, length, length, device="cpu")
    assert found.shape == wanted.shape
    for kind in ("kv", "full_kv", "q", "full_q"):
        counts, columns = getattr(found, f"{kind}_num_blocks"), getattr(found, f"{kind}_indices")
        assert (counts == getattr(wanted, f"{kind}_num_blocks")).all()
        listed = torch.arange(columns.shape[-1]) < counts[..., None]
        assert (columns == getattr(wanted, f"{kind}_indices"))[listed].all()


@pytest.mark.filterwarnings("ignore:flex_attention called without")
def test_other_documents_are_no_other_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block compiled by itself takes each batch's mask as an input."""
    model = model_of(["model.family=modern", "model.window=6"])
    counter = CompileCounter()
    block = torch.compile(model.h[0], backend=counter, fullgraph=True)
    tokens, _ = sequences()
    x, addend = torch.randn(2, *tokens.shape, 32)
    with torch.no_grad():
        for batch in (tokens, tokens.flip(0), torch.full_like(tokens, EOT)):
            documents = attention.documents_of(batch, EOT)
            p = attention.positions(model.config, T, torch.device("cpu"), documents=documents)
            masks = {6: attention._block_mask(6, T, torch.device("cpu"), documents)}
            flex = attention.Positions(p.rotation, p.slopes, {}, masks)
            torch.testing.assert_close(block(x, addend, flex), model.h[0](x, addend, p))
    assert counter.frame_count == 1


def test_it_is_one_graph() -> None:
    model = model_of(["model.family=modern", "model.window=6"])
    tokens, targets = sequences()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(tokens, targets), model(tokens, targets))


def test_evaluation_of_many_is_that_of_each(pack_of: Callable[..., Pack]) -> None:
    documents = unique_documents(Documents.of([pack_of(texts_of(6))]))
    sets = ["model.preset=demo-1m", "model.n_layer=2", "model.positions=rotary", "model.block_size=512"]

    def losses(mask: bool, some: Documents) -> list[float]:
        torch.manual_seed(0)
        model = GPT(resolve(sets=[*sets, f"model.document_mask={str(mask).lower()}"]).model, 50256)
        torch.nn.init.normal_(model.wte.weight, std=0.2)
        data = evaluate.build("heldout", some, block=512, cap=60, eot=50256, byte_lengths=None)
        assert len(data.tokens) == 1
        result = evaluate.evaluate(model.eval(), data, batch=2, device=torch.device("cpu"), autocast=nullcontext)
        assert result is not None
        return list(result.losses)

    alone = [losses(False, documents.take(torch.tensor([i]).numpy()))[0] for i in range(6)]
    assert losses(True, documents) == pytest.approx(alone, rel=1e-5)
    assert losses(False, documents) != pytest.approx(alone, rel=1e-5)


def test_a_run_with_document_masks(make_run: Callable[..., Path]) -> None:
    """It trains, resumes exactly, samples and is evaluated; and it is another run than one without."""
    masked = make_run("masked", model__document_mask=True, eval__sample_every=1, eval__sample_tokens=4)
    plain = make_run("plain")
    assert main(["train", str(masked)]) == main(["train", str(plain)]) == 0
    assert losses_of(masked) != losses_of(plain) and data_of(masked)["tokens"] == data_of(plain)["tokens"]
    assert {e["event"] for e in events_of(masked)} >= {"step", "eval", "sample", "checkpoint"}
    broken = make_run("broken", model__document_mask=True, train__max_steps=5, schedule__decay_steps=12)
    assert main(["train", str(broken)]) == 0
    path = broken / "config.toml"
    path.write_text(resolve(path, overrides={"train.max_steps": 12}).to_toml())
    assert main(["train", str(broken)]) == 0
    assert losses_of(broken) == losses_of(masked)
    path.write_text(resolve(path, overrides={"train.max_steps": 13, "model.document_mask": False}).to_toml())
    assert main(["train", str(broken)]) == 1
    assert "model.document_mask was True, is False" in events_of(broken)[-1]["text"]


def test_without_a_separator_there_is_nothing_to_tell_documents_apart_by() -> None:
    with pytest.raises(ValueError, match="document_mask"):
        GPT(resolve(sets=SHAPE).model)


def test_masks_are_planned_for_on_a_cpu() -> None:
    def needed(*sets: str) -> int:
        return plan.memory_needed(resolve(sets=["model.block_size=1024", "train.micro_batch=4", *sets]), device="cpu")

    mask = 4 * 4 * 1024 * 1024
    assert needed("model.document_mask=true") - needed() == mask
    assert needed("model.document_mask=true", "model.window=100") - needed("model.window=100") == 2 * mask
