"""What the measurements on a GPU share: the step as the engine takes it, the corpus, and one evaluator for all."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.packed import default_cache, pack_shards
from engine import compiled, config, evaluate, optim
from engine.corpus import Documents
from engine.loader import Batches
from engine.model import GPT, IGNORE
from engine.order import TokenStream
from engine.schedule import learning_rate

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
EOT = 50256
DOCUMENT = 2000  # tokens of a document on the average, where there is no corpus (ours: 2,170)


def synchronise() -> None:
    """Wait for the device."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def autocast() -> torch.autocast:
    """bfloat16 products, as the engine has them."""
    return torch.autocast(DEVICE.type, dtype=torch.bfloat16)


def documents(paths: Sequence[Path]) -> Documents:
    """All documents of some shards, packed where they are not yet."""
    return Documents.of(
        list(pack_shards([str(p) for p in paths], encoding="gpt2", column="text", cache=default_cache()))
    )


class Ours:
    """The engine's model, optimiser and order, one step at a time as ``engine.train`` takes it."""

    def __init__(self, c: config.Config, docs: Documents | None, compile_it: bool = True) -> None:
        torch.set_float32_matmul_precision("high")
        torch.manual_seed(c.train.seed)
        self.config = c
        self.model = GPT(c.model, EOT).to(DEVICE)
        self.optimiser = optim.build(self.model, c.optim, DEVICE.type)
        self.call: Callable[..., Tensor] = self.model
        self.graphs = False
        if c.train.fp8_head and DEVICE.type == "cuda":
            import engine.head_fp8  # noqa: F401  it registers the operator

            self.model.fp8_head = True
        if DEVICE.type == "cuda" and compile_it:
            self.call, self.graphs = compiled.compiled(self.model, self.model, c, graphs=True)
        self.parameters = list(self.model.parameters())
        for p in self.parameters if self.graphs else ():
            p.grad = torch.zeros_like(p)
        shape = c.train.micro_batch, c.model.block_size
        if docs is None:
            fixed = torch.randint(0, EOT, (2, *shape), device=DEVICE)
            fixed[0, torch.rand(shape, device=DEVICE) < 1 / DOCUMENT] = EOT
            self.next: Callable[[], tuple[Tensor, Tensor]] = lambda: (fixed[0], fixed[1])
        else:
            stream = TokenStream(docs, c.train.seed)
            self.batches = Batches(stream, position=0, batch=shape[0], block=shape[1], device=DEVICE)
            self.next = lambda: next(self.batches)

    def warm_up(self) -> float:
        """Compile, without any effect. Returns seconds."""
        begin = time.perf_counter()
        tokens = torch.zeros(2, self.config.train.micro_batch, self.config.model.block_size, dtype=torch.int64)
        with autocast():
            self.call(tokens[0].to(DEVICE), tokens[1].to(DEVICE)).backward()
        self.optimiser.zero_grad(set_to_none=not self.graphs)
        synchronise()
        return time.perf_counter() - begin

    def step(self, number: int) -> Tensor:
        """One optimiser step; its loss, on the device."""
        c, accumulate = self.config, self.config.train.grad_accum
        optim.set_rate(self.optimiser, learning_rate(c, number))
        total = torch.zeros((), device=DEVICE)
        for _ in range(accumulate):
            with autocast():
                loss = self.call(*self.next())
            (loss / accumulate).backward()
            total += loss.detach()
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        if c.optim.grad_clip:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, c.optim.grad_clip, norm)
        if DEVICE.type == "cuda":
            self.optimiser.found_inf = (~torch.stack([total, norm]).isfinite().all()).float()  # type: ignore[attr-defined]
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=not self.graphs)
        return total / accumulate


class Judge:
    """The one evaluator: every token of some shards, in windows of ``block`` over the whole stream of documents."""

    def __init__(self, docs: Documents, block: int, batch: int = 32, most: int | None = None) -> None:
        docs = docs.first(most) if most else docs
        data = evaluate.build("all", docs, block=block, cap=1 << 40, eot=EOT, byte_lengths=None)
        self.tokens, self.targets, self.batch = data.tokens, data.targets, batch
        self.count = int((data.targets != IGNORE).sum())

    def loss(self, summed: Callable[[Tensor, Tensor], Tensor]) -> float:
        """Mean loss; ``summed`` gives the summed loss of tokens and targets [batch, T], targets ``IGNORE`` left out."""
        total = torch.zeros((), dtype=torch.float64, device=DEVICE)
        with torch.no_grad():
            for begin in range(0, len(self.tokens), self.batch):
                tokens, targets = self.tokens[begin : begin + self.batch], self.targets[begin : begin + self.batch]
                short = self.batch - len(tokens)
                if short:
                    tokens = torch.cat([tokens, tokens[:1].expand(short, -1)])
                    targets = torch.cat([targets, torch.full((short, targets.shape[1]), IGNORE)])
                total += summed(tokens.to(DEVICE), targets.to(DEVICE)).double()
        return float(total) / self.count


def concatenated(docs: Documents) -> np.ndarray:
    """All tokens of documents in their order on disk, uint16: what nanoGPT's ``train.bin`` holds."""
    return np.concatenate([docs.read(i) for i in range(len(docs))]).astype(np.uint16)
