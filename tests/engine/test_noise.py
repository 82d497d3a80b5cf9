from __future__ import annotations

import numpy as np
import pytest

from engine.noise import EVERY, EVERY_SPLIT, NoiseScale


@pytest.mark.parametrize("accumulate", [1, 8])
def test_a_known_noise_scale_is_found(accumulate: int) -> None:
    """Gradients with a true mean and independent noise per token, of which the scale is known."""
    r = np.random.default_rng(0)
    noise = NoiseScale(4, 16, accumulate)
    truth = r.normal(size=400)
    truth /= np.linalg.norm(truth)
    per_token = 40.0  # trace of the covariance: b_noise in tokens, as the true gradient has norm 1
    found = []
    for _ in range(300):

        def gradient(tokens: int) -> np.ndarray:
            return truth + r.normal(size=400) * np.sqrt(per_token / 400 / tokens)

        small = gradient(noise.small)
        rest = gradient(noise.big - noise.small)
        big = (small * noise.small + rest * (noise.big - noise.small)) / noise.big
        result = noise.take(float(np.linalg.norm(small)), float(np.linalg.norm(big)))
        if result and result["b_noise"]:
            found.append(result["b_noise"])
    assert np.median(found) == pytest.approx(per_token, rel=0.2)


def test_when_it_is_measured() -> None:
    assert [s for s in range(1, 50) if NoiseScale(2, 8, 4).due(s)] == [EVERY, 2 * EVERY, 3 * EVERY]
    assert [s for s in range(1, 300) if NoiseScale(2, 8, 1).due(s)] == [EVERY_SPLIT, 2 * EVERY_SPLIT]
    assert not any(NoiseScale(3, 8, 1).due(s) or NoiseScale(2, 8, 4, 2, sharded=True).due(s) for s in range(1, 300))
    two, four = NoiseScale(2, 8, 4, ranks=2), NoiseScale(2, 8, 4, ranks=4)
    assert two.due(EVERY) and (two.small, two.big) == (16, 64)
    assert not four.due(EVERY) and four.due(EVERY_SPLIT) and (four.small, four.big) == (8, 64)


def test_little_or_absurd_evidence_is_not_reported() -> None:
    noise = NoiseScale(2, 8, 4)
    assert noise.take(2.0, 1.0) is None and noise.take(2.0, 1.0) is None
    assert noise.take(1.0, 2.0) is not None
    other = NoiseScale(2, 8, 4)
    results = [other.take(1.0, 2.0) for _ in range(3)]
    assert results[-1] is not None and results[-1]["b_noise"] is None
