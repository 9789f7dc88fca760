"""The diagonal Gaussian against scipy.stats, quadrature and Gauss–Hermite."""

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
from evidence import agree, apart, at_most, lifted
from hypothesis import given
from scipy import stats

from reference import distributions as oracle
from scratchgen import distributions
from scratchgen.random import Generator

gaussian = lifted(distributions.gaussian)

NEAR = floats(-3, 3)


@pytest.mark.equation("gaussian.log_prob")
@given(shape=shapes, seed=seeds)
def test_log_prob_is_scipys(shape, seed):
    x, mu, log_var = uniform(seed, shape, (-9, 9), (-9, 9), (-6, 6))
    got = check_everywhere(gaussian.log_prob, x, mu, log_var)
    # both round a few times, relative to terms as large as the squared distance
    want = over_event(oracle.normal_log_prob(x, mu, np.sqrt(np.exp(log_var))))
    agree(got, want, rtol=1e-12, atol=1e-12)


@pytest.mark.equation("gaussian.entropy")
@given(shape=event_shapes, seed=seeds)
def test_entropy_is_the_mean_of_minus_log_p(shape, seed):
    (log_var,) = uniform(seed, shape, (-4, 4))
    got = check_everywhere(gaussian.entropy, log_var)
    rows = np.exp(log_var).reshape(len(log_var), -1)
    want = [sum(oracle.entropy_gaussian_hermite([0.0], [[v]]) for v in row) for row in rows]
    agree(got, want, rtol=1e-12, atol=1e-12)


@pytest.mark.equation("gaussian.entropy")
@pytest.mark.parametrize("log_var", [-7.0, 0.0, 5.0])
def test_entropy_is_its_integral(log_var):
    sigma = np.sqrt(np.exp(log_var))
    want = oracle.entropy_quad(stats.norm(0, sigma).logpdf, np.linspace(-14 * sigma, 14 * sigma, 29))
    agree(gaussian.entropy(np.array([log_var])), want, atol=1e-11)


@pytest.mark.equation("gaussian.kl")
@seldom
@given(NEAR, NEAR, NEAR, NEAR)
def test_kl_is_its_integral(mu_q, log_var_q, mu_p, log_var_p):
    got = gaussian.kl(*[np.array([v]) for v in (mu_q, log_var_q, mu_p, log_var_p)])
    want = oracle.kl_gaussian_quad(mu_q, np.sqrt(np.exp(log_var_q)), mu_p, np.sqrt(np.exp(log_var_p)))
    # the quadrature asks for 1e-11 of each of its panels, whose parts cancel in the sum
    agree(got, want, atol=max(1e-10, 1e-9 * abs(want)))


@pytest.mark.equation("gaussian.kl")
@given(b=shapes.map(len), d=shapes.map(len), seed=seeds)
def test_kl_in_several_dimensions_is_the_mean_of_the_log_ratio(b, d, seed):
    args = uniform(seed, (b, d), (-3, 3), (-3, 3), (-3, 3), (-3, 3))
    got = check_everywhere(gaussian.kl, *args)
    want = [
        oracle.kl_gaussian_hermite(mu_q, np.diag(np.exp(log_var_q)), mu_p, np.diag(np.exp(log_var_p)))
        for mu_q, log_var_q, mu_p, log_var_p in zip(*args, strict=True)
    ]
    agree(got, want, rtol=1e-11, atol=1e-11)


@pytest.mark.equation("gaussian.kl_standard")
@given(shape=event_shapes, seed=seeds)
def test_kl_standard_is_kl_to_the_standard_normal(shape, seed):
    mu, log_var = uniform(seed, shape, (-3, 3), (-3, 3))
    got = check_everywhere(gaussian.kl_standard, mu, log_var)
    agree(got, gaussian.kl(mu, log_var, 0.0, 0.0), rtol=1e-13, atol=1e-13)
    want = [
        sum(oracle.kl_gaussian_hermite([m], [[np.exp(v)]], [0.0], [[1.0]]) for m, v in zip(a, b, strict=True))
        for a, b in zip(mu.reshape(len(mu), -1), log_var.reshape(len(mu), -1), strict=True)
    ]
    agree(got, want, rtol=1e-11, atol=1e-11)


