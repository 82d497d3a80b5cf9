"""Text from a model: the cache computes what the whole forward pass does, and choices are what was asked for."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from data.encoding import load as load_encoding
from engine import config
from engine.__main__ import main
from engine.model import GPT
from engine.sample import Cache, Choice, continuation, generate, pieces
from engine.text import safe

VARIANTS: dict[str, dict[str, Any]] = {
    "gpt2": {},
    "gpt2 with biases": {"bias": True},
    "modern": {"family": "modern"},
    "grouped queries": {"family": "modern", "n_kv_head": 2, "mlp": "swiglu"},
    "windows": {"family": "modern", "window": 5, "n_layer": 3},
    "alibi": {"positions": "alibi", "window": 6},
    "one document": {"family": "modern", "document_mask": True},
    "llama": {"family": "modern", "mlp": "swiglu", "softcap": 0.0, "qk_norm": False, "tied": True},
}


def make(variant: dict[str, Any]) -> GPT:
    shape = {"n_layer": 2, "n_head": 4, "n_embd": 32, "block_size": 16, "vocab_size": 96, **variant}
    c = config.resolve(overrides={f"model.{k}": v for k, v in shape.items()})
    torch.manual_seed(0)
    model = GPT(c.model, 96).eval()
    for parameter in model.parameters():  # projections that begin at zero would hide what attention does
        torch.nn.init.normal_(parameter, std=0.2)
    return model


@pytest.mark.parametrize("name", VARIANTS)
@torch.no_grad()
def test_the_cache_gives_the_logits_of_the_whole_pass(name: str) -> None:
    model = make(VARIANTS[name])
    tokens = torch.randint(0, 96, (2, 16))
    whole = model(tokens)
    cache, at = Cache(model, batch=2), 0
    for width in (1, 4, 1, 1, 6, 3):
        got = cache.read(tokens[:, at : at + width])
        at += width
        assert torch.allclose(got, whole[:, at - 1], atol=2e-5, rtol=1e-4), at
    assert at == 16


def test_greedy_is_what_repeated_whole_passes_say() -> None:
    model = make({})
    context = [3, 1, 4]
    for _ in range(10):
        with torch.no_grad():
            context.append(int(model(torch.tensor([context]))[0, -1, :90].argmax()))
    assert [3, 1, 4, *generate(model, [3, 1, 4], 10, Choice(0), vocabulary=90)] == context


def test_it_goes_on_where_the_context_is_full() -> None:
    model = make({})
    out = list(generate(model, range(40), 50, Choice(), vocabulary=96))
    assert len(out) == 50
    first = list(generate(model, range(24, 40), 1, Choice(0), vocabulary=96))
    assert first == list(generate(model, range(40), 1, Choice(0), vocabulary=96)), "only the last block_size count"


def test_a_stop_token_ends_it_and_the_padding_is_never_chosen() -> None:
    model = make({})
    with torch.no_grad():
        model.wte.weight[90:] *= 50
    out = list(generate(model, [1], 60, Choice(2.0), vocabulary=90))
    assert max(out) < 90
    greedy = list(generate(model, [1], 20, Choice(0), vocabulary=90))
    stopped = list(generate(model, [1], 20, Choice(0), vocabulary=90, stop=greedy[5]))
    assert stopped == greedy[: greedy.index(greedy[5])]


def share_of(choice: Choice, p: list[float], n: int = 4000) -> list[float]:
    generator = torch.Generator().manual_seed(1)
    logits = torch.tensor(p).log()
    counts = [0] * len(p)
    for _ in range(n):
        counts[choice.pick(logits, generator)] += 1
    return [count / n for count in counts]


def test_choices() -> None:
    p = [0.1, 0.4, 0.2, 0.3]
    assert share_of(Choice(1), p) == pytest.approx(p, abs=0.03)
    assert share_of(Choice(0), p, 5) == [0, 1, 0, 0]
    assert share_of(Choice(0.5), p) == pytest.approx([q * q / 0.3 for q in p], abs=0.03)
    assert share_of(Choice(1, top_k=2), p) == pytest.approx([0, 4 / 7, 0, 3 / 7], abs=0.03)
    assert share_of(Choice(1, top_p=0.65), p) == pytest.approx([0, 4 / 7, 0, 3 / 7], abs=0.03)
    assert share_of(Choice(1, top_p=1e-9), p, 20) == [0, 1, 0, 0]
    assert share_of(Choice(1, top_k=99, top_p=1.0), p) == pytest.approx(p, abs=0.03)


def test_characters_come_whole_and_nothing_steers_a_terminal() -> None:
    encoding = load_encoding()
    text = "naïve 漢字 👩‍🚀 end"
    assert "".join(pieces(encoding, iter(encoding.encode(text)))) == text.replace("‍", "�")
    cut = encoding.encode("漢")[:1]
    assert "".join(pieces(encoding, iter(cut))) == "�"
    assert safe("a\x1b[2J\u202eb\nc\td\x9b") == "a�[2J�b\nc\td�"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Path]]:
    """A run that was trained for two steps."""
    from tests.engine.conftest import TINY, texts_of, write_shard

    base = tmp_path_factory.mktemp("sampled")
    shard = write_shard(base / "a.parquet", texts_of(60))
    run = base / "run"
    run.mkdir()
    sets = {**TINY, "data.paths": [str(shard)], "data.cache": str(base), "train.max_steps": 4, "eval.every": 2,
            "train.checkpoint_every": 2}  # fmt: skip
    (run / "config.toml").write_text(config.resolve(overrides=sets).to_toml())
    assert main(["train", str(run)]) == 0
    yield lambda: run


def test_the_command_streams_the_same_text_for_the_same_seed(
    trained: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(trained())
    texts = []
    for seed in ("1", "1", "2"):
        assert (
            main(["sample", run, "--prompt", "The loss\x1b", "--tokens", "12", "--seed", seed, "--device", "cpu"]) == 0
        )
        out, err = capsys.readouterr()
        texts.append(out)
        assert "step 4" in err
    assert texts[0] == texts[1] != texts[2] and texts[0].startswith("The loss�")
    assert main(["sample", run, "--json", "--tokens", "5", "--step", "2", "--device", "cpu"]) == 0
    assert json.loads(capsys.readouterr().out)["step"] == 2
    assert main(["sample", run, "--json", "--tokens", "0", "--step", "best", "--device", "cpu"]) == 0
    assert json.loads(capsys.readouterr().out)["text"] == ""


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--step", "3"], "no checkpoint of step 3; there are: 2, 4"),
        (["--temperature", "-1"], "temperature of 0 or more"),
        (["--temperature", str(math.nan)], "temperature of 0 or more"),
        (["--top-p", "0"], "top-p"),
        (["--tokens", "-1"], "--tokens must not be below 0"),
        (["--device", "cuda:9"], "cuda:9"),
    ],
)
def test_a_mistake_is_one_line(
    trained: Callable[..., Path], capsys: pytest.CaptureFixture[str], more: list[str], says: str
) -> None:
    assert main(["sample", str(trained()), *more]) == 1
    out, err = capsys.readouterr()
    assert not out and says in err and err.count("\n") == 1


def test_no_checkpoint_yet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", str(tmp_path)]) == 1
    assert "no checkpoint yet" in capsys.readouterr().err


def test_a_loop_can_ask_for_a_sample() -> None:
    model = make({"vocab_size": 50304})
    assert "".join(continuation(model, load_encoding(), "the", tokens=3, seed=2)) == "".join(
        continuation(model, load_encoding(), "the", tokens=3, seed=2)
    )
