"""The logistic distribution and its bins: against scipy.stats and the integral of the density."""

import numpy as np
import pytest
from closed_forms import (
    N,
    check_everywhere,
    check_finite,
    check_fits,
    check_gradients,
    check_misfits,
    floats,
    over_event,
    seeds,
    seldom,
    shapes,
    uniform,
)
from evidence import agree, at_most, lifted, up
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from reference import distributions as oracle
from scratchgen import distributions
from scratchgen.random import Generator

logistic = lifted(distributions.logistic)

LEVELS = st.sampled_from([2, 3, 17, 256])


def grid(levels: int) -> np.ndarray:
    return np.linspace(-1, 1, levels)[:, None]


@pytest.mark.equation("logistic.log_prob")
@given(shapes, seeds)
def test_log_prob_is_scipys(shape, seed):
    x, mu, log_s = uniform(seed, shape, (-9, 9), (-9, 9), (-3, 3))
    got = check_everywhere(logistic.log_prob, x, mu, log_s)
    want = over_event(oracle.logistic_log_prob(x, mu, np.exp(log_s)))
    agree(got, want, rtol=1e-12, atol=1e-12)


@pytest.mark.equation("logistic.entropy")
@seldom
@given(st.lists(floats(-3, 3), min_size=1, max_size=2))
def test_entropy_is_its_integral(log_s):
    got = check_everywhere(logistic.entropy, np.array([log_s]))
    want = sum(oracle.entropy_logistic_quad(0.0, s) for s in np.exp(log_s))
    agree(got, want, rtol=1e-10, atol=1e-10)


def test_there_is_no_closed_divergence():
    assert not hasattr(distributions.logistic, "kl")


