"""The exponential distribution against scipy.stats, its integrals, and the root of its distribution function."""

import types

import numpy as np
import pytest
from closed_forms import (
    POSITIVE,
    N,
    check_everywhere,
    check_finite,
    check_fits,
    check_gradients,
    check_misfits,
    event_shapes,
    floats,
    over_event,
    seeds,
    seldom,
    shapes,
    uniform,
)
from evidence import agree, apart, at_most, lifted, up
from hypothesis import given
from scipy import stats

import scratchgen as sg
from reference import exponential as oracle
from scratchgen import distributions
from scratchgen.random import Generator

exponential = lifted(distributions.exponential)

LOG_RATES = floats(-3, 3)


@pytest.mark.equation("exponential.log_prob")
@given(shapes, seeds)
def test_log_prob_is_scipys(shape, seed):
    x, log_rate = uniform(seed, shape, (0, 9), (-3, 3))
    got = check_everywhere(exponential.log_prob, x, log_rate)
    # terms up to 180, each rounded a few times
    agree(got, over_event(oracle.log_prob(x, np.exp(log_rate))), rtol=1e-13, atol=1e-13)


@pytest.mark.equation("exponential.log_prob")
def test_there_is_nothing_below_zero():
    """And one negative number is enough; no warning, no NaN, and no pull on the rate from there."""
    x = np.array([[-1e-300, 1.0], [0.0, 1.0], [3.0, -2.0]])
    log_rate = np.full(x.shape, 0.7)
    agree(exponential.log_prob(x, log_rate), over_event(oracle.log_prob(x, np.exp(log_rate))), rtol=1e-14)
    rate = sg.tensor(log_rate)
    (slope,) = sg.gradients(exponential.log_prob(x, rate)[1:2].sum(), [rate])
    agree(slope, [[0, 0], [1, 1 - np.exp(0.7)], [0, 0]], rtol=1e-14, atol=1e-14)


@pytest.mark.equation("exponential.log_prob")
def test_its_parameter_is_the_logarithm_of_the_rate():
    """Not of the mean, which is 1/λ: at λ = e² the mean of x is e⁻²."""
    x, w = np.polynomial.legendre.leggauss(120)
    x, w = 3 * (x + 1), 3 * w                                     # from 0 to 6: e⁻⁴⁴ of the mass lies beyond
    p = np.exp(exponential.log_prob(x, np.full(x.shape, 2.0)))
    agree([w @ p, w @ (p * x)], [1, np.exp(-2)], rtol=1e-12)


@pytest.mark.equation("exponential.entropy")
@seldom
@given(LOG_RATES, LOG_RATES)
def test_entropy_is_its_integral(a, b):
    got = check_everywhere(exponential.entropy, np.array([[a, b]]))
    # each integral is asked for 1e-11 of each of its panels
    agree(got, [oracle.entropy(np.exp(a)) + oracle.entropy(np.exp(b))], rtol=1e-10, atol=1e-10)


@pytest.mark.equation("exponential.entropy")
def test_the_entropy_is_the_mean_of_minus_log_prob_of_samples():
    log_rate = np.full((N, 2), 1.5)
    x = exponential.sample(Generator(2), log_rate)
    surprise = -exponential.log_prob(x, log_rate)
    # the sum of two λx, each of variance 1, plus a constant: 5.3 standard errors is α = 1e-7
    at_most(abs(surprise.mean() - exponential.entropy(log_rate)[0]), 5.3 * np.sqrt(2 / N))
    apart(surprise.mean(), exponential.entropy(-log_rate)[0], by=5.3 * np.sqrt(2 / N))


@pytest.mark.equation("exponential.kl")
@seldom
@given(LOG_RATES, LOG_RATES)
def test_kl_is_its_integral(q, p):
    got = check_everywhere(exponential.kl, np.array([q]), np.array([p]))
    # values up to e⁶, from panels that are asked for 1e-11 each
    agree(got, [oracle.kl(np.exp(q), np.exp(p))], rtol=1e-9, atol=1e-10)


@pytest.mark.equation("exponential.kl")
@given(event_shapes, seeds)
def test_kl_is_a_divergence_that_adds_up_over_the_event(shape, seed):
    q, p = uniform(seed, shape, (-3, 3), (-3, 3))
    got = check_everywhere(exponential.kl, q, p)
    at_most(POSITIVE, got)
    agree(exponential.kl(q, q), np.zeros(len(q)))
    agree(got, over_event(exponential.kl(q.ravel(), p.ravel()).reshape(shape)), rtol=1e-14)


