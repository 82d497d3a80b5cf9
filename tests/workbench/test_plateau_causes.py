"""Every cause on synthetic runs made from the laws that it cites (see synthetic.py), and silence on healthy ones."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.config import resolve
from engine.plan import parameter_count
from engine.presets import PRESETS
from engine.schedule import learning_rate
from tests.workbench.synthetic import Run, config, explain, history, losses
from workbench.export.markdown import summary
from workbench.plateau import series, stability
from workbench.plateau.advice import brief
from workbench.plateau.cause import all_causes
from workbench.plateau.diagnose import Diagnosis, diagnose
from workbench.plateau.evidence import Gap
from workbench.plateau.order import ORDER
from workbench.plateau.report import report_lines
from workbench.runs.facts import Fact, Facts, facts_of_log
from workbench.runs.history import STEP_FIELDS, History
from workbench.runs.importers.read import LogReader, read_history
from workbench.widgets.plateau_pane import lines

IDS = {
    "data_repetition", "duplicates", "capacity", "token_limited", "lr_too_high", "lr_too_low", "lr_decayed_early",
    "lr_still_high", "schedule_complete", "instability", "batch_too_small", "batch_too_large", "over_regularised",
    "under_regularised", "val_shift", "val_tiny", "val_leaked", "data_order", "data_broken", "dead_gradients",
    "context_too_short",
}  # fmt: skip


def p(d: Diagnosis, name: str) -> float:
    return next(c.probability for c in d.causes if c.id == name)


def test_every_cause_has_a_file_an_order_and_all_its_parts() -> None:
    assert {c.ID for c in all_causes()} == IDS == {name for _, names in ORDER for name in names}
    d = explain(Run())
    for cause in d.causes:
        a = cause.assessment
        assert a.fix.endswith(".") and a.action.kind in ("branch", "restart", "data", "eval", "stop", "none")
        probe = cause.probe  # a short experiment, or what would settle it instead
        assert 0 < probe.cost_fraction <= 0.05 if probe else cause.instead
        assert a.gain is None or a.gain.low <= a.gain.mid <= a.gain.high
    assert explain(Run(hidden=True, seen=False)).to_dict()


SCHEDULES = [("cosine", 0.1), ("linear", 0.0), ("wsd", 0.0), ("constant", 1.0)]


@pytest.mark.parametrize(("kind", "floor"), SCHEDULES)
@pytest.mark.parametrize("hidden", [False, True])
def test_healthy_runs_have_no_cause(kind: str, floor: float, hidden: bool) -> None:
    """Sizes, tokens, 1 to 4 epochs, noisy and few evaluations, mid-run and finished: one in forty at most flagged."""
    flagged, total = [], 0
    for seed, (parameters, batch, epochs) in enumerate(
        [(30e6, 131072, 0.5), (124e6, 524288, 1.0), (124e6, 524288, 3.9), (350e6, 524288, 1.0)]
    ):
        tokens = batch * 10_000.0
        lr = {30e6: 1e-3, 124e6: 6e-4, 350e6: 3e-4}[parameters]
        for noise, evals in ((0.002, 40), (0.02, 40), (0.05, 80), (0.004, 10)):
            for until in (0.35, 0.7, 1.0):
                run = Run(parameters, batch, 10_000, kind, lr, floor, until=until, unique=tokens / epochs, evals=evals,
                          noise=noise, hidden=hidden, seed=seed)  # fmt: skip
                d = explain(run)
                total += 1
                if d.probable or d.verdict.name in ("plateau", "overfitting", "diverging"):
                    flagged.append((parameters, epochs, noise, evals, until, d.verdict.name, d.causes[0].id))
    assert len(flagged) <= total / 40, flagged


REPEATED = Run(124e6, 131072, 10_000, unique=1.3e7, kind="cosine", noise=0.004)


def test_overfitting_is_the_verdict_and_repetition_the_cause() -> None:
    d = explain(REPEATED)  # 100 epochs
    assert d.verdict.name == "overfitting" and "rose by" in d.verdict.why
    assert d.causes[0].id == "data_repetition" and d.causes[0].probability > 0.8
    gain = d.causes[0].assessment.gain
    assert gain is not None and gain.low > 0.02
    without = explain(replace(REPEATED, hidden=True))  # the log alone: the gap is seen, the epochs are missing
    assert without.verdict.name == "overfitting" and without.causes[0].id == "data_repetition"
    assert any(m.startswith("unique_tokens") for m in without.causes[0].assessment.missing)
    assert not explain(replace(REPEATED, unique=1.3e10)).probable  # the undone twin


def test_duplicates_are_told_from_repetition_by_the_data_statistics() -> None:
    copies = explain(replace(REPEATED, copies=90.0))
    assert copies.causes[0].id == "duplicates" and copies.causes[0].probability > 0.8
    assert p(copies, "data_repetition") < p(copies, "duplicates") - 0.2
    passes = explain(REPEATED)
    assert p(passes, "duplicates") < 0.3
    unknown = explain(replace(REPEATED, hidden=True))
    assert p(unknown, "duplicates") < 0.5


@pytest.mark.parametrize("parameters", [5e5, 1e6, 3e6])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_model_too_small_for_its_tokens_is_capacity(parameters: float, seed: int) -> None:
    batch = 90_000 * parameters / 1e6  # about 540 tokens a parameter
    run = Run(parameters, batch, 10_000, "cosine", 1.5e-3, saturating=True, until=0.6, seed=seed)
    d = explain(run)
    assert d.verdict.name == "plateau"
    assert d.causes[0].id == "capacity" and d.causes[0].probability > 0.5
    assert d.causes[0].probe is None


@pytest.mark.parametrize("preset", PRESETS)
def test_a_larger_model_can_be_built(preset: str) -> None:
    own = resolve(None, (), {"model.preset": preset})
    shape = {"n_layer": own.model.n_layer, "n_head": own.model.n_head, "n_embd": own.model.n_embd}
    d = explain(Run(parameters=float(parameter_count(own.model)), facts=shape))
    sets = next(v.action.set for v in d.levers if v.id == "larger_model")
    larger = resolve(None, (), {"model.preset": preset, **sets})
    blocks = [12 * c.model.n_layer * c.model.n_embd**2 for c in (own, larger)]
    assert 2 < blocks[1] / blocks[0] < 6


def test_a_floor_of_noise_at_a_constant_rate_is_annealed_first() -> None:
    run = Run(kind="constant", stuck=0.4, until=0.9)
    d = explain(run)
    assert d.verdict.name == "plateau"
    assert d.causes[0].id == "lr_still_high" and d.causes[0].probability > 0.8
    gain = d.causes[0].assessment.gain
    assert gain is not None and gain.low < 0.098 < gain.high  # what the generator's annealing gives
    assert p(d, "lr_too_high") < 0.5 and p(d, "batch_too_small") < 0.5
    assert not explain(replace(run, kind="linear", floor=0.0, stuck=None)).probable  # the twin


def test_a_rate_that_decayed_early() -> None:
    d = explain(Run(decay=0.25, floor=0.01, stuck=0.27))
    assert d.causes[0].id == "lr_decayed_early" and d.causes[0].probability > 0.8
    assert p(d, "lr_too_high") < 0.3 and p(d, "token_limited") < 0.5


def test_rates_far_from_the_published_optima() -> None:
    low = explain(Run(lr=2e-5, slower=0.02))
    assert low.causes[0].id == "lr_too_low" and low.causes[0].probability > 0.5
    assert low.causes[0].assessment.action.set["optim.lr"] == pytest.approx(6e-5)
    high = explain(Run(lr=6e-2, stuck=0.1, kind="constant", until=0.9, noise_scale=1e5))
    assert p(high, "lr_too_high") > 0.7 and p(high, "lr_too_low") < 0.05
    assert p(high, "batch_too_small") < 0.2
    assert p(explain(Run(hidden=True)), "lr_too_low") < 0.5  # without the facts it stays a suspicion


def test_rate_and_batch_are_tied_until_the_noise_scale_is_measured() -> None:
    run = Run(kind="constant", stuck=0.3, until=0.9, lr=2.4e-3, tokens_per_step=32768.0, steps=40_000)
    tied = {c.id: c for c in explain(run).causes}
    assert tied["lr_too_high"].tied_with == ("batch_too_small",)
    assert tied["lr_too_high"].probability == tied["batch_too_small"].probability < 0.5
    assert "gradient noise scale" in " ".join(tied["batch_too_small"].assessment.missing)
    printed = "\n".join(report_lines(explain(replace(run, lr=6e-3)), history(run)))
    assert "tied with" in printed
    measured = explain(replace(run, noise_scale=3e6))
    assert p(measured, "batch_too_small") > 0.5 > p(measured, "lr_too_high")
    enough = explain(replace(run, noise_scale=2e4))
    assert p(enough, "batch_too_small") < 0.1


def test_a_batch_far_above_the_noise_scale() -> None:
    run = Run(124e6, 8e6, 1000, noise_scale=1e5, slower=0.03, evals=40)
    d = explain(run)
    assert p(d, "batch_too_large") > 0.5
    assert p(explain(replace(run, noise_scale=None)), "batch_too_large") < p(d, "batch_too_large")
    # Not measured, and no more than ten times the published optimum: a suspicion.
    assert p(explain(replace(run, tokens_per_step=2e6, steps=4000, noise_scale=None)), "batch_too_large") < 0.5


def test_text_that_is_harder_is_no_blow_up() -> None:
    """The training loss rises with the text it reads; the same held-out documents rise only with the optimiser."""

    def harder(share: float) -> float:
        return 1.5 if share > 0.9 else 0.0

    d = explain(Run(extra=harder))
    assert d.verdict.name != "diverging" and d.evidence.stability.harder == pytest.approx(1.5, abs=0.1)
    assert p(d, "instability") < 0.3
    assert p(d, "data_order") > 0.3
    blown = explain(Run(extra=harder, heldout_extra=harder))
    assert blown.verdict.name == "diverging" and p(blown, "instability") > 0.7


def test_a_loss_that_rises_on_both_sides_at_a_high_rate_is_unstable() -> None:
    def rising(share: float) -> float:
        return max(share - 0.5, 0.0) * 0.5

    run = Run(lr=2e-2, kind="constant", extra=rising, heldout_extra=rising, seen=False, facts={"grad_clip": 0.0},
              gradient=lambda share: 30.0 if round(share * 1000) % 50 == 0 else 0.5)  # fmt: skip
    d = explain(run)
    assert d.causes[0].id == "instability" and d.causes[0].probability > 0.7
    assert any("not clipped" in f.text for f in d.causes[0].speaking_for)


def test_a_model_that_nearly_stopped_past_twenty_tokens_a_parameter() -> None:
    run = Run(0.4e6, 32768, 640, lr=6e-3, untrained=True, saturating=True, facts={"unique_tokens": 4e7})
    assert p(explain(run), "capacity") > 0.5
    assert p(explain(replace(run, facts={"unique_tokens": 1e6})), "capacity") < 0.5  # 21 epochs come first
    assert p(explain(replace(run, lr=1e-4)), "capacity") < 0.5


def test_dropout_that_costs_more_than_it_saves() -> None:
    shown = explain(Run(dropout_cost=0.5, facts={"dropout": 0.4}, unique=5e9))
    assert p(shown, "over_regularised") > 0.5
    assert all(c.id == "over_regularised" for c in shown.probable)
    log_only = explain(Run(dropout_cost=0.5, hidden=True, level_se=0.02))
    assert log_only.causes[0].id == "over_regularised" and log_only.causes[0].probability > 0.5
    assert p(explain(replace(REPEATED, facts={"dropout": 0.2})), "over_regularised") < 0.3


def test_a_shift_is_there_from_the_beginning() -> None:
    run = Run(heldout_shift=0.5, level_se=0.02, unique=1e10)
    d = explain(run)
    assert d.causes[0].id == "val_shift" and d.causes[0].probability > 0.5
    assert p(d, "data_repetition") < 0.1 and p(explain(replace(run, heldout_shift=0.0)), "val_shift") < 0.05
    assert p(explain(replace(run, level_se=0.3)), "val_shift") < 0.3  # documents explain it
    assert p(explain(REPEATED), "val_shift") < 0.2


def test_held_out_sets_that_cannot_be_trusted() -> None:
    tiny: dict[str, Any] = {"val_tokens": 2000, "val_documents": 4}
    d = explain(Run(noise=0.25, facts=tiny, until=0.6, seed=1))
    assert d.causes[0].id == "val_tiny" and d.causes[0].probability > 0.5
    assert p(explain(Run(noise=0.25, hidden=True)), "val_tiny") < 0.5  # noisy evaluation alone proves nothing
    leaked = explain(Run(facts={"val_leaked": 120}))
    assert leaked.causes[0].id == "val_leaked" and leaked.causes[0].probability > 0.5
    assert p(explain(Run(facts={"val_leaked": 0})), "val_leaked") < 0.01


def test_data_in_order_of_source_make_waves() -> None:
    run = Run(extra=lambda share: 0.5 * ((int(share * 9) * 7) % 5 - 2) / 2, train_noise=0.02)
    d = explain(run)
    assert p(d, "data_order") > 0.5
    assert p(explain(replace(run, extra=None)), "data_order") < 0.05


def test_short_runs_in_order_of_source_wander_and_remember() -> None:
    # Sources too short for waves of a fortieth of the run: 100 of them, one behind the other.
    levels = np.random.default_rng(3).normal(0, 0.5, 101)
    run = Run(extra=lambda share: float(levels[int(share * 100)]), train_noise=0.05)
    d = explain(run)
    assert d.evidence.shuffling.remembers and p(d, "data_order") > 0.5
    assert "memory" in " ".join(f.text for c in d.causes if c.id == "data_order" for f in c.speaking_for)
    still = explain(replace(run, extra=None, train_noise=0.5))  # noise of any size has no memory
    assert not still.evidence.shuffling.remembers and not still.evidence.shuffling.wanders
    assert p(still, "data_order") < 0.05
    slow = replace(run, extra=lambda share: 0.6 * math.sin(8 * math.pi * share))
    assert explain(slow).evidence.shuffling.wanders


def test_words_without_order_are_broken_data() -> None:
    d = explain(Run(facts={"distinct_pairs": 0.995}))
    assert d.causes[0].id == "data_broken" and d.causes[0].probability > 0.5
    assert p(explain(Run(facts={"distinct_pairs": 0.8})), "data_broken") < 0.05


def test_a_log_without_epochs_shows_a_shift_by_its_first_evaluations() -> None:
    def gap(of: Callable[[float], float], evals: int = 200) -> Gap:
        found = explain(Run(evals=evals, hidden=True, untrained=True, heldout_extra=of)).evidence.gap
        assert found is not None
        return found

    shifted, learnt = gap(lambda share: 2.0), gap(lambda share: 2.0 * share)
    assert shifted.from_the_first and not learnt.from_the_first
    assert gap(lambda share: 2.0, evals=10).at_first is None  # no evaluation fell into that stage


def test_a_small_batch_at_the_rate_of_larger_ones_is_seen_directly() -> None:
    run = Run(tokens_per_step=2048.0, steps=20_000, noise_scale=100_000, kind="constant", stuck=0.5)
    assert p(explain(run), "batch_too_small") > 0.5
    assert p(explain(replace(run, noise_scale=5_000)), "batch_too_small") < 0.1
    assert p(explain(replace(run, lr=5e-5)), "batch_too_small") < 0.4  # a rate that suits it


def test_copies_and_passes_are_tied_where_nobody_counted_the_data() -> None:
    hidden = explain(replace(REPEATED, hidden=True))
    assert hidden.verdict.name == "overfitting" and hidden.causes[0].id == "data_repetition"
    passes, copies = (next(c for c in hidden.causes if c.id == name) for name in ("data_repetition", "duplicates"))
    assert passes.tied_with == ("duplicates",) and copies.tied_with == ("data_repetition",)
    assert 0.5 < passes.probability < 0.7 and passes.probability + copies.probability < 1
    told = explain(REPEATED)
    assert p(told, "data_repetition") > 0.9 and not told.causes[0].tied_with


def test_a_log_alone_shows_a_rate_that_moved_nothing() -> None:
    def at(share: float) -> float:  # from ln V down by a tenth over the whole schedule
        step = max(1, round(share * run.steps))
        held, _ = losses(run, step, learning_rate(config(run), step) / run.lr)
        return 10.83 - 0.9 * share**0.3 - held

    run = Run(hidden=True, untrained=True, lr=1e-6, steps=2000, noise=0.001, seen=False)
    d = explain(replace(run, extra=at, heldout_extra=at))
    assert [c.id for c in d.probable] == ["lr_too_low"]
    assert p(explain(run), "lr_too_low") < 0.2


def test_a_model_that_was_trained_before_is_not_held_against_rates_from_scratch() -> None:
    """A fine-tuning log: GPT-2's loss from the first step on, at a rate far below that of pre-training."""
    made = History()
    for step in range(1, 601):
        made.apply({"event": "step", "step": step, "loss": 3.3 - 0.05 * math.log(step), "lr": 3e-5 * (1 - step / 700)})
        if step % 30 == 0:
            made.apply({"event": "eval", "step": step, "split": "heldout", "loss": 3.31 - 0.05 * math.log(step)})
    facts = Facts({"parameters": Fact(124_000_000, "given"), "optimizer": Fact("adamw", "given")})
    d = diagnose(made, facts)
    assert d.evidence.signals.trained_before and d.evidence.signals.lr_ratio is None
    assert p(d, "lr_too_low") < 0.2
    # The same loss of a small model may be of single characters: nothing says that it was trained before.
    assert not diagnose(made, Facts()).evidence.signals.trained_before


