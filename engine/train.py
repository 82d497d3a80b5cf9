"""The training loop, from weights and documents to events and checkpoints.

The hot path never waits for an accelerator: a step's loss and gradient norm are copied to pinned memory behind it and
read once the next step is under way; a step whose loss or gradient is not finite is left out on the device itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from engine import checkpoint, optim, plan, restore
from engine.compiled import allows_fp8, compiled
from engine.config import Config
from engine.described import Prepared
from engine.device import Device, resident
from engine.errors import RunError
from engine.examine import Examiner
from engine.loader import Batches
from engine.model import GPT, IGNORE
from engine.noise import NoiseScale
from engine.order import TokenStream
from engine.parallel import Ranks, whole
from engine.record import Past, Recorder
from engine.schedule import learning_rate
from engine.system import Watch

WAIT = 2  # the next step waits for shards
BAD_STEPS = 5  # steps in a row without a finite loss and gradient that end a run


@dataclass
class Pending:
    """A step under way. ``values`` is float32 on the host, valid once ``done``: loss, gradient norm and, in a step
    that measures the noise scale, the norm of a part's gradient."""

    step: int
    rate: float
    values: Tensor
    done: torch.cuda.Event | None
    waited: float


class Trainer:
    """A run, or this process's part of it. ``run()`` trains to the last step, or until ``stopping()``."""

    def __init__(
        self, config: Config, run_dir: Path, data: Prepared, device: Device, record: Recorder, past: Past,
        stopping: Callable[[], bool], ranks: Ranks | None = None,
    ) -> None:  # fmt: skip
        self.ranks = ranks or Ranks()
        self.config, self.run_dir, self.data, self.device = config, run_dir, data, device
        self.record, self.past = record, past
        self.stopping = lambda: self.ranks.agree(stopping())
        self.step = 0
        self.heldout: dict[str, float] | None = None  # step and loss of the newest held-out evaluation
        self.missing = 0 if data.feed is None else WAIT  # shards that are still packed: see _missing
        self.idle = 0.0  # seconds that the next step has waited for shards to be packed
        self.origin = 0, 0  # step and position that the run branched off at
        self.saved: int | None = None  # step of the newest good checkpoint
        self.measured = -1.0, 0  # when memory was looked up, and what it was
        self.bad = 0  # steps in a row that were skipped
        self.graphs = False  # the step is replayed as CUDA graphs
        t = config.train
        self.noise = NoiseScale(
            t.micro_batch, config.model.block_size, t.grad_accum, self.ranks.size, self.ranks.sharded
        )
        self.flops = plan.flops_per_token(config.model)
        self.peak = plan.peak_flops(device.name) if device.type == "cuda" else None
        torch.manual_seed(config.train.seed)
        self.model = GPT(config.model, data.eot)
        self.model.fp8_head = config.train.fp8_head and allows_fp8(config, device)
        self.stream = TokenStream(data.source, config.train.seed)

    def build(self) -> None:
        """Move the model to its device, make the optimiser, restore the newest checkpoint, fix what is evaluated.

        Raises:
            RunError: the checkpoint belongs to another configuration or other data; weights that do not fit.
        """
        c = self.config
        if c.train.init_from:
            init = checkpoint.load_weights(Path(c.train.init_from).expanduser())
            restore.load_weights(self.model, init, c.train.init_from)
        found = restore.newest(self)
        if found is not None:
            restore.check(self, found)
            restore.load_weights(self.model, found.model, str(found.path))
        shared = self.ranks.share(self.model, self.device.device)
        self.optimiser = optim.build(self.model, c.optim, self.device.type)
        if found is not None:
            restore.restore(self, found)
        restore.seed(self, found.state if found is not None else {})
        del found
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.call: Callable[..., Tensor] = shared
        if self.device.compiled:
            self.call, self.graphs = compiled(
                self.model, shared, c, self.device.type == "cuda" and self.ranks.size == 1
            )
        if self.graphs:
            # Gradients of their own: those that a graph puts out are overwritten when it is replayed.
            for p in self.parameters:
                p.grad = torch.zeros_like(p)
        self.measure = self.ranks.spread(self.call)
        self.examiner = Examiner(self)

    def position(self, step: int) -> int:
        """Tokens trained on after ``step`` steps: where in the stream the next one begins."""
        begun, position = self.origin
        return position + self.config.tokens_after(step) - self.config.tokens_after(begun)

    def warm_up(self) -> None:
        """Compile the step by running it once without any effect."""
        states = self.device.generators()
        shape = (2, self.config.train.micro_batch, self.config.model.block_size)
        tokens, targets = torch.zeros(shape, dtype=torch.int64, device=self.device.device)
        with self.device.autocast():
            loss = self.call(tokens, targets)
        loss.backward()
        self._forget_gradients()
        self.device.set_generators(states)

    def run(self) -> str:
        """Train. Returns the reason of the end: "finished" or "stopped".

        Raises:
            RunError: too many steps in a row without a finite loss, or a last checkpoint that cannot be written.
        """
        t = self.config.train
        if self.past.begun:
            self.record.add("resume", step=self.step)
            self.past.cut(self.step)
        if self._evaluates(self.step):
            begin = time.perf_counter()
            self.examiner.examine()  # before the first step; behind a checkpoint only what a stop had cut off
            self.record.add("phase", name="first evaluation", seconds=time.perf_counter() - begin)
        if self.saved is not None and not self.past.has("checkpoint", self.saved):
            self.record.add("checkpoint", step=self.saved, path=f"{checkpoint.FOLDER}/{checkpoint.name_of(self.saved)}")
        sequences = t.micro_batch * self.config.model.block_size  # tokens of a micro-batch
        with self._watch(), Batches(
            self.stream, position=self.position(self.step) + self.ranks.rank * sequences, batch=t.micro_batch,
            block=self.config.model.block_size, device=self.device.device, stride=self.ranks.size * sequences,
        ) as self.batches:  # fmt: skip
            pending: Pending | None = None
            self.mark = self.begun = time.perf_counter()
            first = True
            while self.step < t.max_steps and self._ready():
                self.step += 1
                started, pending = pending, self._train(self.step)
                if started is not None:
                    self._report(started)
                last = self.step == t.max_steps
                evaluating = self._evaluates(self.step)
                saving = last or bool(t.checkpoint_every and self.step % t.checkpoint_every == 0)
                if evaluating or saving or first or pending.done is None:
                    self._report(pending)
                    pending = None
                if first:
                    self.record.add("phase", name="first step", seconds=time.perf_counter() - self.begun)
                    self.record.flush()
                    first = False
                if evaluating:
                    self.examiner.examine()
                if saving:
                    restore.save(self, must=last)
                if evaluating or saving:
                    self.mark = time.perf_counter()
            if pending is not None:
                self._report(pending)
        self.data.close()
        if self.step and self.saved != self.step:
            restore.save(self, must=True)
        return "finished" if self.step >= t.max_steps else "stopped"

    def _ready(self) -> bool:
        """Wait until the documents of the next step are packed. False where the run is to stop instead.

        Raises:
            RunError, ShardError: they never will be.
        """
        begin, told = time.perf_counter(), False
        while not self.stopping():
            if self.missing:  # once all is packed on every rank, they need not agree on it any more
                self.missing = self.ranks.highest(self._missing())
            if self.missing < WAIT:
                self.idle = time.perf_counter() - begin
                return True
            if not told and time.perf_counter() - begin > 1:
                told = True
                print(f"step {self.step + 1} waits for shards to be packed", flush=True)
                self.record.flush()
            time.sleep(0.02)
        return False

    def _missing(self) -> int:
        """``WAIT`` where shards of the next step are not packed yet, 1 where only later ones are not, else 0."""
        if not self.stream.covers(self.position(self.step + 1)):
            return WAIT
        return int(not self.stream.source.ready(self.stream.source.windows))

    def _watch(self) -> Watch:
        """What records ``system`` events, on rank 0."""
        card = None
        if self.device.type == "cuda":
            card = f"GPU-{torch.cuda.get_device_properties(self.device.device).uuid}"
        return Watch(self.record, self.config.train.system_every if self.ranks.main else 0.0, resident, card)

    def _evaluates(self, step: int) -> bool:
        """Whether the weights after ``step`` steps are evaluated: at 0, every ``eval.every`` steps, and at the end."""
        every = self.config.eval.every
        return step == self.config.train.max_steps or bool(every and step % every == 0)

    def _train(self, step: int) -> Pending:
        """One optimiser step, enqueued."""
        c, accumulate = self.config, self.config.micro_batches(step) // self.ranks.size
        self.noise.batch(accumulate * self.ranks.size)
        rate = learning_rate(c, step)
        optim.set_rate(self.optimiser, rate)
        waited, self.idle = self.batches.waited - self.idle, 0.0
        if self.device.type == "cpu":
            self.mark = time.perf_counter() - (self.batches.waited - waited)
        total = torch.zeros((), device=self.device.device)
        part: list[Tensor] = []  # norm of a part's gradient, where the noise scale is measured
        for i in range(accumulate):
            tokens, targets = next(self.batches)
            measuring = self.noise.due(step) and not part
            pieces = halves(targets) if measuring and self.noise.split else [targets]
            for some in pieces:
                self.ranks.synchronise(last=i + 1 == accumulate and some is pieces[-1])
                share = accumulate if some is targets else 2 * accumulate
                with self.device.autocast():
                    loss = self.call(tokens, some)
                (loss / share).backward()
                total += loss.detach() * (accumulate / share)
                if measuring and not part:
                    part.append(self.ranks.root_mean_square(share * self._norm()))
        norm = self._norm()
        if c.optim.grad_clip:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, c.optim.grad_clip, norm)
        values = torch.stack([self.ranks.mean(total) / accumulate, norm, *part])
        finite = values.isfinite().all()
        done = None
        if self.device.type == "cuda":
            # The fused kernel itself skips the update, as it does for torch's GradScaler: the host need not know.
            self.optimiser.found_inf = (~finite).float()  # type: ignore[attr-defined]
            self.optimiser.step()
            host = torch.empty(len(values), pin_memory=True)
            host.copy_(values, non_blocking=True)
            done = torch.cuda.Event()
            done.record()
        else:
            if finite:
                self.optimiser.step()
            host = values.cpu()
        self._forget_gradients()
        return Pending(step, rate, host, done, self.batches.waited - waited)

    def _forget_gradients(self) -> None:
        self.optimiser.zero_grad(set_to_none=not self.graphs)

    def _norm(self) -> Tensor:
        """Norm of the gradient as it stands."""
        return whole(torch.nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None]))

    def _report(self, p: Pending) -> None:
        """Wait for a step, and record it."""
        if p.done is not None:
            p.done.synchronize()
        now = time.perf_counter()
        seconds, self.mark = now - self.mark, now
        loss, norm, *part = p.values.tolist()
        trained = self.position(p.step) - self.position(p.step - 1)
        speed = trained / seconds
        clip = self.config.optim.grad_clip
        tokens = self.position(p.step)
        self.record.add(
            "step", step=p.step, tokens=tokens, epoch=self.stream.epoch(tokens), loss=loss, lr=p.rate, grad_norm=norm,
            clipped=bool(clip and norm > clip), step_time=seconds, data_wait=p.waited, tokens_per_s=speed,
            step_tokens=trained,
            mfu=None if self.peak is None else self.flops * speed / (self.peak * self.ranks.size),
            memory=self._memory(now),
        )  # fmt: skip
        if bool(p.values.isfinite().all()):
            self.bad = 0
            if part and (found := self.noise.take(part[0], norm)):
                self.record.add("noise_scale", step=p.step, **found)
            return
        self.bad += 1
        what = "loss" if not bool(p.values[0].isfinite()) else "gradient"
        self.record.warn(p.step, f"step {p.step}: the {what} is not finite; the step was skipped")
        if self.bad >= BAD_STEPS:
            self.step = p.step
            raise RunError(
                f"the loss or gradient was not finite in {BAD_STEPS} steps in a row (up to step {p.step}); "
                f"{checkpoint.last_good(self.run_dir, self.saved)}; start again from there with a lower optim.lr"
            )

    def _memory(self, now: float) -> int:
        """Bytes in use, looked up at most twice a second: CUDA's statistics take as long as a small step."""
        if now - self.measured[0] > 0.5:
            self.measured = now, self.device.used()
        return self.measured[1]


def halves(targets: Tensor) -> list[Tensor]:
    """Targets [B, T] of the first and of the second half of the sequences, the others ignored: no shape changes."""
    half = len(targets) // 2
    first, second = targets.clone(), targets.clone()
    first[half:] = IGNORE
    second[:half] = IGNORE
    return [first, second]
