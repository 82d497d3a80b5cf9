"""What a plan implies before it is run: parameters, FLOPs, epochs, memory, time, and what looks wrong. Torch-free."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field

from engine import config as config_module
from engine.cards import is_card, peak_flops
from engine.config import Config
from engine.schedule import cooldown_begin, learning_rate

__all__ = [
    "Plan", "flops_per_token", "memory_needed", "memory_parts", "mlp_width", "parallel_of", "parameter_count",
    "peak_flops", "plan", "position_parameters", "remedy", "shards_of", "steps_of_epochs", "window_of",
]  # fmt: skip

ROOM = 0.7  # share of a card's memory that weights, gradients and moments may take before they are sharded
MANY_EPOCHS = 4  # repeats up to about here are worth nearly as much as fresh tokens: Muennighoff et al. 2023
# What a process holds besides its tensors: torch itself, and on CUDA the context's workspaces that count as allocated.
OVERHEAD = {"cpu": 400 << 20, "cuda": 64 << 20}


def mlp_width(model: config_module.Model) -> int:
    """Inner width of the feed-forward layer: 4 n_embd; for SwiGLU's three matrices 8/3 n_embd, in multiples of 64."""
    return 4 * model.n_embd if model.mlp != "swiglu" else max(64, round(8 * model.n_embd / 3 / 64) * 64)


def window_of(model: config_module.Model, layer: int) -> int:
    """Tokens that a layer looks back, itself included. With ``window`` every fourth layer and the last see all."""
    local = model.window and layer % 4 != 3 and layer != model.n_layer - 1
    return min(model.window, model.block_size) if local else model.block_size


def parameter_count(model: config_module.Model) -> int:
    """Trained parameters in nanoGPT's count: position embeddings left out, a tied head counted once."""
    c, layers, width = model.n_embd, model.n_layer, mlp_width(model)
    kv = c // model.n_head * (model.n_kv_head or model.n_head)
    inner = 2 * width if model.mlp == "swiglu" else width
    norms = 2 * layers + 1
    biases = layers * (c + 2 * kv + c + inner + c) + (norms * c if model.norm == "layernorm" else 0)
    return (
        model.vocab_size * c * (1 if model.tied else 2)
        + layers * (c * (c + 2 * kv) + c * c + inner * c + width * c)
        + norms * c
        + (biases if model.bias else 0)
    )


def position_parameters(model: config_module.Model) -> int:
    """Parameters of the position embeddings, which ``parameter_count`` leaves out."""
    return model.block_size * model.n_embd if model.positions == "learned" else 0


def flops_per_token(model: config_module.Model) -> float:
    """FLOPs of one trained token, forward and backward: 6 N + 12 L H Q T (PaLM, appendix B, as nanoGPT counts it).

    An embedding that is not the head too multiplies nothing and is left out of N; a layer with a window counts that
    for T. As in nanoGPT the causal half of attention is counted in full.
    """
    used = parameter_count(model) - (0 if model.tied else model.vocab_size * model.n_embd)
    return 6.0 * used + 12.0 * model.n_embd * sum(window_of(model, layer) for layer in range(model.n_layer))


