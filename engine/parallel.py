"""Many processes that train one run, started by ``torchrun``: copies of the model (DDP) or shards of it (FSDP2).

Rank r of n takes the micro-batches r, r + n, r + 2n … of each step, out of the same order that one process would read,
so that the number of processes changes nothing but rounding. Rank 0 alone writes events and checkpoints. What the
ranks must do alike (stop, cancel) they agree on; a rank that fails says why in the launcher's store, and rank 0
records it and ends the run, even where it waits inside a collective that will never complete.

PyTorch DDP (Li et al. 2020, arXiv 2006.15704) and ``fully_shard`` (FSDP2: one unit a block, and the rest as the root).
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from data.packed import Cancelled
from engine import config
from engine.errors import RunError
from engine.model import IGNORE
from engine.plan import parallel_of

PATIENCE = timedelta(hours=1)  # for a collective: the slowest of the ranks may be evaluating or writing a checkpoint
POLL = 0.2  # seconds between looks into the store


class Ranks:
    """This process among those that train the run. With one process nothing is shared and every method is local."""

    def __init__(self, rank: int = 0, size: int = 1, local: int = 0, store: dist.Store | None = None) -> None:
        self.rank, self.size, self.local = rank, size, local
        self.mode = "ddp"
        self._node = os.environ.get("GROUP_RANK", str(rank - local))
        self._store = store
        self.on_failure: Callable[[str], object] = lambda text: print(text, file=sys.stderr)
        self._wrapped: Any = None
        self._watcher: threading.Thread | None = None
        self._ended = threading.Event()

    @property
    def main(self) -> bool:
        """Whether this is the rank that writes."""
        return self.rank == 0

    @property
    def sharded(self) -> bool:
        """Whether no process holds the whole model."""
        return self.size > 1 and self.mode == "fsdp"

    def fit(self, c: config.Config) -> None:
        """Check that the run can be shared out over these processes.

        Raises:
            RunError: micro-batches that do not divide evenly.
        """
        for _, batch in c.stages[1:]:
            if batch % (c.train.micro_batch * self.size):
                raise RunError(
                    f"train.batch_schedule: {batch} sequences cannot be shared out evenly over {self.size} processes "
                    f"with micro-batches of {c.train.micro_batch}"
                )
        if c.train.grad_accum % self.size:
            up = -(-c.train.grad_accum // self.size) * self.size
            raise RunError(
                f"train.grad_accum {c.train.grad_accum} micro-batches cannot be shared out evenly over {self.size} "
                f"processes; set train.grad_accum={up}, or start another number of processes"
            )

    def choose(self, c: config.Config, memory: int | None) -> None:
        """Fix ``mode``: what ``train.parallel`` says, or shards where the copies would fill a card of ``memory``."""
        self.mode = parallel_of(c, memory)

    def device(self, train: config.Train) -> str:
        """``train.device`` of this process: with several, the GPU of its number.

        Raises:
            RunError: more processes than GPUs on this machine.
        """
        if self.size == 1 or train.device not in ("auto", "cuda") or not torch.cuda.is_available():
            return train.device
        if self.local >= (count := torch.cuda.device_count()):
            raise RunError(
                f"{os.environ.get('LOCAL_WORLD_SIZE', self.size)} processes on a machine with {count} GPUs; "
                f"set train.processes={count} (torchrun --nproc-per-node={count})"
            )
        torch.cuda.set_device(self.local)
        return f"cuda:{self.local}"

    def share(self, model: nn.Module, device: torch.device) -> nn.Module:
        """The model as it is called for training: itself, or wrapped so that its gradients are means over all ranks.

        Under FSDP the parameters of ``model`` become shards here: make the optimiser behind it.
        """
        if self.size == 1:
            model.to(device)
            self._wrapped = model
        elif self.mode == "ddp":
            model.to(device)
            ids = [device.index] if device.type == "cuda" else None
            self._wrapped = DistributedDataParallel(model, device_ids=ids)
        else:
            # Imported where it is used: it takes a second or two, which one process need not wait for.
            from torch.distributed.device_mesh import init_device_mesh
            from torch.distributed.fsdp import fully_shard

            mesh = init_device_mesh(device.type, (self.size,))
            for block in model.get_submodule("h").children():
                fully_shard(block, mesh=mesh)
            fully_shard(model, mesh=mesh)
            model.to(device)  # what is not sharded: buffers
            self._wrapped = model
        return self._wrapped

    def synchronise(self, last: bool) -> None:
        """Say before a forward pass whether its backward is the step's last: only then are gradients exchanged."""
        if isinstance(self._wrapped, DistributedDataParallel):
            self._wrapped.require_backward_grad_sync = last
        elif self.sharded:
            self._wrapped.set_requires_gradient_sync(last)

    def mean(self, value: Tensor) -> Tensor:
        """Mean of a tensor over all ranks, on its device, without waiting for it."""
        if self.size > 1:
            dist.all_reduce(value)
            value = value / self.size
        return value

    def root_mean_square(self, value: Tensor) -> Tensor:
        """Root of the mean square of a tensor over all ranks, on its device, without waiting for it."""
        return self.mean(value.square()).sqrt() if self.size > 1 else value

    def spread(self, model: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """``model`` for evaluation: the ranks share the rows of a batch, and all get every row's losses [B, T]."""
        if self.size == 1:
            return model

        def call(tokens: Tensor, targets: Tensor, per_token: bool = True) -> Tensor:
            rows = -(-len(tokens) // self.size)
            short = rows * self.size - len(tokens)
            if short:
                tokens = torch.cat([tokens, tokens[:1].expand(short, -1)])
                targets = torch.cat([targets, torch.full_like(targets[:1], IGNORE).expand(short, -1)])
            own = slice(self.rank * rows, (self.rank + 1) * rows)
            losses = model(tokens[own], targets[own], per_token=per_token).contiguous()
            parts = [torch.empty_like(losses) for _ in range(self.size)]
            dist.all_gather(parts, losses)
            return torch.cat(parts)[: len(tokens) - short]

        return call

    def gather(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Whole tensors on the CPU of rank 0, of shards or of copies; other ranks get nothing."""
        gathered: dict[str, Tensor] = {}
        for name, value in tensors.items():
            full = whole(value)
            if self.main:
                gathered[name] = full.detach().cpu() if self.size > 1 else full
        return gathered

    def gather_objects(self, value: Any) -> list[Any]:
        """What every rank passes, in the order of ranks."""
        values: list[Any] = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value)
        return values

    def tell(self, value: Any) -> Any:
        """Rank 0's value, on every rank."""
        values = [value]
        if self.size > 1:
            dist.broadcast_object_list(values, src=0, device=torch.device("cpu"))
        return values[0]

    def agree(self, value: bool) -> bool:
        """Whether it is so on any rank. Every rank must ask at the same place."""
        return self.highest(int(value)) > 0

    def highest(self, value: int) -> int:
        """The highest of all ranks' numbers. Every rank must ask at the same place."""
        if self.size == 1:
            return value
        flag = torch.tensor(value)
        dist.all_reduce(flag, op=dist.ReduceOp.MAX)
        return int(flag)

    @contextmanager
    def in_turn(self, stopping: Callable[[], bool]) -> Iterator[None]:
        """Rank 0 first, then the first process of each other machine, then the rest: the first fill the caches.

        Raises:
            data.packed.Cancelled: the ones before were stopped, or this one is.
        """
        if self._store is None:
            yield
            return
        if not self.main:
            before = "ready" if self.local == 0 else f"ready-{self._node}"
            while not self._store.check([before]):
                if self._store.check(["stopped"]) or stopping():
                    raise Cancelled
                time.sleep(POLL)
        try:
            yield
        except Cancelled:
            self._store.set("stopped", "1")
            raise
        if self.local == 0:
            self._store.set(f"ready-{self._node}", "1")
        if self.main:
            self._store.set("ready", "1")

    def fail(self, text: str) -> str:
        """Say that this rank failed; behind it rank 0 records ``text`` if the failure was its own."""
        if self._store is None:
            return text
        if not self.main:
            time.sleep(2 * POLL)  # what fails on all ranks alike is rank 0's to say
        first = self._store.compare_set("failed", "", f"{self.rank} {text}").decode()
        if int(first.partition(" ")[0]) != self.rank:
            time.sleep(60)  # the watching thread ends this process
        elif not self.main:
            self._wait_until_told()
        return text

    def watch(self) -> None:
        """From now on end this process once another rank has failed; rank 0 first calls ``on_failure``."""
        if self._store is not None:
            self._watcher = threading.Thread(target=self._watch, name="ranks", daemon=True)
            self._watcher.start()

    def rest(self) -> None:
        """Watch no more. A thread that is inside the store when the interpreter ends aborts the process."""
        self._ended.set()
        if self._watcher is not None:
            self._watcher.join(10)

    def _watch(self) -> None:
        assert self._store is not None
        try:
            while not self._store.check(["failed"]):
                if self._ended.wait(POLL):
                    return
            rank, _, text = self._store.get("failed").decode().partition(" ")
        except RuntimeError:  # the launcher is gone, and its store with it
            return
        if int(rank) == self.rank:
            return
        if self.main:
            self.on_failure(f"rank {rank}: {text}")
            self._store.set("told", "1")
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)  # the main thread may wait for the failed rank for ever

    def _wait_until_told(self) -> None:
        assert self._store is not None
        end = time.monotonic() + 10
        try:
            while time.monotonic() < end and not self._store.check(["told"]):
                time.sleep(POLL)
        except RuntimeError:
            return


def join() -> Ranks:
    """Join the processes that ``torchrun`` started; alone where it did not start this one.

    Raises:
        RunError: the others cannot be reached.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return Ranks()
    rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        base, _, _ = next(dist.rendezvous("env://", timeout=PATIENCE))
        turn = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        group, own = dist.PrefixStore(f"group-{turn}", base), dist.PrefixStore(f"run-{turn}", base)
        dist.init_process_group(backend, store=group, rank=rank, world_size=size, timeout=PATIENCE)
    except (RuntimeError, ValueError, OSError) as error:
        where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        raise RunError(
            f"rank {rank} of {size} cannot reach the others at {where}: {' '.join(str(error).split())[:200]}; "
            "check the rendezvous address and the network interface (GLOO_SOCKET_IFNAME, NCCL_SOCKET_IFNAME)"
        ) from None
    if rank:
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 - rank 0 alone speaks
    return Ranks(rank, size, local, own)


def is_shard(value: Tensor) -> bool:
    """Whether a tensor is this rank's shard of a larger one (a ``DTensor``)."""
    return hasattr(value, "full_tensor")


def local(value: Tensor) -> Tensor:
    """What this rank holds of a shard, in the same memory; any other tensor as it is."""
    return cast(Any, value).to_local() if is_shard(value) else value


def whole(value: Tensor) -> Tensor:
    """The tensor that a shard is of, gathered from all ranks; any other tensor as it is."""
    return cast(Any, value).full_tensor() if is_shard(value) else value


def leave() -> None:
    """Leave the process group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def broken(error: BaseException) -> str:
    """What to say of an error that the death of another process caused; "" for any other error."""
    known = isinstance(error, dist.DistError) or any(
        text in str(error) for text in ("gloo", "Connection closed by peer", "Connection reset by peer", "NCCL")
    )
    if not (dist.is_initialized() and known):
        return ""
    return (
        "another process of this run died without a word (killed, or out of memory?); "
        "resume goes on from the newest checkpoint"
    )
