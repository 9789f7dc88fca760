"""Dequantisation against sums over all levels, integrals over their bins, and lengths of codes."""

import itertools
import math

import numpy as np
import pytest
from evidence import agree, apart, at_most, lifted, lowered
from hypothesis import given
from hypothesis import strategies as st
from sandbox_tools import FEW, SOME, floats, seeds

import scratchgen as sg
from reference import dequantise as oracle
from reference.derivatives import richardson
from scratchgen.data import quantise
from scratchgen.distributions import gaussian
from scratchgen.models.flows import dequantise

on_backend = lifted(dequantise)
levels_ = st.integers(2, 9)


def grid(levels, dims):
    """All pictures of that many pixels: (levels^dims, dims)."""
    return np.array(list(itertools.product(map(float, oracle.values(levels)), repeat=dims)))


def bell(seed, dims):
    """A correlated Gaussian's log-density: a quadratic, of which two nodes of Gauss–Legendre know the mean."""
    noise = np.random.default_rng(seed)
    A, b = np.eye(dims) + noise.uniform(-0.4, 0.4, (dims, dims)), noise.uniform(-0.5, 0.5, dims)
    constant = np.linalg.slogdet(A)[1] - dims / 2 * np.log(2 * np.pi)

    def log_density(x):
        z = (x - b) @ A.T * 1.5
        return constant + dims * np.log(1.5) - 0.5 * (z * z).sum(axis=1)

    return log_density


def two_nodes(dims, n):
    """Draws (2^dims, n, dims), all of one weight, whose mean is exact for cubics."""
    ends = 0.5 + np.array([-1.0, 1.0]) / (2 * math.sqrt(3))
    draws = np.array(list(itertools.product(ends, repeat=dims)))
    return np.broadcast_to(draws[:, None], (len(draws), n, dims)).copy()


# --- (1) --------------------------------------------------------------------------------------------------------


@pytest.mark.equation("dequantise.spread")
@SOME
@given(levels_, seeds)
def test_the_noise_fills_the_bin_of_each_level(levels, seed):
    """From one end to the other, evenly: the ends are the oracle's, which are half-way to the neighbours."""
    x = grid(levels, 1)
    ends = np.array([oracle.bin_of(value, levels) for value in x[:, 0]])
    u = np.random.default_rng(seed).random(x.shape)
    agree(on_backend.spread(x, u, levels), ends[:, :1] + u * (ends[:, 1:] - ends[:, :1]), atol=1e-15)
    agree(on_backend.spread(x, np.zeros_like(x), levels), ends[:, :1], atol=1e-15)
    agree(quantise(on_backend.spread(x, u, levels), levels), quantise(x, levels))


@pytest.mark.equation("dequantise.spread")
def test_the_bins_tile_the_line():
    """Each begins where the last one ends.  Negative control: noise on [0, 1) and not centred ends elsewhere."""
    x = grid(17, 1)
    low, high = (on_backend.spread(x, np.full_like(x, u), 17) for u in (0.0, 1.0))
    agree(low[1:], high[:-1], atol=1e-15)
    agree([low[0, 0], high[-1, 0]], [-1 - 1 / 16, 1 + 1 / 16], atol=1e-15)
    apart(x + 2 / 16, high, by=0.05)


# --- (2) and (5) ------------------------------------------------------------------------------------------------


@pytest.mark.equation("dequantise.log_mass", "dequantise.bound")
@SOME
@given(st.integers(2, 6), st.integers(1, 2), seeds)
def test_a_density_that_is_level_in_each_bin_loses_nothing(levels, dims, seed):
    """Any probabilities of the levels, poured into the bins: every draw gives them back, and they add to 1."""
    P = np.random.default_rng(seed).dirichlet(np.ones(levels**dims))
    x = grid(levels, dims)
    volume = oracle.volume(x[0], levels)

    def log_density(x_u):
        k = quantise(x_u, levels)
        return np.log(P[np.ravel_multi_index(tuple(k.T), (levels,) * dims)] / volume)

    u = np.random.default_rng(seed + 1).uniform(0.01, 0.99, (3, *x.shape))
    found = on_backend.code(lowered(log_density), x, levels, u)
    agree(found.bound, np.log(P), rtol=1e-13, atol=1e-13)
    agree(found.importance, np.log(P), rtol=1e-13, atol=1e-13)
    agree(found.bound, [oracle.log_mass(log_density, point, levels) for point in x], rtol=1e-13, atol=1e-13)
    agree(np.exp(found.bound).sum(), 1.0, rtol=1e-12)


