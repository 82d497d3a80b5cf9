"""Text from a trained model: one token at a time, keys and values of those before it kept (a KV cache).

A prompt follows a separator, as every document did in training. Temperature, top-k (Fan et al. 2018) and nucleus
sampling (top-p, Holtzman et al. 2020, arXiv 1904.09751); temperature 0 takes the likeliest token.
"""

from __future__ import annotations

import codecs
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from data.encoding import load as load_encoding
from engine import checkpoint, config, device
from engine.attention import alibi_slopes, rotary
from engine.errors import RunError
from engine.model import GPT, Block
from engine.text import safe

if TYPE_CHECKING:
    import tiktoken


@dataclass(frozen=True)
class Choice:
    """How the next token is chosen. ``top_k`` 0 and ``top_p`` 1: from all tokens."""

    temperature: float = 0.8
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not (self.temperature >= 0 and self.top_k >= 0 and 0 < self.top_p <= 1):
            raise RunError("sampling needs a temperature of 0 or more, top-k of 0 or more, and top-p in (0, 1]")

    def pick(self, logits: Tensor, generator: torch.Generator | None = None) -> int:
        """One token of logits [V]."""
        if self.temperature == 0:
            return int(logits.argmax())
        p = torch.softmax(logits.float() / self.temperature, dim=-1)
        if self.top_k and self.top_k < len(p):
            p = torch.where(p < p.topk(self.top_k).values[-1], 0.0, p)
        if self.top_p < 1:
            ordered, order = p.sort(descending=True)
            outside = (ordered / p.sum()).cumsum(0) - ordered / p.sum() >= self.top_p  # the first one stays
            p = p.index_fill(0, order[outside], 0.0)
        return int(torch.multinomial(p, 1, generator=generator))


class Cache:
    """Keys and values of the tokens a model has read, up to its ``block_size``. ``length`` counts them."""

    def __init__(self, model: GPT, batch: int = 1) -> None:
        self.model = model
        self.length = 0
        weight, c = model.wte.weight, model.config
        heads, width = c.n_kv_head or c.n_head, c.n_embd // c.n_head
        self._kept = [weight.new_empty(2, batch, heads, c.block_size, width) for _ in model.h]
        self._slopes = alibi_slopes(c.n_head, weight.device) if c.positions == "alibi" else None

    def read(self, tokens: Tensor) -> Tensor:
        """Read tokens [B, T] behind those already read; returns the logits [B, V] of what follows the last one.

        The same computation as ``GPT.forward``, of the new positions alone.
        """
        model, begin, end = self.model, self.length, self.length + tokens.shape[1]
        at = torch.arange(begin, end, device=tokens.device)
        rotation = rotary(model.config, at) if model.config.positions == "rotary" else None
        x = model.embed(tokens, begin)
        for kept, block in zip(self._kept, cast(list[Block], list(model.h)), strict=True):
            attention = block.attn
            q, k, v = attention.project(block.ln_1(x), rotation)
            kept[0, :, :, begin:end], kept[1, :, :, begin:end] = k, v
            y = F.scaled_dot_product_attention(
                q, kept[0, :, :, :end].to(q.dtype), kept[1, :, :, :end].to(q.dtype),
                attn_mask=self._mask(at, end, attention.window, q.dtype), scale=attention.scale,
                enable_gqa=attention.n_kv_head != attention.n_head,
            )  # fmt: skip
            x = x + attention.c_proj(y.transpose(1, 2).flatten(2))
            x = x + block.mlp(block.ln_2(x))
        self.length = end
        return model.logits(model.ln_f(x[:, -1]))

    def _mask(self, at: Tensor, end: int, window: int, dtype: torch.dtype) -> Tensor:
        """What each position of ``at`` [T] sees of positions 0 … end - 1: bool [T, end], or ALiBi's bias by head."""
        back = at[:, None] - torch.arange(end, device=at.device)[None, :]
        seen = (back >= 0) & (back < window)
        if self._slopes is None:
            return seen
        return torch.where(seen, -self._slopes[:, None, None] * back, -math.inf).to(dtype)