def test_broken_data() -> None:
    top = math.log(50304)
    run = Run(until=0.5)
    flat = level(run, top)
    assert flat.causes[0].id == "data_broken" and flat.causes[0].probability > 0.5
    scrambled = level(run, 7.5)
    assert scrambled.causes[0].id == "data_broken" and scrambled.causes[0].probability > 0.5
    leaking = level(run, 0.4)
    assert leaking.causes[0].id == "data_broken" and leaking.causes[0].probability > 0.5
    assert p(explain(run), "data_broken") < 0.05


def level(run: Run, level: float) -> Diagnosis:
    """The run with its losses replaced by a constant level behind a short fall."""

    def at(share: float) -> float:
        step = max(1, round(share * run.steps))
        held, _ = losses(run, step, learning_rate(config(run), step) / run.lr)
        return level + (math.log(50304) - level) * math.exp(-share * 400) - held

    return explain(replace(run, extra=at, heldout_extra=at, seen=False))


def test_dead_gradients() -> None:
    dead = explain(Run(stuck=0.3, gradient=lambda share: 0.5 if share < 0.3 else 0.0, until=0.8, kind="constant"))
    assert dead.causes[0].id == "dead_gradients" and dead.causes[0].probability > 0.8
    assert p(explain(Run()), "dead_gradients") < 0.02


