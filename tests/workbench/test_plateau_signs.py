"""Signs that single causes are seen by, on synthetic runs; each with the case next to it, where it must be silent."""

from __future__ import annotations

import math
from dataclasses import replace

from tests.workbench.synthetic import Run, explain
from tests.workbench.test_plateau_causes import level, p
from workbench.plateau.diagnose import Diagnosis, diagnose
from workbench.runs.facts import Fact, Facts
from workbench.runs.history import History


def test_a_rate_that_stands_idle_is_seen_through_any_noise() -> None:
    idle = Run(decay=0.3, floor=0.001, stuck=0.32, noise=0.08)
    assert explain(idle).verdict.name != "plateau" and p(explain(idle), "lr_decayed_early") > 0.5
    assert p(explain(replace(idle, floor=0.1, stuck=None)), "lr_decayed_early") < 0.5  # a tenth still moves it


def test_text_learnt_far_better_than_held_out_text_needs_no_count_of_the_data() -> None:
    def apart(nats: float) -> Diagnosis:
        return explain(Run(hidden=True, untrained=True, heldout_extra=lambda share: nats * share))

    assert apart(1.5).causes[0].id == "data_repetition" and apart(1.5).causes[0].probability > 0.5
    assert not apart(0.3).probable


def test_a_gap_that_grows_over_text_read_once_is_a_shift() -> None:
    run = Run(heldout_extra=lambda share: 2 * share, unique=1e10)
    assert explain(run).causes[0].id == "val_shift" and explain(run).causes[0].probability > 0.5
    assert p(explain(replace(run, heldout_extra=lambda share: 0.4 * share)), "val_shift") < 0.5


def test_a_gap_that_two_documents_explain_is_a_tiny_held_out_set() -> None:
    d = explain(Run(heldout_shift=0.9, unique=1e10, facts={"val_documents": 2, "val_tokens": 1500}, noise=0.02))
    assert d.causes[0].id == "val_tiny" and d.causes[0].probability > 0.5 and p(d, "val_shift") < 0.5
    many = explain(Run(heldout_shift=0.9, unique=1e10, facts={"val_documents": 900}, noise=0.02))
    assert many.causes[0].id == "val_shift" and many.causes[0].probability > 0.5


def test_frequencies_and_no_more_are_tokens_without_order() -> None:
    run = Run(12e6, 16384, 1000, lr=1.5e-3, untrained=True, noise=0.005, evals=20)
    stuck = level(run, 6.7)
    assert stuck.causes[0].id == "data_broken" and stuck.causes[0].probability > 0.5
    assert p(level(replace(run, noise=0.08), 6.7), "data_broken") < 0.5  # windows of text would scatter so


def test_a_loss_below_the_frequencies_of_tokens_within_a_hundred_steps() -> None:
    def made(level: float) -> Diagnosis:
        history, facts = History(), Facts({"tokens_per_step": Fact(8192, "given")})
        for step in range(0, 1001, 2):
            loss = level + (10.8 - level) * math.exp(-step / 20) - 0.1 * math.log1p(step / 100)
            history.apply({"event": "step", "step": step, "loss": loss})
            if step % 50 == 0:
                history.apply({"event": "eval", "step": step, "split": "heldout", "loss": loss})
        return diagnose(history, facts)

    assert made(3.4).causes[0].id == "data_broken" and made(3.4).causes[0].probability > 0.5
    assert p(made(6.5), "data_broken") < 0.2


def test_blocks_with_hundreds_of_tokens_a_parameter() -> None:
    run = Run(0.8e6, 16384, 1000, lr=2e-3, untrained=True, evals=20, saturating=True,
              facts={"n_layer": 1, "n_embd": 16, "unique_tokens": 4e7})  # fmt: skip
    assert explain(run).causes[0].id == "capacity" and p(explain(run), "capacity") > 0.5
    wide = replace(run, parameters=4e6, facts=run.facts | {"n_layer": 6, "n_embd": 128})
    assert p(explain(wide), "capacity") < 0.5


def test_few_steps_of_a_huge_batch() -> None:
    run = Run(12e6, 24 * 16384, 41, lr=2e-3, untrained=True, evals=20)
    assert p(explain(run), "batch_too_large") > 0.5
    assert p(explain(replace(run, tokens_per_step=16384, steps=1000)), "batch_too_large") < 0.1
