"""From a cause's experiment to arms or measurements that fit the budget: which checkpoint, how long, how many.

Two plain arms and two changed ones, a pair of each order of the data (the run's own and another): that the arms of a
pair read the same text in the same order makes their difference small, that there are two pairs shows how much of it
is chance. An arm's length is what the budget leaves for each, evaluations counted at a third of a trained token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from engine.config import Config, ConfigError, validate
from engine.plan import parameter_count
from workbench.plateau.experiment import BUDGET, HIGH, Arms, Experiment, Measurement
from workbench.plateau.rate import full_cooldown
from workbench.probes.site import Kept, NoProbe, Site

SEEDS = 2
FRESH = 16  # steps, at least, of an arm from the start
QUANTUM = 4  # an arm's steps are a multiple of it, so that one of four times the batch reads the same tokens
FORWARD = 1 / 3  # cost of a token that is only evaluated
MOST_DOCUMENTS, FEWEST = 2000, 8
OTHER_ORDER = 7919  # added to the run's seed for the second pair


@dataclass(frozen=True)
class Arm:
    """A short run. ``changed``: with the change; ``pair``: which order of the data; ``unique``: copies left out."""

    name: str
    config: Config
    changed: bool
    pair: int
    unique: bool = False


@dataclass(frozen=True)
class Design:
    """A probe as planned.

    Attributes:
        kept: the checkpoint. steps, tokens: of a plain arm. spent: tokens of the run so far.
        cost: share of ``spent`` that the whole of it takes, ``left`` of what is not done yet.
        measure: what ``engine.probe`` is to measure; None for arms.
        healthy_cooldown: nats that annealing may gain a healthy run of this size; None where the change does not calm.
    """

    cause: str
    experiment: Experiment
    kept: Kept
    spent: int
    cost: float
    arms: tuple[Arm, ...] = ()
    steps: int = 0
    tokens: int = 0
    measure: dict[str, Any] | None = None
    left: float = 0.0
    healthy_cooldown: float | None = None


def design(site: Site, cause: str, experiment: Experiment, budget: float = BUDGET) -> Design:
    """Plan the experiment for a cause. Raises NoProbe where this run does not allow it."""
    if isinstance(experiment, Measurement):
        return _measurement(site, cause, experiment, budget)
    return _arms(site, cause, experiment, budget)


def _arms(site: Site, cause: str, experiment: Arms, budget: float) -> Design:
    if experiment.once:
        _refuse_without_copies(site)
    kept = _start(site) if experiment.fresh else _checkpoint(site, experiment)
    least = FRESH if experiment.fresh else QUANTUM
    base = _base(site, kept)
    per_step = base.tokens_per_step
    count = 2 * SEEDS
    documents, evaluated = _evaluated(site, budget * site.spent / count / 4)
    evaluations = count + bool(kept.step)  # one of the checkpoint itself, where there is one
    room = (budget * site.spent - evaluations * FORWARD * evaluated) / count
    steps = int(room / per_step) // QUANTUM * QUANTUM
    if steps < least:
        need = (count * least * per_step + evaluations * FORWARD * evaluated) / site.spent
        raise NoProbe(
            f"{budget:.0%} of the run's compute so far is {max(0, int(room / per_step))} steps an arm, too few to tell "
            f"anything: wait until it has trained longer, or allow more with --budget {need + 0.005:.2f}"
        )
    base = base.replace(eval={"documents": documents})
    plain, changed = _pair(site, kept, base, experiment, steps)
    label = "planned" if experiment.cooldown else "plain"
    arms = []
    for pair in range(SEEDS):
        seed = {"seed": base.train.seed + pair * OTHER_ORDER}
        for name, config, is_changed in ((label, plain, False), (experiment.label, changed, True)):
            if kept.step and not (is_changed or pair):  # the checkpoint's own loss, on the same documents
                config = config.replace(eval={"every": kept.step})
            full = f"step-{kept.step}+{steps}-{name}-{pair + 1}"
            arms.append(Arm(full, config.replace(train=seed), is_changed, pair, is_changed and experiment.once))
    each = (steps * per_step + FORWARD * evaluated) / site.spent
    folder = site.run_dir / "probes" / "arms"
    missing = sum(not (folder / arm.name / "evals" / _last(arm)).is_file() for arm in arms)
    first = FORWARD * evaluated / site.spent if kept.step else 0.0
    healthy = full_cooldown(parameter_count(base.model))[0].high if experiment.calms else None
    return Design(
        cause, experiment, kept, site.spent, count * each + first, tuple(arms), steps, steps * per_step, None,
        missing * each + first * bool(missing), healthy,
    )  # fmt: skip


def _last(arm: Arm) -> str:
    return f"heldout-{arm.config.train.max_steps:08d}.npy"


def _refuse_without_copies(site: Site) -> None:
    unique = int(site.data.get("unique_tokens") or 0)
    if unique and unique >= 0.98 * site.tokens:
        raise NoProbe(
            f"the files of {site.run_dir.name} hold hardly an exact copy ({unique:,} of {site.tokens:,} tokens are "
            "unique): for near ones train on a recipe that deduplicates (gptbench data recipe)"
        )


def _start(site: Site) -> Kept:
    """The run before its first step."""
    newest = site.checkpoints[0]
    return Kept(newest.path, 0, 0, 0, newest.planned)


def _checkpoint(site: Site, experiment: Arms) -> Kept:
    """The newest checkpoint, or the newest whose rate is high enough."""
    peak = site.config.optim.lr
    newest = site.checkpoints[0]
    if experiment.rewarm is not None and site.rate(newest) > 0.8 * experiment.rewarm * peak:
        raise NoProbe(f"the rate still stands at {site.rate(newest) / peak:.0%} of its peak: it has not decayed yet")
    if not experiment.high:
        return newest
    for kept in site.checkpoints:
        if site.rate(kept) >= HIGH * peak and kept.step >= site.config.schedule.warmup_steps:
            return kept
    raise NoProbe(
        f"no checkpoint with the rate still at {HIGH:.0%} of its peak is kept (the newest, of step {newest.step}, has "
        f"{site.rate(newest) / peak:.0%}): what its noise costs can only be seen there; start again with the change"
    )


def _base(site: Site, kept: Kept) -> Config:
    """The run's configuration as of a checkpoint, one process, nothing but the last evaluation."""
    c = site.config.replace(train={"max_steps": kept.planned})
    start = {"init_from": None, "branched_from": kept.path.name} if kept.step else {"branched_from": None}
    return c.replace(
        train={
            "epochs": None, "grad_accum": c.micro_batches(kept.step + 1), "batch_schedule": (), "processes": 1,
            "parallel": "auto", "checkpoint_every": 0, "keep_checkpoints": 1, "keep_best": False, "system_every": 0.0,
            **start,
        },
        eval={"every": 0, "seen": 0, "sample_every": 0},
    )  # fmt: skip