@pytest.mark.equation("gaussian.kl", "gaussian.kl_standard")
@given(shape=shapes, seed=seeds)
def test_kl_is_a_divergence(shape, seed):
    mu_q, log_var_q, mu_p, log_var_p = uniform(seed, shape, (-3, 3), (-3, 3), (-3, 3), (-3, 3))
    at_most(POSITIVE, gaussian.kl(mu_q, log_var_q, mu_p, log_var_p))
    at_most(POSITIVE, gaussian.kl_standard(mu_q, log_var_q))
    agree(gaussian.kl(mu_q, log_var_q, mu_q, log_var_q), 0)
    agree(gaussian.kl_standard(np.zeros(shape), np.zeros(shape)), 0)
    at_most(POSITIVE, gaussian.kl(mu_q, log_var_q, mu_q + 1e-7, log_var_q))
    at_most(POSITIVE, gaussian.kl(mu_q, log_var_q, mu_q, log_var_q + 1e-7))


@pytest.mark.equation("gaussian.kl")
def test_kl_takes_q_first():
    wide, narrow = np.log([4.0]), np.log([0.25])
    forward = gaussian.kl(np.zeros(1), wide, np.zeros(1), narrow)
    agree(forward, oracle.kl_gaussian_quad(0, 2, 0, 0.5), rtol=1e-10)
    backward = gaussian.kl(np.zeros(1), narrow, np.zeros(1), wide)
    apart(forward, backward, by=2 * backward[0])


@pytest.mark.equation("gaussian.kl", "gaussian.kl_standard")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_small_kl_keeps_its_digits(dtype):
    """Near p the divergence is half of Fisher's metric: δ²/4 for log σ², δ²/2σ² for μ, up to a factor 1 + δ."""
    delta = 1e-3
    zero, step = np.zeros(1, dtype), np.full(1, delta, dtype)
    agree(gaussian.kl_standard(zero, step), delta**2 / 4, rtol=2e-3)
    agree(gaussian.kl(zero, step, zero, zero), delta**2 / 4, rtol=2e-3)
    agree(gaussian.kl(step, zero + 1, zero, zero + 1), delta**2 / 2 / np.e, rtol=2e-3)


@pytest.mark.equation(
    "gaussian.log_prob", "gaussian.entropy", "gaussian.kl", "gaussian.kl_standard", "gaussian.sample"
)
@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 2, 1)])
def test_gradients(shape):
    x, mu, log_var, mu_p, log_var_p = uniform(1, shape, (-2, 2), (-2, 2), (-1, 1), (-2, 2), (-1, 1))
    check_gradients(gaussian.log_prob, x, mu, log_var)
    check_gradients(gaussian.entropy, log_var)
    check_gradients(gaussian.kl, mu, log_var, mu_p, log_var_p)
    check_gradients(gaussian.kl_standard, mu, log_var)
    check_gradients(lambda m, v: gaussian.sample(None, m, v, eps=x), mu, log_var)


# --- samples ------------------------------------------------------------------------------------------------


