"""Minibatches: a pure function of (seed, index), epoch by epoch a permutation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchgen.data import Batches, batch_indices

steady = settings(derandomize=True, deadline=None, database=None)


@st.composite
def sizes(draw):
    n = draw(st.integers(1, 60))
    return n, draw(st.integers(1, n)), draw(st.integers(0, 2 ** 70))


@steady
@given(size=sizes(), epoch=st.integers(0, 10 ** 12))
def test_an_epoch_covers_distinct_items(size, epoch):
    n, batch_size, seed = size
    batches = Batches(n, batch_size, seed)
    m = batches.per_epoch
    assert m == n // batch_size
    seen = np.concatenate([batches(epoch * m + i) for i in range(m)])
    assert seen.dtype == np.int64 and len(seen) == m * batch_size
    assert len(set(seen.tolist())) == len(seen) and seen.min() >= 0 and seen.max() < n


@steady
@given(size=sizes(), order=st.lists(st.integers(0, 200), min_size=1, max_size=20))
def test_pure_in_the_index(size, order):
    batches = Batches(*size)
    for index in order:
        np.testing.assert_array_equal(batches(index), batch_indices(size[0], size[1], index, size[2]))


def test_resumed_equals_uninterrupted():
    whole = Batches(103, 10, seed=5)
    straight = [whole(i) for i in range(57)]
    before, after = Batches(103, 10, seed=5), Batches(103, 10, seed=5)
    resumed = [before(i) for i in range(23)] + [after(i) for i in range(23, 57)]
    np.testing.assert_array_equal(straight, resumed)


def test_known_answer():
    """Pinned, so that a new NumPy or an edit cannot change the order of the data in silence."""
    assert batch_indices(10, 4, 0, seed=0).tolist() == [6, 3, 8, 1]
    assert batch_indices(10, 4, 1, seed=0).tolist() == [4, 5, 9, 2]
    assert batch_indices(10, 4, 2, seed=0).tolist() == [1, 3, 8, 6]


def test_permutations_are_uniform_and_independent():
    """All 24 orders of 4 items over 24,000 epochs, and pairs of neighbouring epochs' first items.

    χ² with 23 and 15 degrees of freedom; thresholds at 5·10⁻⁷ each, family-wise α = 10⁻⁶.  Power: a share
    off by a fifth in one order gives a non-centrality of 40.
    """
    def chi2(counts):
        return ((counts - counts.mean()) ** 2 / counts.mean()).sum()
    batches = Batches(4, 4, seed=1)
    orders = np.stack([batches(i) for i in range(24_000)])
    kinds, counts = np.unique(orders, axis=0, return_counts=True)
    pairs = np.bincount(4 * orders[:-1, 0] + orders[1:, 0], minlength=16)
    assert len(kinds) == 24 and chi2(counts) < 72.6 and chi2(pairs) < 58.3
    weighted = np.bincount(np.where(orders[:, 0] == 0, orders[::-1, 0], orders[:, 0]), minlength=4)
    assert chi2(weighted) > 72.6                        # the control: a crooked draw is noticed


def test_seeds_and_epochs_differ():
    first = [batch_indices(50, 50, 0, seed).tolist() for seed in range(5)]
    later = [batch_indices(50, 50, epoch, 0).tolist() for epoch in range(1, 5)]
    assert len(set(map(tuple, first + later))) == 9


def test_a_batch_cannot_be_changed():
    batches = Batches(8, 4, 0)
    with pytest.raises(ValueError, match="read-only"):
        batches(0)[0] = 3


@pytest.mark.parametrize("n, batch_size, index, seed, words", [
    (3, 4, 0, 0, "batch_size"), (3, 0, 0, 0, "batch_size"), (0, 1, 0, 0, "batch_size"),
    (3, 2, -1, 0, "index"), (3, 2, 0, -1, "seed")])
def test_refused(n, batch_size, index, seed, words):
    with pytest.raises(ValueError, match=words):
        batch_indices(n, batch_size, index, seed)