def steps_of_epochs(config: Config, train_tokens: int) -> int:
    """Optimiser steps of ``train.epochs`` over ``train_tokens``: as many as fit in whole, at least one."""
    if config.train.epochs is None:
        return config.train.max_steps
    budget = config.train.epochs * train_tokens + 1e-9
    steps = max(1, math.floor(budget / config.tokens_per_step))
    if not config.train.batch_schedule:
        return steps

    def fits(steps: int) -> bool:
        return config.replace(train={"max_steps": steps}).tokens_after(steps) <= budget

    low, high = 1, 2 + math.floor(budget / (config.model.block_size * min(batch for _, batch in config.stages)))
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def memory_parts(config: Config, *, device: str = "cuda", compiled: bool | None = None) -> dict[str, int]:
    """Predicted training memory in bytes, part by part; the peak is ``memory_needed``.

    Derived from shapes. With P parameters, N tokens of a micro-batch, width C, L layers, V vocabulary rows, and w the
    bytes of an activation that is computed in the training dtype (2 under bfloat16, else 4):

    * ``weights``, ``gradients``: 4 P each (float32 master weights). ``optimizer``: AdamW's two moments, 8 P; Muon has
      one for the blocks' matrices.
    * ``casts``: 2 P under bfloat16, the copies of the weights that autocast keeps for the backward pass.
    * ``activations``: per layer and token, kept for the backward pass, in units of C: the inputs of both norms (w each
      where the residual stream is compiled in bfloat16, else float32) and what comes out of them, q, k and v, the two
      of them that are normalised or rotated once more, attention's output, the MLP before and behind what is not
      linear. With dropout also its masks: 1 byte each where it is fused, on a CPU a float32 mask and its input, and
      there attention falls back to the plain way, with T x H float32 scores and mask, several times over. Document
      masks take T float32 a token on a CPU, of each kind of layer (windows, none); on CUDA next to nothing.
    * ``head``: the rows of logits that stand at a time, the head's weights in the training dtype, and their float32
      gradient, which waits beside the embedding's own.
    * ``overhead``: the process itself (CPU, where memory is the resident set), workspaces (CUDA).

    Measured on an H200, compiled, bfloat16 (gpt2-124m with micro-batches of 16 and 64, seed-40m, modern-25m with
    windows, modern-124m, modern-350m): within 5%. Against the resident peak of whole runs on a CPU (1M and 10M models,
    micro-batches of 2 to 64, dropout on and off): within 10%.
    """
    m = config.model
    kind = "cpu" if device.startswith("cpu") else "cuda"
    half = config.train.dtype == "bfloat16" or (config.train.dtype == "auto" and kind == "cuda")
    if compiled is None:
        compiled = config.train.compile == "on" or (config.train.compile == "auto" and kind == "cuda")
    w = 2 if half else 4
    parameters = parameter_count(m) + position_parameters(m)
    tokens, c = config.train.micro_batch * m.block_size, m.n_embd
    kv, width = (m.n_kv_head or m.n_head) / m.n_head, mlp_width(m) / c
    again = 1 + kv if m.qk_norm or m.positions == "rotary" else 0  # queries and keys, once more
    inside = 2 + (1 + 2 * kv) + again + 1 + width * (3 if m.mlp == "swiglu" else 2)
    per_layer_bytes = c * ((2 * w if compiled and half else 8) + w * inside)
    if m.dropout:
        if kind == "cuda":
            per_layer_bytes += 2 * c
        else:
            per_layer_bytes += 2 * (4 + w) * c + m.n_head * m.block_size * 4 * 4
    masks = 0
    if m.document_mask and kind == "cpu":
        kinds = len({window_of(m, layer) for layer in range(m.n_layer)})
        masks = 4 * kinds * m.block_size * (m.n_head if m.positions == "alibi" else 1)
    # As engine.head.head_rows has it, which cannot be imported without torch; and bytes a logit while it stands.
    # With an fp8 head (engine.head_fp8): logits, their gradient and that turned, and operands of one byte, each twice.
    fp8 = config.train.fp8_head
    rows, each = (256, 4) if kind == "cpu" else (16384, w + 2) if fp8 else (8192, w)
    operands = 2 * (m.vocab_size + tokens) * c + 4 * m.vocab_size * c if fp8 else w * m.vocab_size * c
    outside = 5 * w if kind == "cuda" else 4 + w + 4 + w  # embedded, and the final states with their gradient
    matrices = muon_parameters(config)
    return {
        "weights": 4 * parameters,
        "gradients": 4 * parameters,
        "optimizer": 8 * parameters - 4 * matrices,
        "casts": 2 * parameters if half else 0,
        "activations": int(tokens * (m.n_layer * per_layer_bytes + outside * c + masks)),
        "head": min(tokens, rows) * m.vocab_size * each + 4 * m.vocab_size * c + operands,
        "overhead": OVERHEAD[kind],
    }


def muon_parameters(config: Config) -> int:
    """Parameters that Muon updates: the blocks' matrices; 0 for AdamW."""
    m = config.model
    if config.optim.kind != "muon":
        return 0
    kv, width = m.n_embd // m.n_head * (m.n_kv_head or m.n_head), mlp_width(m)
    inner = 2 * width if m.mlp == "swiglu" else width
    return m.n_layer * m.n_embd * (2 * m.n_embd + 2 * kv + inner + width)