@pytest.mark.equation("gaussian.sample")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_samples_fit_and_a_wrong_scale_does_not(dtype):
    mu, log_var = np.full((N // 4, 4), 0.7, dtype), np.full((N // 4, 1), -1.2, dtype)
    z = gaussian.sample(Generator(11), mu, log_var)
    assert z.dtype == dtype
    check_fits(z, stats.norm(0.7, np.exp(-0.6)).cdf)
    check_misfits(z, stats.norm(0.7, np.exp(-1.2)).cdf)      # log-variance read as log-deviation
    check_misfits(z, stats.norm(0.7, 1.1 * np.exp(-0.6)).cdf)


@pytest.mark.equation("gaussian.sample")
@given(shape=shapes, seed=seeds)
def test_injected_noise_decides_the_sample(shape, seed):
    mu, log_var, eps = uniform(seed, shape, (-2, 2), (-2, 2), (-2, 2))
    got = check_everywhere(lambda m, v, e: gaussian.sample(None, m, v, eps=e), mu, log_var, eps)
    agree(got, oracle.normal_of_noise(eps, mu, np.sqrt(np.exp(log_var))), rtol=1e-11, atol=1e-11)
    agree(*[gaussian.sample(Generator(seed), mu, log_var) for _ in range(2)])


@pytest.mark.equation("gaussian.sample")
def test_the_entropy_is_the_mean_of_minus_log_prob_of_samples():
    mu, log_var = np.full((N, 2), 1.5), np.full((N, 2), -3.0)
    x = gaussian.sample(Generator(2), mu, log_var)
    surprise = -gaussian.log_prob(x, mu, log_var)
    # each is (χ²_2)/2 plus a constant, of variance 1: 5.3 standard errors is α = 1e-7
    agree(surprise.mean(), gaussian.entropy(log_var)[0], atol=5.3 / np.sqrt(N))


# --- extremes, shapes, numbers ------------------------------------------------------------------------------


@pytest.mark.equation(
    "gaussian.log_prob", "gaussian.entropy", "gaussian.kl", "gaussian.kl_standard", "gaussian.sample"
)
@pytest.mark.parametrize("log_var", [-20.0, 20.0])
@pytest.mark.parametrize("other", [-20.0, 20.0])
def test_extreme_variances(log_var, other):
    ones = np.ones((2, 3))
    x, mu = 2.5 * ones, -0.25 * ones
    value, _ = check_finite(gaussian.log_prob, x, mu, log_var * ones)
    want = over_event(oracle.normal_log_prob(x, mu, np.exp(log_var / 2)))
    agree(value, want, rtol=1e-12)
    check_finite(gaussian.kl, x, log_var * ones, mu, other * ones)
    check_finite(gaussian.kl_standard, x, log_var * ones)
    check_finite(gaussian.entropy, log_var * ones)
    check_finite(lambda m, v: gaussian.sample(None, m, v, eps=(0.5 * ones).astype(m.dtype)), x, log_var * ones)


@pytest.mark.equation("gaussian.log_prob")
def test_shared_parameters_and_numbers():
    x, mu, log_var = uniform(7, (2, 3, 2), (-2, 2), (-2, 2), (-1, 1))
    shared = log_var[:, :1, :1]
    full = gaussian.log_prob(x, mu, np.broadcast_to(shared, x.shape))
    agree(gaussian.log_prob(x, mu, shared), full, rtol=1e-14)
    want = over_event(stats.norm.logpdf(x, 0.5, np.exp(0.5)))
    for half, one in ((0.5, 1), (np.array(0.5), np.array(1.0))):
        agree(gaussian.log_prob(x, half, one), want, rtol=1e-12)
    assert gaussian.log_prob(x.astype("f"), 0.5, 1).dtype == np.float32
    assert gaussian.kl(x.astype("f"), log_var.astype("f"), 0.0, 0.0).dtype == np.float32


def test_precisions_do_not_mix_and_integers_are_no_data():
    single, double = np.zeros((2, 3), "f"), np.zeros((2, 3))
    for mu in (double, np.float64(0.5), np.array(0.5)):
        with pytest.raises(TypeError, match="mu is float64 but x is float32"):
            gaussian.log_prob(single, mu, 0.0)
    with pytest.raises(TypeError, match="log_var is float32 but mu is float64"):
        gaussian.kl_standard(double, single)
    with pytest.raises(TypeError, match="x is int64"):
        gaussian.log_prob(np.zeros((2, 3), int), 0.0, 0.0)


def test_misfits_are_refused():
    a, row, column, wide = np.zeros((4, 3)), np.zeros(3), np.zeros((4, 1)), np.zeros((4, 6))
    with pytest.raises(ValueError, match=r"log_prob: mu \(3,\) does not fit x \(4, 3\)"):
        gaussian.log_prob(a, row, a)
    with pytest.raises(ValueError, match=r"log_prob: mu \(4, 3\) does not fit x \(4, 1\)"):
        gaussian.log_prob(column, a, a)
    with pytest.raises(ValueError, match=r"log_var \(4, 6\) does not fit x"):
        gaussian.log_prob(a, a, wide)
    with pytest.raises(ValueError, match=r"mu \(4, 1\) does not fit x \(4,\)"):
        gaussian.log_prob(np.zeros(4), column, column)
    with pytest.raises(ValueError, match="batch"):
        gaussian.log_prob(np.zeros(()), 0.0, 0.0)
    with pytest.raises(ValueError, match="batch"):
        gaussian.entropy(np.zeros(()))
    with pytest.raises(ValueError, match=r"mu_p \(4, 6\) does not fit mu_q \(4, 3\)"):
        gaussian.kl(a, a, wide, wide)
    with pytest.raises(ValueError, match=r"log_var \(4, 1\) should have the shape of mu, \(4, 3\)"):
        gaussian.kl_standard(a, column)
    with pytest.raises(ValueError, match=r"eps \(4, 1\)"):
        gaussian.sample(None, a, a, eps=column)
    with pytest.raises(ValueError, match="gaussian.sample: neither eps nor an rng"):
        gaussian.sample(None, a, a)
