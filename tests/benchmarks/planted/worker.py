"""Trains one run directory through the engine, with a fault planted in the process: ``… worker RUN_DIR FAULT``.

Faults: ``ordered``: the loader reads documents in the order of their file; ``dead-N``: after step N the final norm and
the embedding are zero and the optimiser has forgotten its moments, so every gradient is exactly zero from there on;
``offset-N``: the target of a token is the N-th after it, in training and evaluation alike.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from engine import run
from engine.model import GPT, IGNORE
from engine.order import TokenStream
from engine.signals import Signals
from engine.train import Pending, Trainer


def plant(fault: str) -> None:
    """Break this process's engine."""
    if fault == "ordered":
        _order()
    elif fault.startswith("dead-"):
        _die(int(fault.removeprefix("dead-")))
    elif fault.startswith("offset-"):
        _offset(int(fault.removeprefix("offset-")) - 1)
    elif fault:
        sys.exit(f"no fault {fault!r}")


def _order() -> None:
    def order(self: TokenStream, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        documents = self.documents_of(epoch)
        starts = np.zeros(len(documents) + 1, np.int64)
        np.cumsum(documents.lengths, out=starts[1:])
        return np.arange(len(documents)), starts

    def sequence(self: TokenStream, index: int, block: int) -> np.ndarray:
        return self.read(index * block, block + 1)

    TokenStream.order = order  # type: ignore[method-assign]
    TokenStream.sequence = sequence  # type: ignore[method-assign]


def _die(after: int) -> None:
    train = Trainer._train

    def dying(self: Trainer, step: int) -> Pending:
        if step == after + 1:
            with torch.no_grad():
                for parameter in self.model.parameters():
                    if parameter.ndim < 2 or parameter.shape[0] == self.config.model.vocab_size:
                        parameter.zero_()
            self.optimiser.state.clear()
        return train(self, step)

    Trainer._train = dying  # type: ignore[method-assign]


def _offset(by: int) -> None:
    forward = GPT.forward

    def shifted(self: GPT, tokens: Tensor, targets: Tensor | None = None, per_token: bool = False) -> Tensor:
        if targets is not None:
            targets = F.pad(targets[:, by:], (0, by), value=IGNORE)
        return forward(self, tokens, targets, per_token)

    GPT.forward = shifted  # type: ignore[method-assign]


if __name__ == "__main__":
    torch.set_num_threads(1)
    plant(sys.argv[2] if len(sys.argv) > 2 else "")
    sys.exit(run.train(Path(sys.argv[1]), Signals(), time.perf_counter()))