def memory_needed(config: Config, *, device: str = "cuda", compiled: bool | None = None, shards: int = 1) -> int:
    """Predicted peak of training memory in bytes: allocated tensors on CUDA, the resident set on a CPU.

    The peak lies where the backward pass begins: all activations stand, the head's own buffers or the first
    gradients beside them. Gradients of the layers grow only as activations are freed; with gradient accumulation
    they stand throughout. See ``memory_parts`` for what is counted. With ``shards`` processes that share the model,
    each holds that part of the weights, gradients and moments, and of what Muon orthogonalises (what one block's whole
    weights take is not counted).
    """
    part = memory_parts(config, device=device, compiled=compiled)
    for name in ("weights", "gradients", "optimizer"):
        part[name] //= shards
    always = part["weights"] + part["optimizer"] + part["overhead"]
    forward = part["casts"] + part["activations"] + part["head"]
    if config.train.grad_accum > 1 or any(batch > config.train.micro_batch for _, batch in config.stages):
        forward += part["gradients"]
    update = (
        part["gradients"] + 4 * config.model.vocab_size * config.model.n_embd + 16 * muon_parameters(config) // shards
    )
    return always + max(forward, update)


def parallel_of(config: Config, memory: int | None) -> str:
    """How processes share a model: as ``train.parallel`` says; where that is auto in copies ("ddp"), or in shards
    ("fsdp") where weights, gradients and moments would fill a card of ``memory`` bytes (None: not known)."""
    if config.train.parallel != "auto":
        return config.train.parallel
    state = 16 * (parameter_count(config.model) + position_parameters(config.model))
    return "fsdp" if memory is not None and state > ROOM * memory else "ddp"


def shards_of(config: Config, memory: int | None) -> int:
    """Into how many shards the processes of one machine with cards of ``memory`` bytes cut the model; 1: copies."""
    return config.train.processes if parallel_of(config, memory) == "fsdp" else 1


