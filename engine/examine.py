"""What a run looks at beside its steps: held-out and seen losses, and samples of the model's text."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from engine import evaluate
from engine.prepare import byte_lengths

if TYPE_CHECKING:
    from engine.train import Trainer


class Examiner:
    """Evaluates a trainer's model, always on the same windows, and lets it write."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        c, parts, e = trainer.config, trainer.data.split, trainer.config.eval
        chosen = {"heldout": parts.held_out_unique.first(e.documents)}
        if e.seen:
            chosen["seen"] = evaluate.sample(parts.unique, e.seen, c.train.seed)
        lengths = byte_lengths(c.data.encoding, c.model.vocab_size)
        self.sets = [
            evaluate.build(
                name, documents, block=c.model.block_size, cap=e.document_tokens, eot=trainer.data.eot,
                byte_lengths=lengths,
            )
            for name, documents in chosen.items()
        ]  # fmt: skip
        folder = trainer.run_dir / "evals"
        folder.mkdir(exist_ok=True)
        for data in self.sets if trainer.ranks.main else []:
            evaluate.write_set(folder, data)

    def examine(self) -> None:
        """Evaluate every split at the current step, unless that is recorded already or the run is to stop; sample."""
        self.trainer.model.eval()
        try:
            self._evaluate()
            self._sample()
        finally:
            self.trainer.model.train()

    def _evaluate(self) -> None:
        t = self.trainer
        for data in self.sets:
            if t.past.has("eval", t.step, data.split) or t.stopping():
                continue
            begin = time.perf_counter()
            result = evaluate.evaluate(
                t.measure, data, batch=t.config.train.micro_batch * t.ranks.size, device=t.device.device,
                autocast=t.device.autocast, cancelled=t.stopping,
            )  # fmt: skip
            if result is None:
                return
            if data.split == "heldout":
                t.heldout = {"step": t.step, "loss": result.loss}
            try:
                if t.ranks.main:
                    evaluate.write_losses(t.run_dir / "evals", data.split, t.step, result)
            except OSError as error:
                t.record.warn(t.step, f"losses by document could not be written: {error.strerror or error}")
            t.record.add(
                "eval", step=t.step, split=data.split, loss=result.loss, se=result.se, bpb=result.bits_per_byte,
                documents=len(data.document_tokens), tokens=int(data.document_tokens.sum()),
                seconds=time.perf_counter() - begin,
            )  # fmt: skip
            t.record.flush()
            bits = "" if result.bits_per_byte is None else f", {result.bits_per_byte:.4f} bits per byte"
            print(f"step {t.step}: {data.split} loss {result.loss:.4f} ± {result.se:.4f}{bits}", flush=True)

    def _sample(self) -> None:
        """Let the model write behind each prompt, every ``eval.sample_every`` evaluations and at the end.

        Rank 0 alone does, and not from shards of a model. Its random numbers are its own: training's stay as they are.
        """
        t, c, e = self.trainer, self.trainer.config, self.trainer.config.eval
        last = t.step == c.train.max_steps
        turn = bool(e.every and not t.step // e.every % max(1, e.sample_every))
        if not (e.sample_every and t.step and (turn or last)) or not t.ranks.main or t.ranks.sharded:
            return
        from data.encoding import load
        from engine import sample

        for index, prompt in enumerate(e.prompts):
            if t.past.has("sample", t.step, str(index)):
                continue
            text = "".join(
                sample.continuation(
                    t.model, load(c.data.encoding), prompt, tokens=e.sample_tokens, seed=c.train.seed,
                    autocast=t.device.autocast,
                )
            )  # fmt: skip
            t.record.add(
                "sample", step=t.step, prompt=prompt, text=text, index=index, seed=c.train.seed,
                tokens=e.sample_tokens,
            )  # fmt: skip
        t.record.flush()