@pytest.mark.equation("exponential.kl")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_small_kl_keeps_its_digits(dtype):
    """Near p it is half of Fisher's metric, δ²/2, up to a factor 1 + δ."""
    delta = 1e-3
    zero, step = np.zeros(1, dtype), np.full(1, delta, dtype)
    agree(exponential.kl(zero, step), [delta**2 / 2], rtol=2e-3)


@pytest.mark.equation("exponential.sample")
@seldom
@given(floats(1e-9, 1 - 1e-9), LOG_RATES)
def test_injected_noise_decides_the_sample(u, log_rate):
    got = check_everywhere(lambda r, u: exponential.sample(None, r, u=u), np.array([log_rate]), np.array([u]))
    # the mass beyond x is an integral known to 1e-15; near u = 1 an error of 1e-15 in it is one of 1e-15 in λx
    agree(got, [oracle.quantile(u, np.exp(log_rate))], rtol=1e-12, atol=1e-13 * np.exp(-log_rate))


@pytest.mark.equation("exponential.sample")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_samples_fit_and_a_wrong_scale_does_not(dtype):
    log_rate = np.full((N // 4, 4), -1.2, dtype)
    x = exponential.sample(Generator(11), log_rate)
    assert x.dtype == dtype
    check_fits(x, stats.expon(scale=np.exp(1.2)).cdf)
    check_misfits(x, stats.expon(scale=np.exp(-1.2)).cdf)        # the rate taken for the mean
    check_misfits(x, stats.expon(scale=1.1 * np.exp(1.2)).cdf)


@pytest.mark.equation("exponential.sample")
def test_the_logarithm_of_uniform_noise_has_density_e_to_the_x():
    """x = ln u on x < 0: minus a sample of rate 1.  Negative control: ln of the noise's square."""
    u = np.random.default_rng(4).uniform(size=N)
    x = -exponential.sample(None, np.zeros(N), u=u)
    agree(x, np.log(u))
    check_fits(-x, stats.expon.cdf)
    check_fits(np.exp(x), stats.uniform.cdf)
    check_misfits(-2 * x, stats.expon.cdf)


@pytest.mark.equation("exponential.sample")
def test_no_draw_is_infinite():
    """Uniform draws can be 0, but never 1."""
    zeros = types.SimpleNamespace(random=lambda shape, dtype: up(np.zeros(shape, dtype)))
    agree(exponential.sample(zeros, np.ones(3)), np.zeros(3))


@pytest.mark.equation("exponential.log_prob", "exponential.entropy", "exponential.kl", "exponential.sample")
@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 2, 1)])
def test_gradients(shape):
    x, q, p, u = uniform(1, shape, (0.1, 2), (-1, 1), (-1, 1), (0.05, 0.95))
    module = distributions.exponential
    check_gradients(module.log_prob, x, q)
    check_gradients(module.entropy, q)
    check_gradients(module.kl, q, p)
    check_gradients(lambda r: module.sample(None, r, u=u), q)


@pytest.mark.parametrize("log_rate", [-20.0, 20.0])
def test_extreme_rates(log_rate):
    ones = np.ones((2, 3))
    x = 2.5 * np.exp(-log_rate) * ones
    value, _ = check_finite(lambda r: exponential.log_prob(x.astype(r.dtype), r), log_rate * ones)
    agree(value, over_event(oracle.log_prob(x, np.exp(log_rate) * ones)), rtol=1e-12)
    check_finite(exponential.entropy, log_rate * ones)
    check_finite(exponential.kl, log_rate * ones, 0.0 * ones)


def test_misfits_are_refused():
    a, column = np.zeros((4, 3)), np.zeros((4, 1))
    with pytest.raises(ValueError, match=r"exponential.log_prob: log_rate \(4, 3\) does not fit x \(4, 1\)"):
        exponential.log_prob(column, a)
    with pytest.raises(ValueError, match=r"log_rate_p \(3,\) does not fit log_rate_q \(4, 3\)"):
        exponential.kl(a, np.zeros(3))
    with pytest.raises(ValueError, match=r"u \(4, 1\) should have the shape of log_rate, \(4, 3\)"):
        exponential.sample(None, a, u=column)
    with pytest.raises(ValueError, match="batch"):
        exponential.entropy(np.zeros(()))