@torch.no_grad()
def generate(
    model: GPT,
    tokens: Sequence[int],
    count: int,
    choice: Choice,
    *,
    vocabulary: int,
    stop: int | None = None,
    generator: torch.Generator | None = None,
) -> Iterator[int]:
    """At most ``count`` tokens that follow ``tokens`` (at least one), up to a ``stop`` token, which is left out.

    Where the context is full, it goes on behind its second half. Tokens from ``vocabulary`` on (the padding of the
    embedding) are never chosen.
    """
    block, where = model.config.block_size, model.wte.weight.device
    context = list(tokens)[-block:]
    cache, new = Cache(model), context
    for _ in range(count):
        if cache.length + len(new) > block:
            cache, new = Cache(model), context[-max(1, block // 2) :]
        logits = cache.read(torch.tensor([new], device=where))[0, :vocabulary]
        token = choice.pick(logits, generator)
        if token == stop:
            return
        yield token
        new = [token]
        context = [*context, token][-block:]


def pieces(encoding: tiktoken.Encoding, tokens: Iterator[int]) -> Iterator[str]:
    """The tokens' text as it grows: a character comes once all its bytes are there; what is unsafe becomes �."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for token in tokens:
        if text := decoder.decode(encoding.decode_single_token_bytes(token)):
            yield safe(text)
    if text := decoder.decode(b"", final=True):
        yield safe(text)


@torch.no_grad()
def continuation(
    model: GPT,
    encoding: tiktoken.Encoding,
    prompt: str,
    *,
    tokens: int = 64,
    choice: Choice | None = None,
    seed: int = 0,
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Iterator[str]:
    """What the model writes behind a prompt, piece by piece; the same for the same seed. The model is in eval mode.

    This is also what a training loop calls for its ``sample`` events: ``"".join(continuation(…))``.
    """
    generator = torch.Generator(model.wte.weight.device).manual_seed(seed)
    begin = [encoding.eot_token, *encoding.encode(prompt, disallowed_special=())]
    with autocast():
        yield from pieces(
            encoding,
            generate(
                model, begin, tokens, choice or Choice(), vocabulary=encoding.n_vocab, stop=encoding.eot_token,
                generator=generator,
            ),
        )  # fmt: skip


def load(run_dir: Path, step: str, where: torch.device | str = "cpu") -> tuple[GPT, config.Config, int]:
    """The model of a run's checkpoint in eval mode, its configuration, and its step.

    Args:
        step: a step's number, "newest" or "best".

    Raises:
        RunError: no such run, no such checkpoint, or one of another program's version.
    """
    state, weights = checkpoint.load_model(checkpoint.find(run_dir, step))
    trained = checkpoint.trained_with(state)
    with torch.device("meta"):
        model = GPT(trained.model, load_encoding(trained.data.encoding).eot_token)
    try:
        model.load_state_dict(weights, assign=True)
    except RuntimeError:
        raise RunError(f"{run_dir}: the checkpoint of step {state['step']} does not fit its configuration") from None
    return model.to(where).eval(), trained, int(state["step"])


def main(
    run_dir: Path, prompt: str, *, step: str, tokens: int, choice: Choice, seed: int, device_name: str, as_json: bool
) -> int:
    """``python -P -m engine sample``: write the continuation to standard output as it is made. Returns 0.

    Raises:
        RunError, ConfigError: as ``load``; tokens below 0; a device that is not there.
    """
    if tokens < 0:
        raise RunError(f"--tokens must not be below 0, not {tokens}")
    here = device.choose(config.Train(device=device_name, compile="off"))
    model, trained, at = load(run_dir, step, here.device)
    begin = time.perf_counter()
    encoding = load_encoding(trained.data.encoding)
    texts = []
    if not as_json:
        print(safe(prompt), end="", flush=True)
    for text in continuation(
        model, encoding, prompt, tokens=tokens, choice=choice, seed=seed, autocast=here.autocast
    ):  # fmt: skip
        texts.append(text)
        if not as_json:
            print(text, end="", flush=True)
    if as_json:
        seconds = time.perf_counter() - begin
        print(json.dumps({"step": at, "prompt": prompt, "text": "".join(texts), "seconds": round(seconds, 3)}))
    else:
        print()
        print(f"{run_dir.name}, step {at}", file=sys.stderr)
    return 0
