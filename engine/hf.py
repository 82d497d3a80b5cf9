"""A trained model as a folder that ``transformers`` loads: as GPT2LMHeadModel, or as LlamaForCausalLM.

Learned positions make it a GPT-2, rotary ones a Llama; what the target cannot express is refused by name, so that
the logits of the folder are always those of the engine. transformers itself is not needed to write it.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from data.encoding import load as load_encoding
from data.encoding import merge_table
from engine import config, sample
from engine.errors import RunError
from engine.model import GPT, Block
from engine.plan import mlp_width

SEPARATOR = "<|endoftext|>"
_ACTIVATIONS = {"gelu": "gelu", "relu2": "relu2"}  # transformers' names; its "gelu" is the exact one


@dataclass(frozen=True)
class Export:
    """What goes into the folder: ``config.json`` and the tensors under transformers' names."""

    config: dict[str, Any]
    tensors: dict[str, Tensor]


def convert(model: GPT, eot: int) -> Export:
    """The model in the form of the class that can express it.

    Raises:
        RunError: an option that no such class has, named.
    """
    c = model.config
    if c.positions == "learned":
        _refuse(c, "GPT2LMHeadModel", norm="layernorm", mlp=("gelu", "relu2"), n_kv_head=(0, c.n_head))
        return _gpt2(model, eot)
    if c.positions == "rotary":
        _refuse(c, "LlamaForCausalLM", norm="rmsnorm", mlp="swiglu")
        return _llama(model, eot)
    raise RunError(f"model.positions {c.positions!r} cannot be exported: transformers' GPT-2 and Llama have none such")


def _refuse(c: config.Model, target: str, **only: Any) -> None:
    only |= {"qk_norm": False, "softcap": 0.0, "window": 0}
    choices = {name: allowed if isinstance(allowed, tuple) else (allowed,) for name, allowed in only.items()}
    if wrong := [name for name, allowed in choices.items() if getattr(c, name) not in allowed]:
        have, want = (
            ", ".join(f"model.{name}={json.dumps(value)}" for name, value in values)
            for values in (((n, getattr(c, n)) for n in wrong), ((n, choices[n][0]) for n in wrong))
        )
        raise RunError(f"{have} cannot be exported: {target} has no such option; only models trained with {want} can")


def _gpt2(model: GPT, eot: int) -> Export:
    """Radford et al. 2019 as transformers has it: matrices [in, out], and biases throughout (zeros, if need be)."""
    c = model.config
    tensors: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        if name == "lm_head.weight":
            tensors[name] = value
            continue
        in_block = name.startswith("h.")
        tensors[f"transformer.{name}"] = value.t() if in_block and value.dim() == 2 else value
        bias = name.removesuffix("weight") + "bias"
        if name.endswith("weight") and (in_block or name.startswith("ln_f")) and not c.bias:
            tensors[f"transformer.{bias}"] = value.new_zeros(len(value))
    settings = {
        "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_embd": c.n_embd, "n_layer": c.n_layer,
        "n_head": c.n_head, "n_inner": mlp_width(c), "n_positions": c.block_size, "vocab_size": c.vocab_size,
        "activation_function": _ACTIVATIONS[c.mlp], "layer_norm_epsilon": 1e-5, "attn_pdrop": c.dropout,
        "embd_pdrop": c.dropout, "resid_pdrop": c.dropout, "tie_word_embeddings": c.tied, **_common(eot),
    }  # fmt: skip
    return Export(settings, tensors)


def _llama(model: GPT, eot: int) -> Export:
    """Touvron et al. 2023: separate projections, gate and up; a normalised embedding is normalised here, once."""
    c = model.config
    weights = model.state_dict()
    embedding = weights["wte.weight"]
    if model.normalises_embedding:
        embedding = F.rms_norm(embedding, (c.n_embd,), eps=1e-6)
    tensors = {"model.embed_tokens.weight": embedding, "model.norm.weight": weights["ln_f.weight"]}
    if not c.tied:
        tensors["lm_head.weight"] = weights["lm_head.weight"]
    sizes = cast(Block, model.h[0]).attn.sizes
    for i in range(c.n_layer):
        to, of = f"model.layers.{i}.", f"h.{i}."
        tensors[f"{to}input_layernorm.weight"] = weights[f"{of}ln_1.weight"]
        tensors[f"{to}post_attention_layernorm.weight"] = weights[f"{of}ln_2.weight"]
        for kind in ("weight", "bias") if c.bias else ("weight",):
            parts = weights[f"{of}attn.c_attn.{kind}"].split(sizes)
            for part, value in zip("qkv", parts, strict=True):
                tensors[f"{to}self_attn.{part}_proj.{kind}"] = value
            tensors[f"{to}self_attn.o_proj.{kind}"] = weights[f"{of}attn.c_proj.{kind}"]
            gate, up = weights[f"{of}mlp.c_fc.{kind}"].chunk(2)
            tensors |= {f"{to}mlp.gate_proj.{kind}": gate, f"{to}mlp.up_proj.{kind}": up}
            tensors[f"{to}mlp.down_proj.{kind}"] = weights[f"{of}mlp.c_proj.{kind}"]
    settings = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": c.n_embd,
        "intermediate_size": mlp_width(c), "num_hidden_layers": c.n_layer, "num_attention_heads": c.n_head,
        "num_key_value_heads": c.n_kv_head or c.n_head, "head_dim": c.n_embd // c.n_head, "hidden_act": "silu",
        "max_position_embeddings": c.block_size, "vocab_size": c.vocab_size, "rms_norm_eps": 1e-6,
        "rope_theta": c.rope_base, "rope_parameters": {"rope_type": "default", "rope_theta": c.rope_base},
        "attention_bias": c.bias, "mlp_bias": c.bias, "tie_word_embeddings": c.tied, **_common(eot),
    }  # fmt: skip
    return Export(settings, tensors)


