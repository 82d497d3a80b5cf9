from __future__ import annotations

import subprocess
import sys

import pytest

from engine import plan
from engine.cards import is_card, peak_flops
from engine.config import PRESETS, Config, resolve
from engine.model import GPT


def test_the_seeds_model_has_40_560_000_parameters() -> None:
    model = resolve(sets=["model.preset=seed-40m"]).model
    assert plan.parameter_count(model) == 40_560_000
    assert plan.parameter_count(model) + plan.position_parameters(model) == 40_953_216


def test_gpt2_has_nanogpts_count() -> None:
    assert plan.parameter_count(resolve().model) == 123_587_328  # "number of parameters: 123.59M"
    assert plan.parameter_count(resolve(sets=["model.bias=true", "model.vocab_size=50257"]).model) == 123_653_376


@pytest.mark.parametrize("preset", [name for name in PRESETS if name not in ("gpt2-350m",)])
@pytest.mark.parametrize("bias", ["true", "false"])
def test_the_count_is_that_of_the_module(preset: str, bias: str) -> None:
    model = resolve(sets=[f"model.preset={preset}", f"model.bias={bias}", "model.n_layer=2"]).model
    held = sum(p.numel() for p in GPT(model).parameters())
    assert held == plan.parameter_count(model) + plan.position_parameters(model)


def test_flops_are_nanogpts() -> None:
    assert plan.flops_per_token(resolve().model) == 6 * 123_587_328 + 12 * 12 * 12 * 64 * 1024


@pytest.mark.parametrize(
    ("name", "tera"),
    [
        ("NVIDIA H200", 989.4), ("NVIDIA H100 80GB HBM3", 989.4), ("NVIDIA H100 PCIe", 756),
        ("NVIDIA A100-SXM4-40GB", 312), ("NVIDIA A10G", 70), ("NVIDIA A10", 125), ("NVIDIA L4", 121),
        ("NVIDIA L40S", 362), ("Tesla T4", 65), ("Tesla V100-SXM2-16GB", 125),
        ("NVIDIA GeForce RTX 4070", 58.3), ("NVIDIA GeForce RTX 4070 SUPER", 71.0),
        ("NVIDIA GeForce RTX 4090", 165.2), ("NVIDIA GeForce RTX 3090", 71.2), ("NVIDIA GeForce RTX 5090", 209.5),
    ],
)  # fmt: skip
def test_known_cards(name: str, tera: float) -> None:
    assert peak_flops(name) == pytest.approx(tera * 1e12)
    assert is_card(name)


@pytest.mark.parametrize("name", ["", "AMD EPYC", "NVIDIA GeForce RTX 4070 Laptop GPU", "NVIDIA GeForce GTX 1080"])
def test_unknown_cards_say_so(name: str) -> None:
    assert peak_flops(name) is None


def test_a_plan_in_numbers() -> None:
    c = resolve(sets=["model.preset=seed-40m", "train.grad_accum=32", "train.max_steps=20000"])
    p = plan.plan(c, train_tokens=2_000_000_000, unique_tokens=1_500_000_000)
    assert (p.parameters, p.tokens_per_step, p.total_tokens) == (40_560_000, 524_288, 10_485_760_000)
    assert p.epochs == pytest.approx(6.99, abs=0.01)
    assert p.seconds is None and p.memory_available is None
    assert any("7.0 epochs over 1,500,000,000 unique tokens" in w for w in p.warnings)


def test_what_is_not_known_is_none() -> None:
    p = plan.plan(Config(), train_tokens=None, unique_tokens=None)
    assert p.epochs is None and p.seconds is None


def test_epochs_become_steps() -> None:
    c = resolve(sets=["train.epochs=2", "train.micro_batch=4", "model.block_size=100"])
    assert plan.plan(c, train_tokens=1000, unique_tokens=None).max_steps == 5
    assert plan.plan(c, train_tokens=1399, unique_tokens=None).max_steps == 6  # never more than the epochs asked for
    assert plan.plan(c, train_tokens=10, unique_tokens=None).max_steps == 1


@pytest.mark.parametrize(
    ("sets", "text"),
    [
        (["schedule.decay_steps=40000"], "the learning rate ends at"),
        (["schedule.decay_steps=1000"], "run at schedule.min_lr"),
        (["schedule.kind=wsd", "schedule.cooldown_steps=0"], "wsd without a cooldown"),
        (["train.max_steps=100"], "the warm-up of 200 steps is not over"),
    ],
)
def test_schedules_that_look_wrong(sets: list[str], text: str) -> None:
    p = plan.plan(resolve(sets=sets), train_tokens=None, unique_tokens=None)
    assert any(text in w for w in p.warnings), p.warnings


