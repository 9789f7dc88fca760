"""The energy distance: against distribution functions in one dimension, Gaussians in closed form, and itself."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from scratchgen.metrics.clouds import energy_distance

seeds = st.integers(0, 2**32 - 1)


@given(seeds, st.integers(2, 30), st.integers(2, 30))
def test_on_a_line_it_is_the_gap_of_the_distribution_functions(seed, n, m):
    """scipy integrates (F − G)² of the two samples, which counts a point's pair with itself: that is taken back."""
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal(n), 2 * rng.standard_normal(m) + 1
    own = sum(np.abs(np.subtract.outer(z, z)).sum() * (1 / (k * (k - 1)) - 1 / k**2) for z, k in ((x, n), (y, m)))
    expected = stats.energy_distance(x, y) ** 2 - own
    np.testing.assert_allclose(energy_distance(x[:, None], y[:, None]), expected, rtol=1e-10, atol=1e-12)


@given(seeds, st.integers(1, 3))
def test_turned_and_moved_together_nothing_changes(seed, d):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((20, d)), rng.standard_normal((30, d)) + 1
    turn, _ = np.linalg.qr(rng.standard_normal((d, d)))
    found = energy_distance(x, y)
    np.testing.assert_allclose(energy_distance(x @ turn + 3, y @ turn + 3), found, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(energy_distance(y, x), found, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(energy_distance(2 * x, 2 * y), 2 * found, rtol=1e-10, atol=1e-12)


def test_without_bias_and_able_to_tell():
    """Two hundred pairs of samples of one law are 0 apart in the mean, to 5 standard errors; moved ones are not.

    N(0, 1) and N(1, 1): 2·E|X − Y| − 2·E|X − X'| with X − Y ~ N(1, 2) and X − X' ~ N(0, 2), folded normals.
    """
    rng = np.random.default_rng(0)
    draws = rng.standard_normal((200, 2, 40, 1))
    same = np.array([energy_distance(x, y) for x, y in draws])
    moved = np.array([energy_distance(x, y + 1) for x, y in draws])
    exact = 2 * stats.foldnorm(1 / np.sqrt(2), scale=np.sqrt(2)).mean() - 2 * stats.halfnorm(scale=np.sqrt(2)).mean()
    error = 5 / np.sqrt(200)
    assert abs(same.mean()) < error * same.std()
    assert abs(moved.mean() - exact) < error * moved.std()
    assert moved.mean() > 10 * error * same.std()


def test_misfits_are_refused():
    x = np.zeros((3, 2))
    for y in (x[:1], x[:, :1], x[:, 0]):
        with pytest.raises(ValueError, match="should be"):
            energy_distance(x, y)
    with pytest.raises(ValueError, match="not finite"):
        energy_distance(x, np.full((3, 2), np.nan))
