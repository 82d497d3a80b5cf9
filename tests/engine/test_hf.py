"""Folders for transformers: what they load gives the engine's logits, and the tokens of the engine's encoding."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from data.encoding import load as load_encoding
from engine import checkpoint, config, hf
from engine.__main__ import main
from engine.errors import RunError
from engine.model import GPT

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import transformers

LLAMA = {"family": "modern", "mlp": "swiglu", "softcap": 0.0, "qk_norm": False}


def checkpointed(folder: Path, variant: dict[str, Any]) -> GPT:
    """A run directory with the checkpoint of a model whose every parameter is random."""
    shape = {"n_layer": 2, "n_head": 4, "n_embd": 32, "block_size": 24, "vocab_size": 50304, **variant}
    c = config.resolve(overrides={f"model.{k}": v for k, v in shape.items()})
    torch.manual_seed(0)
    model = GPT(c.model, 50256).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    folder.mkdir(exist_ok=True)
    checkpoint.save(folder, 3, model.state_dict(), {}, {"config": c.to_dict()}, 0)
    return model


@pytest.mark.parametrize(
    ("variant", "architecture"),
    [
        ({}, "GPT2LMHeadModel"),
        ({"bias": True, "dropout": 0.1}, "GPT2LMHeadModel"),
        ({"mlp": "relu2", "tied": False, "document_mask": True}, "GPT2LMHeadModel"),  # no weights: one document is one
        (LLAMA, "LlamaForCausalLM"),
        ({**LLAMA, "tied": True, "n_kv_head": 2, "rope_base": 5e5}, "LlamaForCausalLM"),
        ({**LLAMA, "bias": True, "n_kv_head": 1}, "LlamaForCausalLM"),
    ],
)
@torch.no_grad()
def test_the_logits_are_the_engines(tmp_path: Path, variant: dict[str, Any], architecture: str) -> None:
    model = checkpointed(tmp_path / "run", variant)
    assert main(["hf", str(tmp_path / "run"), "-o", str(tmp_path / "out")]) == 0
    loaded, said = getattr(transformers, architecture).from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not said["missing_keys"] and not said["unexpected_keys"] and not said["mismatched_keys"]
    tokens = torch.randint(0, 50256, (2, 24))
    got, want = loaded.eval()(tokens).logits, model(tokens)
    assert torch.allclose(got, want, atol=1e-4, rtol=1e-4), (got - want).abs().max()
    auto = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert type(auto).__name__ == architecture
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    encoding = load_encoding()
    for text in ("The naïve 漢字 shouldn't\n\n  fail 1234 👩‍🚀", " a", "", "def f(x):\n\treturn x"):
        assert tokenizer(text)["input_ids"] == encoding.encode(text)
        assert tokenizer.decode(encoding.encode(text), clean_up_tokenization_spaces=False) == text
    assert tokenizer.eos_token_id == encoding.eot_token and len(tokenizer) == encoding.n_vocab
    out = loaded.generate(torch.tensor([[1, 2]]), max_new_tokens=3, do_sample=False, pad_token_id=50256)
    assert out.shape[1] <= 5


@pytest.mark.parametrize(
    ("variant", "says"),
    [
        ({"family": "modern"}, 'trained with model.mlp="swiglu", model.qk_norm=false, model.softcap=0.0 can'),
        ({**LLAMA, "softcap": 15.0}, "model.softcap=15.0"),
        ({**LLAMA, "qk_norm": True}, "model.qk_norm=true"),
        ({**LLAMA, "window": 8}, "model.window=8"),
        ({"norm": "rmsnorm"}, "model.norm"),
        ({"n_kv_head": 2}, "model.n_kv_head=2"),
        ({"positions": "alibi"}, "alibi"),
    ],
)
def test_what_cannot_be_expressed_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], variant: dict[str, Any], says: str
) -> None:
    checkpointed(tmp_path / "run", {**variant, "vocab_size": 64})
    assert main(["hf", str(tmp_path / "run"), "-o", str(tmp_path / "out")]) == 1
    err = capsys.readouterr().err
    assert says in err and "cannot be exported" in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpointed(tmp_path / "run", {})
    (tmp_path / "out").mkdir()
    assert main(["hf", str(tmp_path / "run"), "-o", str(tmp_path / "out"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["architecture"] == "GPT2LMHeadModel"
    before = sorted((p.name, p.stat().st_mtime_ns) for p in (tmp_path / "out").iterdir())
    assert main(["hf", str(tmp_path / "run"), "-o", str(tmp_path / "out")]) == 1
    assert "not empty" in capsys.readouterr().err
    assert sorted((p.name, p.stat().st_mtime_ns) for p in (tmp_path / "out").iterdir()) == before


def test_a_damaged_checkpoint_is_not_exported(tmp_path: Path) -> None:
    checkpointed(tmp_path / "run", {"vocab_size": 64})
    weights = tmp_path / "run/checkpoints/step-00000003/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(RunError, match="damaged checkpoint"):
        hf.main(tmp_path / "run", tmp_path / "out", step="newest", as_json=False)