@pytest.mark.parametrize("run", [REPEATED, Run(), Run(until=0.6)])
def test_an_advice_is_given_in_full_once(run: Run) -> None:
    d, made = explain(run), history(run)
    line = d.decision["line"]
    texts = {
        "report": " ".join(" ".join(report_lines(d, made)).split()),
        "summary": re.sub(r"\\", "", html.unescape(" ".join(summary(made, d.evidence.facts, d).split()))),
        "pane": " ".join(" ".join(row.plain for row in lines(d.to_dict(), 70)).split()),
    }
    assert {name: text.count(line) for name, text in texts.items()} == dict.fromkeys(texts, 1)
    assert d.standing in d.tldr and d.tldr not in texts["pane"]
    assert (brief(line) in d.tldr) and (line not in d.tldr or brief(line) == line.removesuffix("."))
    if run is REPEATED:
        assert "as decided" in texts["pane"] and "As decided, against data_repetition" in texts["report"]


def test_several_causes_are_ordered_with_a_reason() -> None:
    both = explain(replace(REPEATED, heldout_shift=0.0, facts={"val_leaked": 120}))
    assert {c.id for c in both.to_fix} >= {"data_repetition", "val_leaked"}
    assert both.to_fix[0].id == "val_leaked" and "no gain of another fix can be seen" in both.why_first
    printed = report_lines(both, history(REPEATED))
    assert any(line.startswith("Fix first: ") for line in printed) and all(len(line) <= 80 for line in printed)
    assert both.to_dict()["fix_first"]["order"][0] == "val_leaked"
    assert explain(Run()).why_first == ""