def _common(eot: int) -> dict[str, Any]:
    return {"bos_token_id": eot, "eos_token_id": eot, "dtype": "float32", "torch_dtype": "float32"}


def tokenizer_files(block: int) -> dict[str, str]:
    """GPT-2's tokenizer as transformers reads it, file name → text, from the merge table that tiktoken's is made of.

    Vocabulary ids are those of ``data.encoding``: 256 bytes, one token a merge, the separator.
    """
    table = merge_table().decode("utf-8")
    printable = [chr(b) for b in range(256) if chr(b).isprintable() and chr(b) != " "]
    merges = [line for line in table.splitlines()[1:] if line]
    tokens = [*printable, *(chr(256 + n) for n in range(256 - len(printable)))]
    tokens += ["".join(merge.split(" ")) for merge in merges]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    separator = {"id": len(tokens), "content": SEPARATOR, "single_word": False, "lstrip": False, "rstrip": False}
    bytes_ = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    fast = {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None, "pre_tokenizer": bytes_,
        "added_tokens": [{**separator, "normalized": False, "special": True}],
        "post_processor": {**bytes_, "trim_offsets": False}, "decoder": bytes_,
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "",
            "end_of_word_suffix": "", "fuse_unk": False, "byte_fallback": False,
            "vocab": {**vocabulary, SEPARATOR: len(tokens)}, "merges": merges,
        },
    }  # fmt: skip
    settings = {
        "tokenizer_class": "GPT2Tokenizer", "bos_token": SEPARATOR, "eos_token": SEPARATOR, "unk_token": SEPARATOR,
        "add_prefix_space": False, "model_max_length": block,
    }  # fmt: skip
    return {
        "tokenizer.json": json.dumps(fast, ensure_ascii=False),
        "tokenizer_config.json": json.dumps(settings, indent=1),
        "vocab.json": json.dumps({**vocabulary, SEPARATOR: len(tokens)}, ensure_ascii=False),
        "merges.txt": table,
    }


def main(run_dir: Path, output: Path, *, step: str, as_json: bool) -> int:
    """``python -P -m engine hf``: write the folder, whole or not at all. Returns 0.

    Raises:
        RunError: no such checkpoint; a model that cannot be expressed; a folder that is not empty.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise RunError(f"{output}: is there already and not empty; choose another folder")
    model, trained, at = sample.load(run_dir, step)
    encoding = load_encoding(trained.data.encoding)
    export = convert(model, encoding.eot_token)
    files = {
        "config.json": json.dumps(export.config, indent=1),
        "generation_config.json": json.dumps({k: export.config[k] for k in ("bos_token_id", "eos_token_id")}),
    }
    if encoding.name in ("gpt2", "r50k_base"):
        files |= tokenizer_files(trained.model.block_size)
    else:
        print(
            f"without tokenizer files: encoding {encoding.name} is tiktoken's, see its documentation", file=sys.stderr
        )
    part = output.with_name(f".{output.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        for name, text in files.items():
            (part / name).write_text(text, encoding="utf-8")
        tensors = {name: value.detach().contiguous() for name, value in export.tensors.items()}
        save_file(tensors, part / "model.safetensors", metadata={"format": "pt"})
        part.rename(output)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    kind = export.config["architectures"][0]
    if as_json:
        print(json.dumps({"folder": str(output.resolve()), "architecture": kind, "step": at}))
    else:
        print(f"{output}: {kind} of step {at}; load it with transformers.{kind}.from_pretrained")
    return 0