def test_a_sound_plan_has_no_warning() -> None:
    p = plan.plan(resolve(), train_tokens=10**9, unique_tokens=10**9, device_memory=80 << 30, device_name="NVIDIA H100")
    assert p.warnings == []
    assert p.seconds is not None and 50 < p.seconds < 3600


def test_memory_over_the_device_is_said() -> None:
    p = plan.plan(resolve(sets=["train.micro_batch=64"]), train_tokens=None, unique_tokens=None,
                  device_memory=8 << 30, device_name="NVIDIA GeForce RTX 4070")  # fmt: skip
    assert any("set train.micro_batch=" in w for w in p.warnings)


def test_what_to_change_is_said_with_its_figure_and_helps() -> None:
    c = resolve(sets=["train.micro_batch=64", "train.grad_accum=3"])
    said = plan.remedy(c, 8 << 30)
    assert said == "set train.micro_batch=16 and train.grad_accum=12, for as many tokens a step"
    for micro_batch, fits in ((16, True), (24, False)):  # 24 is the next larger one that divides the 192 sequences
        changed = c.replace(train={"micro_batch": micro_batch, "grad_accum": 192 // micro_batch})
        assert (plan.memory_needed(changed) <= 8 << 30) is fits
    scheduled = resolve(sets=["train.micro_batch=64", "train.grad_accum=3", "train.batch_schedule=[[9, 512]]"])
    assert "train.micro_batch=16 " in plan.remedy(scheduled, 8 << 30)
    four = resolve(sets=["train.micro_batch=64", "train.grad_accum=4", "train.processes=4"])
    assert "train.micro_batch=16 and train.grad_accum=16," in plan.remedy(four, 8 << 30)
    long = resolve(sets=["train.micro_batch=1", "model.block_size=65536"])
    assert "train.grad_accum=4 and model.block_size=16384" in plan.remedy(long, 8 << 30)
    assert plan.remedy(c, 1 << 30).startswith("even a micro-batch of 1 takes 2.")
    assert "GPUs" not in plan.remedy(c, 1 << 20, device="cpu")


def test_a_model_that_outgrows_its_cards_is_planned_in_shards() -> None:
    c = resolve(sets=["model.preset=gpt2-350m", "train.processes=8", "train.grad_accum=8", "train.micro_batch=1"])
    assert (plan.shards_of(c, 80 << 30), plan.shards_of(c, 6 << 30), plan.shards_of(c, None)) == (1, 8, 1)
    assert plan.memory_needed(c, shards=8) < 6 << 30 < plan.memory_needed(c)


def test_memory_grows_with_what_needs_it() -> None:
    def needed(*sets: str, device: str = "cuda", compiled: bool | None = None) -> int:
        return plan.memory_needed(resolve(sets=sets), device=device, compiled=compiled)

    assert needed("train.micro_batch=32") > 1.4 * needed("train.micro_batch=16")
    assert needed("train.dtype=float32") > needed()
    assert needed(compiled=False) > needed(compiled=True)
    assert needed("model.dropout=0.1") > needed()
    assert needed("train.grad_accum=8") > needed()
    # 124M parameters in float32 with their gradient and two moments alone are 1.98 GB.
    assert needed("train.micro_batch=1", "model.block_size=64") > 16 * 123_587_328 * 0.99


@pytest.mark.parametrize(
    ("sets", "measured"),
    [
        (["model.preset=gpt2-124m", "train.micro_batch=64"], 22.47e9),
        (["model.preset=gpt2-124m", "train.micro_batch=16"], 7.72e9),
        (["model.preset=seed-40m", "train.micro_batch=64"], 11.40e9),
        (["model.preset=modern-124m", "train.micro_batch=64"], 25.13e9),
        (["model.preset=modern-350m", "train.micro_batch=32"], 34.80e9),
        (["model.preset=modern-25m", "model.window=128", "train.micro_batch=8"], 1.15e9),
    ],
)
def test_memory_measured_on_an_h200(sets: list[str], measured: float) -> None:
    assert plan.memory_needed(resolve(sets=sets), device="cuda") == pytest.approx(measured, rel=0.15)


def test_planning_imports_no_torch() -> None:
    code = "import sys, engine.plan, engine.schedule; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_shards_of_a_model_take_less() -> None:
    c = resolve(sets=["model.preset=gpt2-350m", "train.micro_batch=1"])
    parts = plan.memory_parts(c)
    held = parts["weights"] + parts["gradients"] + parts["optimizer"]
    saved = plan.memory_needed(c) - plan.memory_needed(c, shards=4)
    assert held / 2 < saved <= 3 * held / 4 + 3
    small = plan.memory_needed(c, shards=4) + 1
    whole, shared = (
        plan.plan(c, train_tokens=None, unique_tokens=None, device_memory=small, device_name="NVIDIA H100", shards=n)
        for n in (1, 4)
    )
    assert any("memory needed" in w for w in whole.warnings) and not any("memory needed" in w for w in shared.warnings)