def _evaluated(site: Site, most: float) -> tuple[int, int]:
    """Held-out documents and their tokens that an arm evaluates: as the run does, at most ``most`` trained tokens'
    worth, but at least ``FEWEST`` documents."""
    documents = tokens = 0
    for count in site.evaluated:
        if documents >= FEWEST and (tokens + count) * FORWARD > most:
            break
        documents, tokens = documents + 1, tokens + count
    if not documents:
        return site.config.eval.documents, 0
    return documents, tokens


def _pair(site: Site, kept: Kept, base: Config, experiment: Arms, steps: int) -> tuple[Config, Config]:
    """Configurations of a plain and of a changed arm."""
    if experiment.fresh:
        arms = (_fresh(base, site, steps), _fresh(base, site, steps, experiment.rate))
        return arms[0], _with(arms[1], experiment)
    peak, now = site.config.optim.lr, site.rate(kept)
    begin = now if experiment.high or experiment.rewarm is not None else max(now, HIGH * peak)
    begin = max(begin, 1e-4 * peak)  # a rate of nothing is none
    plain = _annealed(base, kept, begin, steps)
    changed = plain
    if experiment.cooldown:
        s = base.schedule
        kept_schedule = {"decay_steps": base.decay_steps}
        if s.kind == "wsd":
            kept_schedule["cooldown_steps"] = base.cooldown_steps
        plain = base.replace(train={"max_steps": kept.step + steps}, schedule=kept_schedule)
    if experiment.rewarm is not None:
        begin = experiment.rewarm * peak
    changed = _annealed(_batch(base, experiment), kept, begin * experiment.rate, round(steps / experiment.batch))
    changed = _with(changed, experiment)
    if changed == plain and not experiment.once:
        raise NoProbe(f"there is nothing to change: {site.run_dir.name} is set like that already")
    for config in (plain, changed):
        try:
            validate(config)
        except ConfigError as error:
            raise NoProbe(f"the arms cannot be set up: {error}") from None
    return plain, changed


def _annealed(base: Config, kept: Kept, rate: float, steps: int) -> Config:
    """From ``rate`` linearly to zero over ``steps``."""
    return base.replace(
        optim={"lr": rate},
        schedule={
            "kind": "wsd", "warmup_steps": 0, "min_lr": 0.0, "decay_steps": None, "cooldown_steps": steps,
            "cooldown_shape": "linear",
        },
        train={"max_steps": kept.step + steps},
    )  # fmt: skip


