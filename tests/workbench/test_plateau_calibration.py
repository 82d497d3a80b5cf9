"""Calibration: order and the middle stay; the fit finds what the cases were made with."""

from __future__ import annotations

import numpy as np
import pytest

from tests.benchmarks.planted import calibrate
from workbench.plateau import calibration


@pytest.mark.parametrize("sharpness", [0.5, 1.04, 3.0])
def test_order_and_one_half_stay(monkeypatch: pytest.MonkeyPatch, sharpness: float) -> None:
    monkeypatch.setattr(calibration, "SHARPNESS", sharpness)
    given = [0.0, 0.001, 0.2, 0.49, 0.5, 0.51, 0.97, 1.0]
    found = [calibration.calibrated(p) for p in given]
    assert found == sorted(found) and [p > 0.5 for p in found] == [p > 0.5 for p in given]
    assert found[0] == 0 and found[4] == pytest.approx(0.5) and found[-1] == 1
    assert (found[2] < 0.2) == (sharpness > 1)


@pytest.mark.parametrize("made_with", [0.6, 1.0, 1.8])
def test_the_fit_finds_the_sharpness_of_the_cases(made_with: float) -> None:
    rng = np.random.default_rng(0)
    odds = rng.normal(-1, 2, 4000)
    truth = rng.random(4000) < 1 / (1 + np.exp(-made_with * odds))
    best, low, high = calibrate.fit(odds, truth)
    assert low < made_with < high and best == pytest.approx(made_with, rel=0.15)
