"""Trains a GPT-2 with Hugging Face's Trainer and leaves its ``trainer_state.json``: ``python hf.py OPTIONS.json OUT``.

Options carry ``TrainingArguments``' names, beside the model's shape, ``train`` and ``val`` (files of uint16 tokens),
``eval_windows``, ``decay_until`` (share of the run at which a linear decay ends) and ``fault`` (``ordered``: windows
in the order of the file; ``dead-N``: after step N all weights are zero and the optimiser has forgotten its moments).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments


class Windows(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """Windows of a file of tokens, one behind the other."""

    def __init__(self, path: str, block: int, most: int | None = None) -> None:
        tokens = np.fromfile(path, np.uint16)
        count = len(tokens) // block
        self.windows = tokens[: count * block].reshape(count, block)
        if most is not None and most < count:  # spread over the file
            self.windows = self.windows[np.linspace(0, count - 1, most).astype(int)]

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        ids = torch.from_numpy(self.windows[index].astype(np.int64))
        return {"input_ids": ids, "labels": ids}


class InOrder(Trainer):
    """Reads the training windows in the order of their file."""

    def _get_train_sampler(self, *_: Any) -> Any:
        return torch.utils.data.SequentialSampler(self.train_dataset)


class Dying(TrainerCallback):
    """Empties model and optimiser after a step."""

    def __init__(self, after: int) -> None:
        self.after = after

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        if state.global_step == self.after:
            for parameter in more["model"].parameters():
                parameter.data.zero_()
            optimizer = more["optimizer"]
            getattr(optimizer, "optimizer", optimizer).state.clear()


def main(options: dict[str, Any], out: Path) -> None:
    """Train, and write the trainer's state."""
    o = dict(options)
    shape = {key: o.pop(key) for key in ("vocab_size", "n_positions", "n_layer", "n_head", "n_embd")}
    dropout, fault, until = o.pop("dropout"), o.pop("fault"), o.pop("decay_until", None)
    train, val = o.pop("train"), o.pop("val")
    block, most = shape["n_positions"], o.pop("eval_windows", 200)
    torch.manual_seed(o["seed"])
    model = GPT2LMHeadModel(GPT2Config(resid_pdrop=dropout, embd_pdrop=dropout, attn_pdrop=dropout,
                                       **shape))  # fmt: skip
    cuda = torch.cuda.is_available()
    arguments = TrainingArguments(
        output_dir=str(out), eval_strategy="steps", save_strategy="no", report_to=[], bf16=cuda, use_cpu=not cuda,
        disable_tqdm=True, logging_first_step=True, eval_on_start=True, adam_beta2=0.95, dataloader_num_workers=0,
        per_device_eval_batch_size=64, **o,
    )  # fmt: skip
    chosen: Any = (None, None)
    if until is not None:
        optimizer = torch.optim.AdamW(model.parameters(), lr=o["learning_rate"], betas=(0.9, 0.95),
                                      weight_decay=o["weight_decay"])  # fmt: skip
        warm, end = o["warmup_steps"], until * o["max_steps"]

        def share(step: int) -> float:
            return (step + 1) / warm if step < warm else max(1e-3, (end - step) / (end - warm))

        chosen = (optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, share))
    kind = InOrder if fault == "ordered" else Trainer
    trainer = kind(model=model, args=arguments, train_dataset=Windows(train, block), optimizers=chosen,
                   eval_dataset=Windows(val, block, most),
                   callbacks=[Dying(int(fault[5:]))] if fault.startswith("dead") else [])  # fmt: skip
    trainer.train()
    trainer.state.save_to_json(str(out / "trainer_state.json"))


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