def _fresh(base: Config, site: Site, steps: int, factor: float = 1.0) -> Config:
    """From the start: warmed up as the run was, for half of the steps at most, then linearly to zero."""
    warmup = min(site.config.schedule.warmup_steps, steps // 2)
    config = _annealed(base, _start(site), factor * site.config.optim.lr, steps - warmup)
    return config.replace(schedule={"warmup_steps": warmup}, train={"max_steps": steps})


def _batch(base: Config, experiment: Arms) -> Config:
    accumulate, micro = base.train.grad_accum, base.train.micro_batch
    if experiment.batch >= 1:
        return base.replace(train={"grad_accum": round(accumulate * experiment.batch)})
    parts = round(1 / experiment.batch)
    if accumulate % parts == 0:
        return base.replace(train={"grad_accum": accumulate // parts})
    if micro % parts == 0:
        return base.replace(train={"micro_batch": micro // parts})
    raise NoProbe(
        f"a batch of {accumulate * micro} sequences cannot be cut into {parts}: start again with a smaller one"
    )


def _with(config: Config, experiment: Arms) -> Config:
    """The options that the change lowers, raises or sets."""
    flat = config.to_dict()
    changes: dict[str, dict[str, Any]] = {}
    bounds = [(key, value, min) for key, value in experiment.at_most.items()]
    bounds += [(key, value, max) for key, value in experiment.at_least.items()]
    for key, value, bound in bounds:
        section, _, name = key.partition(".")
        changes.setdefault(section, {})[name] = bound(flat[section][name], value)
    for key, value in experiment.set.items():
        section, _, name = key.partition(".")
        changes.setdefault(section, {})[name] = value
    return config.replace(**changes)


def _measurement(site: Site, cause: str, experiment: Measurement, budget: float) -> Design:
    sets = _sets(site, experiment)
    kept = site.checkpoints[:1]
    if experiment.checkpoints > 1:
        kept = site.checkpoints[:1] + site.checkpoints[-1:]
        if kept[0].step < 1.05 * kept[-1].step:
            raise NoProbe(
                "only one checkpoint is kept: what changes between two cannot be seen (train.keep_checkpoints)"
            )
    c = site.config
    batch = c.train.micro_batch * c.model.block_size
    overfit = min(experiment.overfit, max(20, int(budget * site.spent / 2 / batch))) if experiment.overfit else 0
    held = site.data.get("held_out") or {}
    number, tokens = int(held.get("documents") or 1), int(held.get("tokens") or 0)
    length = max(1.0, min(tokens / max(1, number), c.eval.document_tokens))
    room = max(0.0, budget * site.spent - overfit * batch)
    passes = max(1, len(sets)) * len(kept)
    documents = max(FEWEST, min(MOST_DOCUMENTS, int(room / FORWARD / length / passes)))
    trained = int(site.data.get("unique_documents") or number)
    most = {"seen": trained, "unread": trained}
    read = sum(min(documents, most.get(name, number)) for name in sets)
    reading = read * length * len(kept) * FORWARD
    measure = {
        "sets": list(sets), "documents": documents, "steps": [k.step for k in kept], "overfit": overfit,
    }  # fmt: skip
    cost = (reading + overfit * batch) / site.spent
    return Design(cause, experiment, kept[0], site.spent, cost, measure=measure, left=cost)


def _sets(site: Site, experiment: Measurement) -> tuple[str, ...]:
    """The document sets, or why this run has not got them."""
    newest, elsewhere = site.checkpoints[0], bool(site.config.data.val_paths)
    unread = not newest.origin and newest.position < 0.9 * site.tokens
    held = site.data.get("held_out") or {}
    if experiment.judge == "memorised":
        if newest.position < site.tokens:
            times = newest.position / max(1, site.tokens)
            raise NoProbe(f"the training text has been read {times:.2f} times: none of it can be known by heart")
        if elsewhere:
            raise NoProbe(
                "the held-out documents come from other files: what is learnt by heart cannot be told from a shift; "
                "hold out documents of the same shards, with a new run"
            )
    if experiment.judge == "shift":
        if not elsewhere:
            raise NoProbe(
                "the held-out documents are drawn from the training shards themselves: nothing can be shifted"
            )
        if not unread:
            raise NoProbe(
                "every training document has been read, so none can stand in for held-out text of the same kind: "
                "start again with documents of the training shards held out (data.val_fraction)"
            )
    if experiment.judge == "leaked" and held.get("leaked_documents") == 0:
        raise NoProbe(
            "data.json counts no held-out document with an exact copy in the training data: nothing to leave out"
        )
    if experiment.judge == "tiny":
        spare = int(held.get("documents") or 0) - site.config.eval.documents
        if spare < FEWEST:
            raise NoProbe(
                "no held-out documents are left that it does not evaluate already: hold out more of them "
                "(data.val_fraction), with a new run"
            )
    return experiment.sets
