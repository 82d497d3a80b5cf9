"""The gradient noise scale: how many tokens a step should have before larger batches stop paying. Torch-free.

McCandlish et al. 2018 (arXiv 1812.06162, appendix A.1): the gradient's norm over a small and over a large batch
separates the true gradient's from the noise's. The small batch is a step's first micro-batch; where that is the only
one, it is trained on in two halves now and then, which changes nothing of its gradient but rounding. Of several
processes each has a small batch of its own, before gradients are exchanged: the mean of their squared norms is taken.
Shards of a model (FSDP) never show such a gradient: nothing is measured there.
"""

from __future__ import annotations

SMOOTHING = 0.8  # of the two estimates; their ratio is taken behind it, as single ones are very noisy
EVERY = 16  # steps between measurements where the micro-batches are there anyway
EVERY_SPLIT = 128  # steps between measurements that cost a second forward and backward pass
FIRST = 3  # measurements before anything is said


class NoiseScale:
    """Collects measurements. ``micro_batch`` sequences of ``block`` tokens; ``accumulate`` of them a step, over all
    ``ranks``, until ``batch`` says otherwise: what is estimated does not depend on it. ``sharded``: never measure."""

    def __init__(self, micro_batch: int, block: int, accumulate: int, ranks: int = 1, sharded: bool = False) -> None:
        self._micro_batch, self._tokens, self._ranks, self._sharded = micro_batch, micro_batch * block, ranks, sharded
        self.batch(accumulate)
        self._sums: tuple[float, float] | None = None
        self.count = 0

    def batch(self, accumulate: int) -> None:
        """From now on a step has so many micro-batches."""
        self.split = accumulate <= self._ranks
        self.possible = not (self._sharded or (self.split and self._micro_batch % 2))
        self.big = self._tokens * accumulate
        self.small = self._tokens // 2 if self.split else self._tokens

    def due(self, step: int) -> bool:
        """Whether step ``step`` measures; a function of the step alone, so that a resumed run does the same."""
        return self.possible and step % (EVERY_SPLIT if self.split else EVERY) == 0

    def take(self, small_norm: float, big_norm: float) -> dict[str, float | None] | None:
        """Take in the norms of both gradients; what to report, or None as long as there is too little.

        Returns:
            ``b_noise`` in tokens (None while the estimate of the true gradient is not positive), and both norms.
        """
        small, big = small_norm**2, big_norm**2
        signal = (self.big * big - self.small * small) / (self.big - self.small)
        noise = (small - big) / (1 / self.small - 1 / self.big)
        if self._sums is None:
            self._sums = signal, noise
        else:
            a = SMOOTHING
            self._sums = a * self._sums[0] + (1 - a) * signal, a * self._sums[1] + (1 - a) * noise
        self.count += 1
        if self.count < FIRST:
            return None
        mean_signal, mean_noise = self._sums
        known = mean_signal > 0 and mean_noise > 0
        return {"b_noise": mean_noise / mean_signal if known else None, "small_norm": small_norm, "big_norm": big_norm}