@pytest.mark.equation("dequantise.log_mass", "dequantise.bits")
@pytest.mark.parametrize("levels", [2, 17, 256])
def test_a_uniform_density_costs_the_logarithm_of_the_levels(levels):
    """On the bins of all levels, whatever the number of pixels.  Negative control: bits without the bins' width."""
    for dims in (1, 3, 64):
        side = oracle.bin_of(1.0, levels)[1] - oracle.bin_of(-1.0, levels)[0]
        log_p = np.full(2, -dims * np.log(side))
        found = on_backend.bits_per_dim(on_backend.log_mass(log_p, dims, levels), dims)
        agree(found, np.full(2, oracle.code_length(np.ones(levels), np.ones(levels))), rtol=1e-13)
        apart(on_backend.bits_per_dim(log_p, dims), found, by=0.3)


@pytest.mark.equation("dequantise.bits")
@SOME
@given(levels_, seeds)
def test_bits_are_the_length_of_a_code(levels, seed):
    """Seen so often, believed so likely: the mean over what was seen is the code's length, by scipy's entropies."""
    noise = np.random.default_rng(seed)
    counts, P = noise.integers(1, 9, levels), noise.dirichlet(np.ones(levels))
    seen = np.repeat(np.arange(levels), counts)
    dims = 3  # three pixels of the same value
    found = on_backend.bits_per_dim(dims * np.log(P[seen]), dims)
    agree(found.mean(), oracle.code_length(counts, P), rtol=1e-12)


# --- (3) --------------------------------------------------------------------------------------------------------


