"""Minibatches as a pure function of (seed, index): a resumed run needs no stored cursor.

Training sees an endless sequence of epochs.  Epoch e visits the n examples in the order

    π_e = argsort(u),   u₁ … u_n ~ 64-bit words of PCG64 seeded by (seed, e),

a uniform permutation up to ties, whose probability n²/2⁶⁵ is negligible.  Each epoch gives
m = ⌊n/B⌋ whole batches of B, the rest of it is dropped, and minibatch i is therefore

    π_{i div m}[ (i mod m)·B : (i mod m + 1)·B ].

NumPy promises that the words of SeedSequence and PCG64 never change, which it does not promise of
`Generator.permutation`; so the order of the data is the same in every version of NumPy.
"""

from __future__ import annotations

import numpy as np


class Batches:
    """batches(index) is the index-th minibatch: (B,) int64, read-only, distinct, in 0 … n−1.

    n: number of examples; batch_size: B; seed: a non-negative integer.
    Only the permutation of the epoch asked for last is kept, and only to save time.
    Raises ValueError unless 1 ≤ B ≤ n and seed ≥ 0, and, on a call, unless index ≥ 0.
    """

    def __init__(self, n: int, batch_size: int, seed: int) -> None:
        if not 1 <= batch_size <= n:
            raise ValueError(f"batch_size must lie in 1 … n = {n}, got {batch_size}")
        if seed < 0:
            raise ValueError(f"seed must not be negative, got {seed}")
        self.n, self.batch_size, self.seed = n, batch_size, seed
        self.per_epoch = n // batch_size
        self._latest: tuple[int, np.ndarray] | None = None

    def __call__(self, index: int) -> np.ndarray:
        epoch, start = self.place(index)
        return self.order(epoch)[start:start + self.batch_size]

    def place(self, index: int) -> tuple[int, int]:
        """Where minibatch i lies: its epoch, and where it begins in the order of that epoch."""
        if index < 0:
            raise ValueError(f"index must not be negative, got {index}")
        epoch, place = divmod(index, self.per_epoch)
        return epoch, place * self.batch_size

    def order(self, epoch: int) -> np.ndarray:
        """π_e, (n,) int64, read-only."""
        latest = self._latest
        if latest is None or latest[0] != epoch:
            latest = self._latest = (epoch, self._permutation(epoch))
        return latest[1]

    def _permutation(self, epoch: int) -> np.ndarray:
        words = np.random.PCG64(np.random.SeedSequence(self.seed, spawn_key=(epoch,))).random_raw(self.n)
        order = np.argsort(words, kind="stable").astype(np.int64)
        order.flags.writeable = False
        return order


def batch_indices(n: int, batch_size: int, index: int, seed: int) -> np.ndarray:
    """The index-th minibatch, (B,) int64: `Batches` without the memory of the current epoch."""
    return Batches(n, batch_size, seed)(index)
