"""The training loop, from weights and documents to events and checkpoints.

The hot path never waits for an accelerator: a step's loss and gradient norm are copied to pinned memory behind it and
read once the next step is under way; a step whose loss or gradient is not finite is left out on the device itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine import checkpoint, optim, plan
from engine.compare import differences
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

SMALL = 5e9  # a micro-batch's tokens times squared width; below it a GPU waits for the launches of its kernels
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
    """One run in one process. ``run()`` trains to the last step, or until ``stopping()``."""

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
        self.model.fp8_head = config.train.fp8_head and self._fp8()
        self.stream = TokenStream(data.source, config.train.seed)

    def _fp8(self) -> bool:
        """That the head can be computed in eight bits here. Raises RunError if it cannot."""
        m, tokens = self.config.model, self.config.train.micro_batch * self.config.model.block_size
        if self.device.type == "cuda" and hasattr(torch.ops.gptbench, "head"):
            from engine import head_fp8

            if self.device.dtype == torch.bfloat16 and head_fp8.fits(tokens, m.n_embd, m.vocab_size):
                return True
        raise RunError(
            "train.fp8_head needs an NVIDIA GPU of compute capability 8.9 or newer, bfloat16, and a micro-batch's "
            "tokens, model.n_embd and model.vocab_size that are multiples of 16; set train.fp8_head=false"
        )

    def build(self) -> None:
        """Move the model to its device, make the optimiser, restore the newest checkpoint, fix what is evaluated.

        Raises:
            RunError: the checkpoint belongs to another configuration or other data; weights that do not fit.
        """
        c = self.config
        if c.train.init_from:
            self._load_weights(checkpoint.load_weights(Path(c.train.init_from).expanduser()), c.train.init_from)
        found = self._newest()
        if found is not None:
            self._check(found)
            self._load_weights(found.model, str(found.path))
        shared = self.ranks.share(self.model, self.device.device)
        self.optimiser = optim.build(self.model, c.optim, self.device.type)
        if found is not None:
            self._restore(found)
        self._seed(found.state if found is not None else {})
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

    def _newest(self) -> checkpoint.Checkpoint | None:
        if self.ranks.main:
            checkpoint.clean(self.run_dir)
        for found in checkpoint.newest(self.run_dir):
            if isinstance(found, checkpoint.Checkpoint):
                return found
            self.record.warn(0, f"{found}; falling back to the one before")
        return None

    def _load_weights(self, weights: dict[str, Tensor], where: str) -> None:
        own = self.model.state_dict()
        for name in own.keys() | weights.keys():
            if name not in weights or name not in own:
                raise RunError(
                    f"{where}: parameter {name} is in {'it' if name in weights else 'the model'} alone; "
                    "train with the model section of that checkpoint's run"
                )
            if weights[name].shape != own[name].shape:
                raise RunError(
                    f"{where}: {name} has shape {list(weights[name].shape)}, the model {list(own[name].shape)}; "
                    "train with the model section of that checkpoint's run"
                )
        self.model.load_state_dict(weights)

    def _check(self, found: checkpoint.Checkpoint) -> None:
        """Raise RunError where a checkpoint is of another configuration, or of other data."""
        state = found.state
        begun = state.get("origin", (0, 0))[0]
        adopted = 0 < begun == found.step  # a branch's first: checked where it was made
        if not adopted and (changed := differences(state["config"], self.config)):
            raise RunError(
                f"{found.path.name}: a checkpoint of another configuration: {changed}; restore config.toml, "
                "or start a new run with train.init_from"
            )
        if state["data"] not in (None, self.data.fingerprint):  # None: a branch on other data
            raise RunError(f"{found.path.name}: a checkpoint of other data; put the shards back as they were")

    def _restore(self, found: checkpoint.Checkpoint) -> None:
        state = found.state
        begun, position = state.get("origin", (0, 0))
        self.origin = begun, position
        optim.load_state(self.model, self.optimiser, found.optimizer)
        self.heldout = state.get("heldout")
        self.step = self.saved = found.step
        if state["position"] != self.position(self.step):
            raise RunError(
                f"{found.path.name}: it was trained on {state['position']:,} tokens, the configuration says "
                f"{self.position(self.step):,} up to its step: restore train.max_steps and train.batch_schedule"
            )

    def _seed(self, state: dict[str, Any]) -> None:
        """Go on with the checkpoint's random numbers; every rank has its own, and a new one begins with others."""
        generators = [state["generators"], *state.get("generators_of_ranks", [])] if state else []
        if self.ranks.rank < len(generators):
            self.device.set_generators(generators[self.ranks.rank])
        elif self.ranks.rank:
            torch.manual_seed(self.config.train.seed + self.ranks.rank + 1_000_003 * self.step)

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
            self.record.add("checkpoint", step=self.saved, path=f"{checkpoint.FOLDER}/step-{self.saved:08d}")
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
                    self._save(must=last)
                if evaluating or saving:
                    self.mark = time.perf_counter()
            if pending is not None:
                self._report(pending)
        self.data.close()
        if self.step and self.saved != self.step:
            self._save(must=True)
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
                f"{self.last_good()}; start again from there with a lower optim.lr"
            )

    def last_good(self) -> str:
        """Which checkpoint a failed run is resumed from, in words."""
        if self.saved is None:
            return "no checkpoint was written yet"
        return f"the last good checkpoint is {checkpoint.FOLDER}/step-{self.saved:08d}"

    def _memory(self, now: float) -> int:
        """Bytes in use, looked up at most twice a second: CUDA's statistics take as long as a small step."""
        if now - self.measured[0] > 0.5:
            self.measured = now, self.device.used()
        return self.measured[1]

    def _save(self, must: bool) -> None:
        """Write a checkpoint of the current step; without ``must`` a full disk is a warning.

        None is written ahead of the events before it: a run killed then would lose those.
        """
        told = self.record.flush()
        t = self.config.train
        state: dict[str, Any] = {
            "position": self.position(self.step),
            "origin": self.origin,
            "heldout": self.heldout,
            "generators": self.device.generators(),
            "generators_of_ranks": self.ranks.gather_objects(self.device.generators())[1:],
            "data": self.data.fingerprint,
            "config": self.config.to_dict(),
            "torch": torch.__version__,
        }
        model = self.ranks.gather(self.model.state_dict())
        optimizer = self.ranks.gather(optim.state_tensors(self.model, self.optimiser))
        saved, error = None, ""
        if not told:
            error = f"checkpoint of step {self.step} was not written: the events before it could not be"
        elif self.ranks.main:
            try:
                saved = checkpoint.save(
                    self.run_dir, self.step, model, optimizer, state, t.keep_checkpoints, t.keep_best
                )
            except checkpoint.CheckpointError as failed:
                error = str(failed)
        if error := self.ranks.tell(error):
            last = f"step-{self.saved:08d} stays the newest" if self.saved is not None else "there is none before it"
            if must:
                raise RunError(f"{error}; {last}; free some space and resume")
            self.record.warn(self.step, f"{error}; {last}; the run goes on")
            return
        self.saved = self.step
        if saved is not None:
            self.record.add("checkpoint", step=self.step, path=saved.path, seconds=saved.seconds, bytes=saved.bytes)
        self.record.flush()


def compiled(model: GPT, shared: Callable[..., Tensor], c: Config, graphs: bool) -> tuple[Callable[..., Tensor], bool]:
    """The model compiled, and whether as CUDA graphs, which only happens where ``graphs`` allows it.

    Measured on an H200: part by part starts sooner, and costs no time where a block has enough to do. A small model
    waits for its launches: gpt2-10m takes four times as long in parts as replayed from graphs.
    """
    mode = c.train.compile_mode
    small = c.model.n_embd**2 * c.model.block_size * c.train.micro_batch < SMALL
    if mode == "auto":
        mode = "reduce-overhead" if small and graphs else "default"
    if mode == "reduce-overhead" and not graphs:
        mode = "default"
    if small or mode == "reduce-overhead":
        return torch.compile(shared, mode=mode), mode == "reduce-overhead"
    model.compile_parts(mode=mode)
    return shared, False


def halves(targets: Tensor) -> list[Tensor]:
    """Targets [B, T] of the first and of the second half of the sequences, the others ignored: no shape changes."""
    half = len(targets) // 2
    first, second = targets.clone(), targets.clone()
    first[half:] = IGNORE
    second[:half] = IGNORE
    return [first, second]