@pytest.mark.equation("logistic.sample")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_samples_fit_and_a_wrong_scale_does_not(dtype):
    mu, log_s = np.full((N // 4, 4), 0.7, dtype), np.full((N // 4, 1), -1.2, dtype)
    x = logistic.sample(Generator(51), mu, log_s)
    assert x.dtype == dtype
    check_fits(x, stats.logistic(0.7, np.exp(-1.2)).cdf)
    check_misfits(x, stats.logistic(0.7, 1.12 * np.exp(-1.2)).cdf)
    check_misfits(x, stats.norm(0.7, np.pi / np.sqrt(3) * np.exp(-1.2)).cdf)     # of the same variance


@pytest.mark.equation("logistic.sample")
@given(shapes, seeds)
def test_injected_noise_is_carried_by_the_inverse_distribution_function(shape, seed):
    mu, log_s, u = uniform(seed, shape, (-2, 2), (-2, 2), (0.01, 0.99))
    got = check_everywhere(lambda m, s, v: logistic.sample(None, m, s, u=v), mu, log_s, u)
    agree(got, oracle.logistic_of_noise(u, mu, np.exp(log_s)), rtol=1e-12, atol=1e-12)


@pytest.mark.equation("logistic.sample")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_outermost_draws_are_finite(dtype):
    class Outermost:
        def random(self, shape, dtype):
            last = 1 - np.finfo(dtype).epsneg
            return up(np.broadcast_to(np.array([0, last], dtype), shape))

    low, high = logistic.sample(Outermost(), np.zeros((1, 2), dtype), 0.0)[0]
    # 0 stands for the middle of [0, step), step = 2⁻²⁴ or 2⁻⁵³; the last is one step below 1
    agree(low, -high - np.log(2), rtol=1e-6)


@pytest.mark.equation("logistic.discretised")
@given(levels=LEVELS, place=floats(0, 1), mu=floats(-2, 2), log_s=floats(-5, 5))
def test_bins_hold_the_integral_of_the_density(levels, place, mu, log_s):
    x = grid(levels)[[round(place * (levels - 1))]]
    got = logistic.discretised_log_prob(x, mu, log_s, levels)
    want = oracle.discretised_logistic_log_prob(x[:, 0], mu, np.exp(log_s), levels)
    agree(got, want, rtol=1e-12, atol=3e-11)


@pytest.mark.equation("logistic.discretised")
@given(levels=LEVELS, mu=floats(-3, 3), log_s=floats(-8, 20))
def test_the_bins_sum_to_one(levels, mu, log_s):
    log_p = logistic.discretised_log_prob(grid(levels), mu, log_s, levels)
    at_most(log_p, 0.0)
    agree(np.exp(log_p).sum(), 1, atol=1e-12)


@pytest.mark.equation("logistic.discretised")
@given(seed=seeds, levels=LEVELS, shape=st.sampled_from([(2,), (3, 2), (2, 2, 3)]))
def test_events_add_on_every_backend(seed, levels, shape):
    noise = np.random.default_rng(seed)
    x = (2 * noise.integers(0, levels, shape) / (levels - 1) - 1).astype(np.float32).astype(np.float64)
    mu, log_s = uniform(seed, shape, (-1.5, 1.5), (-5, 3))
    got = check_everywhere(lambda *a: logistic.discretised_log_prob(*a, levels), x, mu, log_s)
    parts = logistic.discretised_log_prob(x.reshape(-1), mu.reshape(-1), log_s.reshape(-1), levels)
    agree(got, over_event(parts.reshape(shape)), rtol=1e-13)


@pytest.mark.equation("logistic.discretised")
@pytest.mark.parametrize("scales", [50.0, 1e4])
def test_bins_far_out(scales):
    """The open bin against scipy's tail; inner ones against the integral, where σ(b) − σ(a) is 1 − 1."""
    levels, h = 17, 1 / 16
    s = np.array([0.5 / scales])
    got = logistic.discretised_log_prob(np.ones(1), 0.5 - h, np.log(s), levels)
    agree(got, stats.logistic.logsf(0.5 / s), rtol=1e-13)
    for x in (-0.875, 0.25):
        got = logistic.discretised_log_prob(np.array([x]), x - 0.5, np.log(s), levels)
        want = oracle.discretised_logistic_log_prob(x, x - 0.5, s, levels)
        agree(got, want, rtol=1e-12)


@pytest.mark.equation("logistic.discretised")
@pytest.mark.parametrize("x", [-1.0, -0.875, 0.25, 1.0])
@pytest.mark.parametrize(("mu", "log_s"), [(0.25, -3.0), (0.25, 1.0), (-0.6, -1.0), (-0.25, -4.6)])
def test_gradients_of_bins(x, mu, log_s):
    args = np.array([mu]), np.array([log_s])
    check_gradients(lambda m, s: logistic.discretised_log_prob(np.array([x]), m, s, 17), *args)


@pytest.mark.equation("logistic.log_prob", "logistic.entropy", "logistic.sample")
def test_gradients():
    x, mu, log_s = uniform(1, (2, 3), (-2, 2), (-2, 2), (-1, 1))
    check_gradients(logistic.log_prob, x, mu, log_s)
    check_gradients(logistic.entropy, log_s)
    check_gradients(lambda m, s: logistic.sample(None, m, s, u=special.expit(x)), mu, log_s)


@pytest.mark.equation("logistic.log_prob", "logistic.discretised")
@pytest.mark.parametrize("levels", [2, 17, 256])
def test_extremes_are_finite_in_both_precisions(levels):
    x, mu, log_s = (
        a.reshape(-1)
        for a in np.meshgrid(
            np.linspace(-1, 1, levels)[[0, 1, levels // 2, -1]],
            [-1.0, -0.03, 0.0, 0.7, 3.0],
            np.linspace(-20, 20, 41),
            indexing="ij",
        )
    )
    _, low = check_finite(lambda m, s: logistic.discretised_log_prob(x.astype(m.dtype), m, s, levels), mu, log_s)
    at_most(low, 0.0)
    value, _ = check_finite(lambda m, s: logistic.log_prob(x.astype(m.dtype), m, s), mu, log_s)
    # what scipy is given is what check_finite gave: the arguments rounded to float32
    want = stats.logistic.logpdf(x, mu.astype("f").astype("d"), np.exp(log_s.astype("f").astype("d")))
    agree(value, want, rtol=1e-11)


def test_misfits_are_refused():
    a = np.zeros((4, 3))
    with pytest.raises(ValueError, match=r"log_s \(3,\) does not fit x \(4, 3\)"):
        logistic.log_prob(a, a, np.zeros(3))
    with pytest.raises(ValueError, match=r"mu \(4, 6\) does not fit x \(4, 3\)"):
        logistic.discretised_log_prob(a, np.zeros((4, 6)), a, 17)
    with pytest.raises(ValueError, match="levels must be at least 2, got 0"):
        logistic.discretised_log_prob(a, a, a, 0)
    with pytest.raises(ValueError, match=r"u \(4,\)"):
        logistic.sample(None, a, a, u=np.zeros(4))
    with pytest.raises(TypeError, match="mu is float64 but x is float32"):
        logistic.log_prob(a.astype("f"), a, a)
