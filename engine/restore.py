"""Checkpoints of a trainer: what it goes on from, and what it writes. ``engine.checkpoint`` has the files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from engine import checkpoint, optim
from engine.compare import differences
from engine.errors import RunError

if TYPE_CHECKING:
    from engine.train import Trainer


def newest(trainer: Trainer) -> checkpoint.Checkpoint | None:
    """The newest checkpoint that is whole; one that is damaged is passed over, and said."""
    if trainer.ranks.main:
        checkpoint.clean(trainer.run_dir)
    for found in checkpoint.newest(trainer.run_dir):
        if isinstance(found, checkpoint.Checkpoint):
            return found
        trainer.record.warn(0, f"{found}; falling back to the one before")
    return None


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], where: str) -> None:
    """Take in weights by name, of the file ``where``. Raises RunError where they are another model's."""
    own = model.state_dict()
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
    model.load_state_dict(weights)


def check(trainer: Trainer, found: checkpoint.Checkpoint) -> None:
    """Raise RunError where a checkpoint is of another configuration, or of other data."""
    state = found.state
    begun = state.get("origin", (0, 0))[0]
    adopted = 0 < begun == found.step  # a branch's first: checked where it was made
    if not adopted and (changed := differences(state["config"], trainer.config)):
        raise RunError(
            f"{found.path.name}: a checkpoint of another configuration: {changed}; restore config.toml, "
            "or start a new run with train.init_from"
        )
    if state["data"] not in (None, trainer.data.fingerprint):  # None: a branch on other data
        raise RunError(f"{found.path.name}: a checkpoint of other data; put the shards back as they were")


def restore(trainer: Trainer, found: checkpoint.Checkpoint) -> None:
    """Go on behind a checkpoint's step, with its optimiser. Raises RunError where its place in the data is another."""
    state = found.state
    begun, position = state.get("origin", (0, 0))
    trainer.origin = begun, position
    optim.load_state(trainer.model, trainer.optimiser, found.optimizer)
    trainer.heldout = state.get("heldout")
    trainer.step = trainer.saved = found.step
    if state["position"] != trainer.position(trainer.step):
        raise RunError(
            f"{found.path.name}: it was trained on {state['position']:,} tokens, the configuration says "
            f"{trainer.position(trainer.step):,} up to its step: restore train.max_steps and train.batch_schedule"
        )


def seed(trainer: Trainer, state: dict[str, Any]) -> None:
    """Go on with the checkpoint's random numbers; every rank has its own, and a new one begins with others."""
    generators = [state["generators"], *state.get("generators_of_ranks", [])] if state else []
    if trainer.ranks.rank < len(generators):
        trainer.device.set_generators(generators[trainer.ranks.rank])
    elif trainer.ranks.rank:
        torch.manual_seed(trainer.config.train.seed + trainer.ranks.rank + 1_000_003 * trainer.step)


def save(trainer: Trainer, must: bool) -> None:
    """Write a checkpoint of the current step; without ``must`` a full disk is a warning.

    None is written ahead of the events before it: a run killed then would lose those.
    """
    told = trainer.record.flush()
    t = trainer.config.train
    state: dict[str, Any] = {
        "position": trainer.position(trainer.step),
        "origin": trainer.origin,
        "heldout": trainer.heldout,
        "generators": trainer.device.generators(),
        "generators_of_ranks": trainer.ranks.gather_objects(trainer.device.generators())[1:],
        "data": trainer.data.fingerprint,
        "config": trainer.config.to_dict(),
        "torch": torch.__version__,
    }
    model = trainer.ranks.gather(trainer.model.state_dict())
    optimizer = trainer.ranks.gather(optim.state_tensors(trainer.model, trainer.optimiser))
    saved, error = None, ""
    if not told:
        error = f"checkpoint of step {trainer.step} was not written: the events before it could not be"
    elif trainer.ranks.main:
        try:
            saved = checkpoint.save(
                trainer.run_dir, trainer.step, model, optimizer, state, t.keep_checkpoints, t.keep_best
            )
        except checkpoint.CheckpointError as failed:
            error = str(failed)
    if error := trainer.ranks.tell(error):
        before = trainer.saved
        last = "there is none before it" if before is None else f"{checkpoint.name_of(before)} stays the newest"
        if must:
            raise RunError(f"{error}; {last}; free some space and resume")
        trainer.record.warn(trainer.step, f"{error}; {last}; the run goes on")
        return
    trainer.saved = trainer.step
    if saved is not None:
        trainer.record.add("checkpoint", step=trainer.step, path=saved.path, seconds=saved.seconds, bytes=saved.bytes)
    trainer.record.flush()