@pytest.mark.parametrize(
    "name",
    ["nanogpt_124M_one_epoch.log", "llmc_124M_fineweb.log", "modded_nanogpt_2024-10-10.txt", "nanochat_speedrun.log"],
)
def test_published_healthy_runs_have_no_cause_at_any_time(shared: Path, name: str) -> None:
    log = LogReader(shared / "logs" / name)
    events = list(log.events())
    last = max(e.get("step", 0) for e in events if e["event"] == "step")
    for share in (0.25, 0.4, 0.6, 0.8, 1.0):
        cut = History.of(e for e in events if e.get("step", 0) <= share * last)
        d = diagnose(cut, facts_of_log(log.facts, cut))
        assert not d.probable and d.verdict.name in ("improving", "finished", "not_enough_evidence"), share


def test_a_published_run_that_goes_wrong_is_unstable(shared: Path) -> None:
    made, log = read_history(shared / "logs/megatron_noisy.out")
    d = diagnose(made, facts_of_log(log.facts, made))
    assert d.verdict.name == "diverging" and [c.id for c in d.probable] == ["instability"]
    assert all(len(line) <= 80 for line in report_lines(d, made))


@pytest.mark.parametrize("steps", [100_000, 300_000])
def test_spikes_and_lost_steps_of_a_thinned_history_are_seen(steps: int) -> None:
    rng = np.random.default_rng(0)
    rows = np.full((len(STEP_FIELDS), steps), np.nan)
    at = {name: i for i, name in enumerate(STEP_FIELDS)}
    rows[at["step"]] = np.arange(1, steps + 1)
    rows[at["loss"]] = 3 + rng.normal(0, 0.03, steps)
    rows[at["grad_norm"]] = 0.5 + 0.05 * np.abs(rng.normal(size=steps))
    quiet = History()
    quiet.apply_steps(rows.copy())
    calm = stability.measure(quiet, series.training(quiet), 1000)
    assert not calm.spikes and not calm.lost and calm.norm_tail is not None and calm.norm_tail < 1.5

    spikes = [40_000, 55_000, 70_000, 90_000]
    rows[at["loss"], spikes] = 6.0
    rows[at["loss"], [50_001, 60_002]] = np.nan
    rows[at["grad_norm"], rng.random(steps) < 0.02] = 20.0
    wild = History()
    wild.apply_steps(rows)
    found = stability.measure(wild, series.training(wild), 1000)
    assert (
        len(found.spikes) == len(spikes) and abs(found.spikes[-1] - spikes[-1]) <= 20
    )  # a point of the curve is a block of steps
    assert found.lost == 2
    assert found.norm_tail is not None and 30 < found.norm_tail < 45  # as without thinning
