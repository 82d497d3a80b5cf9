"""Fits the one number of the calibration (``workbench.plateau.calibration``) on the development runs.

Each cause of each run is a case: named with a probability, planted or not. A mixture's causes count both; causes that
the plant brings along by construction are left out of its cases. All scorings count: configuration given, log only, and
a foreign log with its facts; of other trainers' runs the three views of ``others.score``.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from tests.benchmarks.planted import labels, plan, record, score
from tests.benchmarks.planted.others import score as others
from workbench.plateau.calibration import SHARPNESS

PRIOR_SD = 0.5  # of ln sharpness around 0: the explainer's own weights are believed so far
NEVER_PLANTED = ("schedule_complete", "token_limited", "context_too_short", "under_regularised")  # true of most runs


def cases(records: Path = record.RECORDED) -> tuple[np.ndarray, np.ndarray]:
    """Log-odds as they were before calibration, float64 [n], and whether the cause was planted, bool [n]."""
    odds, truth = [], []
    found: list[score.Scored] = []
    with tempfile.TemporaryDirectory() as folder:
        for subset in plan.BASES:
            lines = {v["plant"]["name"]: v for v in record.read(records, subset)}
            for line in lines.values():
                if line["plant"]["split"] != plan.DEV or not labels.stands(line, lines)[0]:
                    continue
                run_dir = record.unpack(line, Path(folder) / subset)
                scored = [score.explained(line, run_dir, hidden, None) for hidden in (False, True)]
                found += [*scored, score.as_log(line, run_dir)]
        found += others.development(records, Path(folder))
    for s in found:
        for cause, p in s.ranked:
            if cause not in NEVER_PLANTED:
                p = min(max(p, 1e-4), 1 - 1e-4)
                odds.append(np.log(p / (1 - p)) / SHARPNESS)
                truth.append(cause in s.causes)
    return np.array(odds), np.array(truth)


def fit(odds: np.ndarray, truth: np.ndarray) -> tuple[float, float, float]:
    """Sharpness with the least penalised log loss, and the ends of its 95% interval (likelihood ratio)."""
    grid = np.exp(np.linspace(np.log(0.2), np.log(4), 400))
    signed = np.where(truth, odds, -odds)
    loss = np.array([np.logaddexp(0, -b * signed).sum() + 0.5 * (np.log(b) / PRIOR_SD) ** 2 for b in grid])
    inside = grid[loss < loss.min() + 1.92]
    return float(grid[loss.argmin()]), float(inside[0]), float(inside[-1])


def main(records: Path = record.RECORDED) -> None:
    """Print the fitted sharpness, and how reliable the probabilities are with it."""
    odds, truth = cases(records)
    best, low, high = fit(odds, truth)
    print(f"{len(odds)} cases, {truth.sum()} planted: sharpness {best:.2f} ({low:.2f} to {high:.2f})")
    for name, b in (("uncalibrated", 1.0), ("in use", SHARPNESS), ("fitted", best)):
        p = 1 / (1 + np.exp(-b * odds))
        bins = [(p >= x) & (p < x + 0.2) for x in (0, 0.2, 0.4, 0.6, 0.8)]
        shown = ", ".join(f"{p[i].mean():.2f}: {truth[i].sum()}/{i.sum()}" for i in bins if i.any())
        log_loss = -np.log(np.where(truth, p, 1 - p)).mean()
        print(f"{name}: Brier {((p - truth) ** 2).mean():.4f}, log loss {log_loss:.4f}; {shown}")