def remedy(config: Config, memory: int, *, device: str = "cuda", shards: int = 1) -> str:
    """What to change, and by how much, so that the run's predicted memory fits into ``memory`` bytes.

    The largest micro-batch that leaves a step its sequences; else a context half as long, or half of that …; else
    what the model itself takes.
    """
    t = config.train
    sequences = t.micro_batch * t.grad_accum
    low = [size for size in range(1, math.isqrt(sequences) + 1) if sequences % size == 0]
    for size in sorted({*low, *(sequences // size for size in low)}, reverse=True):
        if size >= t.micro_batch or any(batch % (size * t.processes) for _, batch in config.stages):
            continue
        smaller = config.replace(train={"micro_batch": size, "grad_accum": sequences // size})
        if memory_needed(smaller, device=device, shards=shards) <= memory:
            return f"set train.micro_batch={size} and train.grad_accum={sequences // size}, for as many tokens a step"
    one = config.replace(train={"micro_batch": 1, "grad_accum": sequences})
    for halved in range(1, max(1, config.model.block_size.bit_length() - 6)):  # down to 64 tokens or so
        block = config.model.block_size >> halved
        if memory_needed(one.replace(model={"block_size": block}), device=device, shards=shards) <= memory:
            return (
                f"set train.micro_batch=1, train.grad_accum={sequences << halved} and model.block_size={block}, for as "
                "many tokens a step, or choose a smaller model"
            )
    least = memory_needed(one, device=device, shards=shards)
    more = "" if device == "cpu" else ", or share it over more GPUs"
    return f"even a micro-batch of 1 takes {_gib(least)}; choose a smaller model{more}"


@dataclass(frozen=True)
class Plan:
    """What a run will be. Unknown is None, never 0.

    Attributes:
        parameters: nanoGPT's count. tokens_per_step, total_tokens: trained tokens.
        epochs: passes over the unique training tokens (over all of them where the unique count is not known).
        memory, memory_available: bytes. seconds: training time without start-up. flops: of the whole run.
        cooldown_steps: last steps that cool down, of a wsd schedule.
        warnings: one line each, what looks wrong and what to do.
    """

    parameters: int
    tokens_per_step: int
    max_steps: int
    total_tokens: int
    epochs: float | None
    memory: int
    memory_available: int | None
    seconds: float | None
    flops: float
    cooldown_steps: int | None = None
    warnings: list[str] = field(default_factory=list)


def plan(
    config: Config,
    *,
    train_tokens: int | None,
    unique_tokens: int | None,
    device_memory: int | None = None,
    device_name: str | None = None,
    shards: int = 1,
) -> Plan:
    """What ``config`` implies.

    Args:
        train_tokens: tokens of one epoch, separators included; None while not known.
        unique_tokens: those of them that remain when exact copies count once; None while not known.
        shards: processes that share the model (FSDP); 1: each has all of it.
        device_memory: bytes of the device. device_name: the card's name; None or a processor's name for a CPU.

    Where ``train.epochs`` is set and ``train_tokens`` is not known, ``train.max_steps`` stands for the steps.
    """
    steps = config.train.max_steps if train_tokens is None else steps_of_epochs(config, train_tokens)
    config = config.replace(train={"max_steps": steps})
    total = config.tokens_after(steps)
    flops = total * flops_per_token(config.model)
    basis = unique_tokens or train_tokens
    device = config.train.device
    if device == "auto":
        device = "cuda" if device_name is not None and is_card(device_name) else "cpu"
    peak = peak_flops(device_name) if device_name is not None and not device.startswith("cpu") else None
    result = Plan(
        parameters=parameter_count(config.model),
        tokens_per_step=config.tokens_per_step,
        max_steps=steps,
        total_tokens=total,
        epochs=total / basis if basis else None,
        memory=memory_needed(config, device=device, shards=shards),
        memory_available=device_memory,
        seconds=None if peak is None else flops / (peak * _utilisation(config.model)),
        flops=flops,
        cooldown_steps=config.cooldown_steps if config.schedule.kind == "wsd" else None,
    )
    result.warnings.extend(_warnings(config, result, train_tokens, unique_tokens, device, shards))
    return result


def _utilisation(model: config_module.Model) -> float:
    """Share of the peak that training reaches, by width and family.

    Measured on an H200, 64 sequences at a time: gpt2-124m 50.9%, seed-40m 41.9%, gpt2-350m 55.2%, modern-124m 46.6%,
    modern-350m 49.3%, each within 2% of what is said here. Fewer at a time reach less (gpt2-124m with 16: 45.5%).
    """
    points = ((64, 0.05), (192, 0.185), (384, 0.42), (768, 0.51), (1024, 0.545))
    family = 0.91 if model.family == "modern" else 1.0  # norms of queries and keys, and Muon's products
    width = min(max(model.n_embd, points[0][0]), points[-1][0])
    (x0, y0), (x1, y1) = next(pair for pair in itertools.pairwise(points) if width <= pair[1][0])
    return family * (y0 + (y1 - y0) * (width - x0) / (x1 - x0))


def _warnings(
    config: Config, p: Plan, train_tokens: int | None, unique_tokens: int | None, device: str, shards: int
) -> list[str]:  # fmt: skip
    found = []
    if p.epochs is not None and p.epochs > MANY_EPOCHS:
        kind = "unique " if unique_tokens else ""
        found.append(
            f"{p.epochs:.1f} epochs over {(unique_tokens or train_tokens or 0):,} {kind}tokens: behind about "
            f"{MANY_EPOCHS} epochs repeats teach little; add shards or lower train.max_steps"
        )
    if train_tokens is not None and train_tokens < p.tokens_per_step:
        found.append(f"one step trains on {p.tokens_per_step:,} tokens, more than the {train_tokens:,} of an epoch")
    found += _schedule_warnings(config, p)
    if p.memory_available is not None and p.memory > p.memory_available:
        advice = remedy(config, p.memory_available, device=device, shards=shards)
        found.append(f"about {_gib(p.memory)} of memory needed, {_gib(p.memory_available)} there: {advice}")
    return found


def _schedule_warnings(config: Config, p: Plan) -> list[str]:
    s, steps, end = config.schedule, p.max_steps, config.decay_steps
    if s.warmup_steps >= steps:
        return [f"the warm-up of {s.warmup_steps} steps is not over after {steps}: lower schedule.warmup_steps"]
    if s.kind == "constant":
        return []
    if s.kind == "wsd" and cooldown_begin(config) >= min(steps, end):
        return ["wsd without a cooldown: the learning rate never falls; leave schedule.cooldown_steps out, or set it"]
    if end > steps:
        last = learning_rate(config, steps)
        return [
            f"the learning rate ends at {last:.3g}, above schedule.min_lr {s.min_lr:.3g}: it decays over {end} steps, "
            f"the run has {steps}; set schedule.decay_steps={steps}"
        ]
    if end < 0.9 * steps:
        return [f"the last {steps - end} steps run at schedule.min_lr {s.min_lr:.3g}: raise schedule.decay_steps"]
    return []


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
