"""How the step is compiled, and what begins beside a start-up."""

from __future__ import annotations

import threading

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from engine import ahead
from engine.compiled import compiled
from engine.config import Config, resolve
from engine.model import GPT

TINY = ["model.n_layer=4", "model.n_head=2", "model.n_embd=32", "model.block_size=16", "model.vocab_size=64"]


def of(*sets: str) -> Config:
    return resolve(sets=[*TINY, *sets])


@pytest.mark.parametrize("family", ["gpt2", "modern"])
def test_parts_are_the_whole_and_blocks_share_a_graph(family: str) -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    c = of(f"model.family={family}", "model.zero_init=false").model
    model, parts = GPT(c), GPT(c)
    parts.load_state_dict(model.state_dict())
    counter = CompileCounterWithBackend("aot_eager")
    parts.compile_parts(backend=counter, fullgraph=True)
    tokens, targets = torch.randint(0, 64, (2, 3, 16))
    for gpt in (model, parts):
        gpt(tokens, targets).backward()
    for a, b in zip(model.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)
    # The embedding, the head, the first block (what is added to it needs no gradient), and one for all others.
    assert counter.frame_count == 4


def test_how_a_model_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(torch, "compile", lambda model, mode: asked.append(mode) or model)
    monkeypatch.setattr(GPT, "compile_parts", lambda self, mode: asked.append(f"parts, {mode}"))
    with torch.device("meta"):
        model = GPT(of().model)
    small, large = of(), of("model.n_embd=768", "model.block_size=1024", "train.micro_batch=64")

    def how(c: Config, graphs: bool) -> tuple[str, bool]:
        _, replayed = compiled(model, model, c, graphs)
        return asked[-1], replayed

    assert how(small, True) == ("reduce-overhead", True)
    assert how(small, False) == ("default", False)  # several processes, or no GPU
    assert how(large, True) == ("parts, default", False)
    forced = large.replace(train={"compile_mode": "reduce-overhead"})
    assert how(forced, True) == ("reduce-overhead", True)


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:99", "auto", "nonsense", "cuda:x"])
def test_a_context_is_made_or_not_and_nothing_fails(device: str) -> None:
    ahead.context(device)  # what it raises in a thread of its own would be lost


def test_what_is_begun_ahead_goes_on_beside() -> None:
    go, done = threading.Event(), threading.Event()
    thread = ahead.begin(lambda: (go.wait(60), done.set())[1])
    assert thread.daemon and not done.is_set()
    go.set()
    thread.join(60)
    assert done.is_set()
