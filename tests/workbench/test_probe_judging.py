"""What makes a probe confirmed, refuted or undecided."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from engine import process
from tests.workbench.folders import make_run
from workbench.errors import UserError
from workbench.plateau.fixes import command_of, fix_of
from workbench.plateau.interval import Interval
from workbench.probes.compare import SEED_SD, arms_difference, sets_difference
from workbench.probes.judge import verdict_of
from workbench.probes.site import Kept, NoProbe, Site, visit
from workbench.runs import manage

RNG = np.random.default_rng(0)


def test_the_interval_covers_the_effect_and_rarely_sees_one_where_there_is_none() -> None:
    """Documents differ by 0.45 nats; an order of the data moves both arms of its pair by 0.02, and one by 0.005."""
    weights = RNG.integers(50, 400, 200).astype(float)
    covered = false = 0
    for _ in range(400):
        effect = 0.05
        document = RNG.normal(4.0, 0.45, 200)
        plain, changed, null = [], [], []
        for _ in range(2):
            order = RNG.normal(0, 0.02)
            plain.append(document + order + RNG.normal(0, 0.03, 200))
            for into, by in ((changed, effect), (null, 0.0)):
                into.append(document + order - by + RNG.normal(0, 0.005) + RNG.normal(0, 0.03, 200))
        gain, _, _ = arms_difference(plain, changed, weights)
        covered += gain.low <= effect <= gain.high
        false += verdict_of(arms_difference(plain, null, weights)[0]) is True
    assert covered >= 0.93 * 400 and false == 0


def test_two_equal_pairs_do_not_make_it_certain() -> None:
    losses = [np.full(100, 4.0), np.full(100, 4.0)]
    gain, of_documents, _ = arms_difference(losses, [one - 0.01 for one in losses], np.ones(100))
    assert of_documents < 1e-9 and gain.high - gain.low > 2 * SEED_SD


@pytest.mark.parametrize(
    ("low", "mid", "high", "refutes", "said"),
    [
        (0.01, 0.03, 0.05, 0.02, True), (0.005, 0.015, 0.025, 0.02, None), (-0.01, 0.03, 0.07, 0.02, None),
        (-0.01, 0.0, 0.015, 0.02, False), (-0.01, 0.0, 0.015, 0.01, None), (-0.3, -0.2, -0.1, None, None),
    ],
)  # fmt: skip
def test_verdicts(low: float, mid: float, high: float, refutes: float | None, said: bool | None) -> None:
    assert verdict_of(Interval(low, mid, high), refutes) is said


def test_one_document_is_no_evidence() -> None:
    one = np.array([5.0]), np.array([100.0])
    many = RNG.normal(4, 0.4, 50), np.ones(50)
    gap = sets_difference(one, many)
    assert gap.low < 0 < gap.high


def test_a_fix_is_a_branch_only_where_a_checkpoint_is(tmp_path: Path) -> None:
    run = make_run(tmp_path, "a run", steps=400, max_steps=400, stop="finished")
    with pytest.raises(NoProbe, match="no checkpoint is kept"):
        visit(run)
    kept = tuple(Kept(run, step, step, 0, 400) for step in (400, 200))
    from engine.config import load

    site = Site(run, load(run / "config.toml"), kept, {}, ())
    early = fix_of("branch", {"optim.lr": 1e-3}, 250, site)
    assert (early.kind, early.step, early.sets) == ("branch", 200, {"optim.lr": 1e-3})
    assert command_of(early, run, "a run") == "gptbench branch 'a run' --from-step 200 --set optim.lr=0.001"
    assert fix_of("branch", {}, None, site).sets == {"train.max_steps": 480}
    assert fix_of("branch", {"train.max_steps": 500, "optim.lr": 1.0}, 100, site).sets == {"optim.lr": 1.0}
    more = fix_of("data", {}, None, site)
    assert command_of(more, run).startswith("gptbench train OTHER_SHARDS --config '")
    assert command_of(fix_of("stop", {}, None, site), run) == ""


def test_a_run_whose_probe_is_under_way_is_not_deleted(tmp_path: Path) -> None:
    run = make_run(tmp_path, steps=100)
    (run / "probes").mkdir()
    process.write(run / "probes", os.getpid())
    with pytest.raises(UserError, match="a probe of it is running"):
        manage.delete(run)
    assert run.is_dir()