@pytest.mark.equation("dequantise.bound", "dequantise.log_mass", "dequantise.spread")
@FEW
@given(st.integers(2, 6), st.integers(1, 3), seeds)
def test_the_bound_is_the_integral_over_the_bin_less_a_divergence(levels, dims, seed):
    """Its mean over the noise, by two nodes a pixel, which is exact for a Gaussian."""
    log_density = bell(seed, dims)
    x = grid(levels, dims)[:: max(1, levels**dims // 8)]
    found = on_backend.code(lowered(log_density), x, levels, two_nodes(dims, len(x))).bound
    agree(found, [oracle.mean_log_mass(log_density, point, levels, 6) for point in x], rtol=1e-12, atol=1e-12)
    masses = np.array([oracle.log_mass(log_density, point, levels, 14) for point in x])
    losses = np.array([oracle.divergence(log_density, point, levels, 14) for point in x])
    agree(masses - found, losses, atol=1e-10)
    at_most(found - masses, 1e-12)
    assert losses.max() > 1e-5  # a Gaussian is not level in its bins: something is lost


@pytest.mark.equation("dequantise.bound")
@FEW
@given(levels_, floats(0.1, 0.9))
def test_the_bounds_probabilities_do_not_exceed_one(levels, mean):
    """Over all levels ΣP ≤ 1, and Σe^bound ≤ ΣP: the density reaches beyond the bins, and is not level in them."""
    def log_density(x):
        return -0.5 * np.log(2 * np.pi * 0.25) - ((x - mean) ** 2).sum(axis=1) / (2 * 0.25)

    x = grid(levels, 1)
    found = np.exp(on_backend.code(lowered(log_density), x, levels, two_nodes(1, len(x))).bound)
    masses = np.exp([oracle.log_mass(log_density, point, levels) for point in x])
    at_most(found, masses + 1e-12)
    at_most(masses.sum(), 1.0)


# --- (4) --------------------------------------------------------------------------------------------------------


@pytest.mark.equation("dequantise.importance")
@FEW
@given(st.integers(2, 6), seeds)
def test_many_draws_leave_nothing_out(levels, seed):
    """Draws evenly through the bin are the midpoint rule, whose error is a series in their spacing squared."""
    log_density = bell(seed, 1)
    x = grid(levels, 1)

    def mass(h):
        u = h * (np.arange(round(1 / h)) + 0.5)
        draws = np.broadcast_to(u[:, None, None], (len(u), *x.shape)).copy()
        return np.exp(on_backend.code(lowered(log_density), x, levels, draws).importance)

    expected = np.exp([oracle.log_mass(log_density, point, levels) for point in x])
    agree(richardson(mass, 1 / 32), expected, rtol=1e-10)


@pytest.mark.equation("dequantise.importance", "dequantise.bound")
@SOME
@given(st.integers(1, 6), seeds)
def test_more_draws_never_lose_more(K, seed):
    """The mean of logs is at most the log of the mean; equal for one draw.  By enumeration, every choice of two of
    four draws is in the mean between one and all."""
    log_density = bell(seed, 2)
    x = grid(3, 2)
    u = np.random.default_rng(seed).random((K, *x.shape))
    found = on_backend.code(lowered(log_density), x, 3, u)
    at_most(found.bound - found.importance, 1e-12)
    first = on_backend.code(lowered(log_density), x, 3, u[:1])
    agree(first.bound, first.importance, atol=1e-12)
    four = np.random.default_rng(seed + 1).random((4, *x.shape))
    pairs = [on_backend.code(lowered(log_density), x, 3, four[list(p)]).importance
             for p in itertools.combinations(range(4), 2)]  # fmt: skip
    whole = on_backend.code(lowered(log_density), x, 3, four)
    at_most(whole.bound, np.mean(pairs, axis=0) + 1e-12)
    at_most(np.mean(pairs, axis=0), whole.importance + 1e-12)


@pytest.mark.equation("dequantise.importance")
def test_draws_of_one_seed_lie_below_the_mass():
    """n = 4,000 draws: the mean of each estimate, with its standard error, at most log P (6 deviations, one-sided
    10⁻⁹); and K = 5 loses less than half of what K = 1 does, which is ten deviations from 0."""
    def log_density(x):
        return -0.5 * np.log(2 * np.pi * 0.04) - (x**2).sum(axis=1) / (2 * 0.04)

    x = np.zeros((4000, 1))
    u = np.random.default_rng(5).random((5, *x.shape))
    found = on_backend.code(lowered(log_density), x, 3, u)
    mass = oracle.log_mass(log_density, [0.0], 3)
    for estimate in found:
        at_most(estimate.mean() - mass, 6 * estimate.std() / math.sqrt(len(x)))
    assert mass - found.importance.mean() < 0.5 * (mass - found.bound.mean())
    at_most(10 * found.bound.std() / math.sqrt(len(x)), mass - found.bound.mean())


# --- all ----------------------------------------------------------------------------------------------------------


@pytest.mark.equation("dequantise.spread", "dequantise.bound", "dequantise.importance", "dequantise.bits")
def test_gradients_reach_the_density():
    noise = np.random.default_rng(2)
    x, u = grid(3, 2)[:4], noise.random((2, 4, 2))
    mu, log_var = noise.normal(size=(1, 2)), noise.normal(size=(1, 2))

    def bits(mu, log_var, x):
        found = dequantise.code(lambda x_u: gaussian.log_prob(x_u, mu, log_var), x, 3, u)
        return dequantise.bits_per_dim(found.bound, 2), dequantise.bits_per_dim(found.importance, 2)

    with sg.backend("numpy"):
        for i in (0, 1):
            sg.check_grads(lambda *args, i=i: bits(*args)[i], (mu, log_var, x), order=2)


def test_float32_stays():
    x, u = grid(3, 2).astype(np.float32), np.full((2, 9, 2), 0.3, np.float32)
    found = on_backend.code(lowered(lambda x: -x.sum(axis=1)), x, 3, u)
    assert {part.dtype for part in found} == {np.dtype("float32")}
    assert on_backend.bits_per_dim(found.bound, 2).dtype == np.float32


def test_misfits_are_refused():
    x = np.zeros((4, 3))
    with pytest.raises(ValueError, match=r"u \(4, 2\) should have the shape of x, \(4, 3\)"):
        on_backend.spread(x, np.zeros((4, 2)), 17)
    with pytest.raises(TypeError, match="u is float32 but x is float64"):
        on_backend.spread(x, np.zeros((4, 3), np.float32), 17)
    for function in (lambda: on_backend.spread(x, x, 1), lambda: on_backend.log_mass(x[:, 0], 3, 1)):
        with pytest.raises(ValueError, match="levels must be at least 2, got 1"):
            function()
    with pytest.raises(ValueError, match="no draw"):
        on_backend.code(lowered(lambda x: x[:, 0]), x, 17, np.zeros((0, 4, 3)))
