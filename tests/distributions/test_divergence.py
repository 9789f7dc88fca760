"""Divergences on weighted points: quadrature in the plane, enumeration, and the best Gaussians found by search."""

import functools

import numpy as np
import pytest
from closed_forms import POSITIVE, check_everywhere, check_gradients, seeds, seldom, uniform
from evidence import agree, apart, at_most, host, lifted, up
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats
from scipy.spatial.distance import jensenshannon

import scratchgen as sg
from reference import denoisers
from reference import divergence as oracle
from reference.distributions import entropy_enumerate, kl_enumerate, kl_gaussian_hermite
from reference.quadrature import gaussian_expectation
from scratchgen import distributions, ops

divergence = lifted(distributions.divergence)

# Deviations are from 0.55 to 1.15, within 1.5 of 0: the square holds 8.2 of the largest.  Between two components a
# log-density bends within about 0.2, where the spacing of 0.11 leaves an error of 1e-11, weighed by what mass is there.
NODES = oracle.plane((-11, -11), (11, 11), (200, 200))
OTHER_NODES = oracle.plane((-11.2, -11), (11, 11.3), (220, 210))


def mixture(seed):
    """Two Gaussians in the plane, within ±1.5 of 0."""
    noise = np.random.default_rng(seed)
    root = noise.uniform(-0.7, 0.7, (2, 2, 2))
    weight = noise.uniform(0.2, 0.8)
    return denoisers.Mixture(np.array([weight, 1 - weight]), noise.uniform(-1.5, 1.5, (2, 2)),
                             root @ np.swapaxes(root, -1, -2) + 0.3 * np.eye(2))


def log_density(data):
    return functools.partial(denoisers.log_prob, data)


def tables(seed, *shape):
    """Distributions over the last axis; about one state in five has no probability, but never the first."""
    noise = np.random.default_rng(seed)
    p = noise.exponential(size=shape) * (noise.uniform(size=shape) > 0.2)
    p[..., 0] += 0.1
    return p / p.sum(axis=-1, keepdims=True)


def logarithm(p):
    with np.errstate(divide="ignore"):
        return np.log(p)


states = st.integers(1, 6)

# --- KL ---------------------------------------------------------------------------------------------------------


@pytest.mark.equation("divergence.kl")
@seldom
@given(seeds, seeds)
def test_kl_is_its_integral(one, other):
    p, q = log_density(mixture(one)), log_density(mixture(other))
    got = divergence.kl(p(NODES.points), q(NODES.points), NODES.weights)
    agree(got, oracle.kl(p, q, OTHER_NODES), rtol=1e-10, atol=1e-10)
    at_most(-got, 1e-12)


@pytest.mark.equation("divergence.kl")
@seldom
@given(seeds, seeds)
def test_kl_of_gaussians_is_the_mean_of_their_log_ratio(one, other):
    p, q = mixture(one), mixture(other)
    args = p.means[0], p.covs[0], q.means[0], q.covs[0]
    log_p, log_q = [denoisers.log_prob(denoisers.gaussian(*args[i : i + 2]), NODES.points) for i in (0, 2)]
    agree(divergence.kl(log_p, log_q, NODES.weights), kl_gaussian_hermite(*args), rtol=1e-10, atol=1e-10)
    agree(divergence.kl(log_q, log_p, NODES.weights), kl_gaussian_hermite(*args[2:], *args[:2]), rtol=1e-10, atol=1e-10)


@pytest.mark.equation("divergence.kl")
@given(seeds, states, states)
def test_kl_of_tables_is_their_sum(seed, b, n):
    p, q = tables(seed, b, n), tables(seed + 1, b, n)
    got = divergence.kl(logarithm(p), logarithm(q))
    agree(got, [kl_enumerate(*pair) for pair in zip(p, q, strict=True)], rtol=1e-13, atol=1e-14)
    agree(divergence.kl(logarithm(p), logarithm(p)), np.zeros(b))
    smooth = q / 2 + 0.5 / n
    at_most(-check_everywhere(divergence.kl, np.log(smooth), np.log(p / 2 + 0.5 / n)), 1e-15)


@pytest.mark.equation("divergence.kl")
def test_kl_sees_what_q_lacks_and_not_what_p_lacks():
    p, q = np.array([0.5, 0.5, 0.0]), np.array([0.25, 0.25, 0.5])
    agree(divergence.kl(logarithm(p), logarithm(q)), np.log(2), rtol=1e-15)
    agree(divergence.kl(logarithm(q), logarithm(p)), np.inf)
    variable = sg.tensor(up(logarithm(p)))
    (slope,) = sg.gradients(distributions.divergence.kl(variable, up(logarithm(q))), [variable])
    agree(slope, [0.5 * (np.log(2) + 1), 0.5 * (np.log(2) + 1), 0], rtol=1e-15)


# --- a Gaussian for a mixture of two ----------------------------------------------------------------------------

TWO = denoisers.Mixture(np.array([0.6, 0.4]), np.array([[-2.4, -0.5], [2.4, 0.8]]),
                        np.array([[[0.5, 0.15], [0.15, 0.4]], [[0.35, -0.1], [-0.1, 0.6]]]))
PLANE = oracle.plane((-8, -6), (8, 6), (64, 48))


@functools.cache
def fits():
    """The Gaussians of least KL(p‖q), and of least KL(q‖p) from near either mode: found, not derived."""
    known = denoisers.log_prob(TWO, PLANE.points)
    forward = oracle.fit(lambda q: oracle.kl(lambda _: known, q, PLANE), np.zeros(2), np.eye(2))
    reverse = [oracle.fit(lambda q: oracle.kl(q, lambda _: known, PLANE), mean + 0.3, 0.7 * np.eye(2))
               for mean in TWO.means]
    return forward, reverse


def slopes(loss, q):
    """The gradient of loss(log p, log q) in q's mean and covariance, by the library."""
    mu, cov = (sg.tensor(up(np.array(v))) for v in (q.mu, q.cov))
    points, log_p, weights = up([PLANE.points, denoisers.log_prob(TWO, PLANE.points), PLANE.weights])
    log_q = distributions.gaussian_full.log_prob(points, ops.expand_dims(mu, 0), cov)
    return [host(g) for g in sg.gradients(loss(log_p, log_q, weights), [mu, cov])]


def forward_kl(log_p, log_q, weights):
    return distributions.divergence.kl(log_p, log_q, weights)


def reverse_kl(log_p, log_q, weights):
    return distributions.divergence.kl(log_q, log_p, weights)


@pytest.mark.equation("divergence.kl")
def test_each_direction_is_flat_at_its_own_best_gaussian():
    """The search knows the place to 1e-7 or so, where the curvature is a few units."""
    forward, reverse = fits()
    for best, own, other in [(forward, forward_kl, reverse_kl), *((q, reverse_kl, forward_kl) for q in reverse)]:
        for slope in slopes(own, best):
            agree(slope, np.zeros(slope.shape), atol=1e-6)
        apart(slopes(other, best)[0], 0, by=0.01)


@pytest.mark.equation("divergence.kl")
def test_forward_covers_both_modes_and_reverse_sits_on_one():
    forward, reverse = fits()
    log_p = denoisers.log_prob(TWO, PLANE.points)
    between = TWO.weights @ TWO.means
    agree(forward.mu, between, atol=1e-6)
    # at the saddle between them q is four times as dense as p
    at_most(np.log(4) + denoisers.log_prob(TWO, between) - stats.multivariate_normal(*forward[:2]).logpdf(between), 0.0)
    for k, q in enumerate(reverse):
        # the other mode is 4 deviations away: the component is disturbed by its tail, of about e⁻⁸ of the mass
        agree(q.mu, TWO.means[k], atol=0.02)
        agree(q.cov, TWO.covs[k], atol=0.04)
        log_q = stats.multivariate_normal(q.mu, q.cov).logpdf(PLANE.points)
        agree(divergence.kl(log_q, log_p, PLANE.weights), -np.log(TWO.weights[k]), atol=0.005)
        agree(divergence.kl(log_q, log_p, PLANE.weights), q.divergence, atol=1e-12)
        apart(q.mu, between, by=1)


# --- cross entropy ----------------------------------------------------------------------------------------------


@pytest.mark.equation("divergence.cross_entropy")
@seldom
@given(seeds, seeds)
def test_cross_entropy_is_the_mean_of_minus_log_q(one, other):
    """p a mixture, q a Gaussian: Gauss–Hermite under each component, exact for a quadratic."""
    p, q = mixture(one), mixture(other)
    log_q = stats.multivariate_normal(q.means[0], q.covs[0]).logpdf
    want = -sum(w * gaussian_expectation(log_q, m, c, 3) for w, m, c in zip(*p, strict=True))
    got = divergence.cross_entropy(log_density(p)(NODES.points), log_q(NODES.points), NODES.weights)
    agree(got, want, rtol=1e-10, atol=1e-10)


@pytest.mark.equation("divergence.cross_entropy")
@given(seeds, states, states)
def test_kl_is_cross_entropy_minus_entropy(seed, b, n):
    p, q = tables(seed, b, n), tables(seed + 1, b, n) / 2 + 0.5 / n
    entropy = [entropy_enumerate(row) for row in p]
    agree(divergence.cross_entropy(logarithm(p), logarithm(p)), entropy, rtol=1e-13, atol=1e-15)
    got = divergence.cross_entropy(logarithm(p), np.log(q))
    agree(got, divergence.kl(logarithm(p), np.log(q)) + entropy, rtol=1e-13, atol=1e-14)
    check_everywhere(divergence.cross_entropy, np.log(q), np.log(q[::-1]))


@pytest.mark.equation("divergence.cross_entropy")
def test_least_kl_is_greatest_likelihood():
    """The two have one gradient in q's parameters, everywhere; the reverse KL has another."""
    q = oracle.Fit(np.array([0.5, -1.0]), np.array([[1.5, 0.4], [0.4, 0.8]]), 0.0)
    by_kl = slopes(forward_kl, q)
    for found, want in zip(slopes(distributions.divergence.cross_entropy, q), by_kl, strict=True):
        agree(found, want, rtol=1e-11, atol=1e-11)
    apart(slopes(reverse_kl, q)[0], by_kl[0], by=0.1)


@pytest.mark.equation("divergence.cross_entropy")
@given(seeds, st.integers(1, 40))
def test_over_data_it_is_minus_the_mean_log_likelihood(seed, n):
    """Data as the states of a discrete p, alike in probability."""
    x = np.random.default_rng(seed).normal(size=n)
    log_q = stats.norm.logpdf(x, 0.3, 1.7)
    agree(divergence.cross_entropy(np.full(n, -np.log(n)), log_q), -log_q.mean(), rtol=1e-13)
    agree(divergence.cross_entropy(np.zeros(n), log_q, np.full(n, 1 / n)), -log_q.mean(), rtol=1e-13)
    agree(divergence.cross_entropy(np.zeros(n), log_q, 1 / n), -log_q.mean(), rtol=1e-13)


@pytest.mark.equation("divergence.kl", "divergence.cross_entropy")
@given(seeds)
def test_weights_may_be_negative(seed):
    """As Newton and Cotes have them for nine points: the sum of what they add, less that of what they take away."""
    weights = integrate.newton_cotes(8)[0]
    log_p, log_q = uniform(seed, (2, 9), (-3, 0), (-3, 0))
    added, taken = np.maximum(weights, 0), np.maximum(-weights, 0)
    at_most(POSITIVE, taken.max())
    for f in (divergence.kl, divergence.cross_entropy):
        # nine terms, each at most 10
        agree(f(log_p, log_q, weights), f(log_p, log_q, added) - f(log_p, log_q, taken), atol=1e-13)


# --- matched moments --------------------------------------------------------------------------------------------


@pytest.mark.equation("divergence.moment_match")
@seldom
@given(seeds, seeds)
def test_moments_are_those_of_the_mixture(one, other):
    """By the law of total covariance; p's constant is not needed."""
    data = mixture(one), mixture(other)
    log_p = np.stack([log_density(p)(NODES.points) for p in data]) + np.array([[0.0], [3.0]])
    mu, cov = divergence.moment_match(NODES.points, log_p, NODES.weights)
    for k, (w, m, c) in enumerate(data):
        agree(mu[k], w @ m, rtol=1e-10, atol=1e-10)
        agree(cov[k], np.einsum("k,kij->ij", w, c) + np.cov(m.T, aweights=w, bias=True), rtol=1e-10, atol=1e-10)


@pytest.mark.equation("divergence.moment_match")
def test_matched_moments_are_the_best_gaussian():
    """Found by a search over all Gaussians, to 1e-7 or so."""
    best, _ = fits()
    log_p = denoisers.log_prob(TWO, PLANE.points)
    mu, cov = divergence.moment_match(PLANE.points, log_p, PLANE.weights)
    agree(mu, best.mu, atol=1e-6)
    agree(cov, best.cov, atol=1e-6)
    left = divergence.kl(log_p, stats.multivariate_normal(mu, cov).logpdf(PLANE.points), PLANE.weights)
    at_most(left - best.divergence, 1e-12)


@pytest.mark.equation("divergence.moment_match")
@given(seeds, st.integers(2, 20), st.integers(1, 4))
def test_moments_of_weighted_points_are_numpys(seed, n, d):
    noise = np.random.default_rng(seed)
    x, p = noise.uniform(-2, 2, (n, d)), noise.uniform(0.1, 1, n)
    for part in (0, 1):
        got = check_everywhere(lambda x, l, part=part: divergence.moment_match(x, l)[part], x, np.log(p))
        want = (np.average(x, axis=0, weights=p), np.cov(x.T, aweights=p, bias=True).reshape(d, d))[part]
        agree(got, want, rtol=1e-12, atol=1e-13)


# --- Jensen and Shannon -----------------------------------------------------------------------------------------


@pytest.mark.equation("divergence.js")
@seldom
@given(seeds, seeds)
def test_js_is_a_difference_of_entropies(one, other):
    p, q = log_density(mixture(one)), log_density(mixture(other))
    got = divergence.js(p(NODES.points), q(NODES.points), NODES.weights)
    agree(got, oracle.js(p, q, OTHER_NODES), rtol=1e-10, atol=1e-10)


@pytest.mark.equation("divergence.js")
@given(seeds, states, states)
def test_js_of_tables_is_the_square_of_scipys_distance(seed, b, n):
    p, q = tables(seed, b, n), tables(seed + 1, b, n)
    got = divergence.js(logarithm(p), logarithm(q))
    # scipy's is a root: squared again, absolutely 1e-15
    agree(got, jensenshannon(p, q, axis=-1) ** 2, rtol=1e-12, atol=1e-15)
    agree(divergence.js(logarithm(q), logarithm(p)), got, rtol=1e-13, atol=1e-15)
    at_most(got - np.log(2), 1e-15)
    check_everywhere(divergence.js, np.log(p / 2 + 0.5 / n), np.log(q / 2 + 0.5 / n))


@pytest.mark.equation("divergence.js")
def test_js_is_nothing_for_equals_and_log_2_for_strangers():
    p, q = np.array([0.3, 0.7, 0.0, 0.0, 0.0]), np.array([0.0, 0.0, 0.9, 0.1, 0.0])
    agree(divergence.js(logarithm(p), logarithm(p)), 0, atol=1e-16)
    agree(divergence.js(logarithm(p), logarithm(q)), np.log(2), rtol=1e-15)
    variables = [sg.tensor(up(logarithm(v))) for v in (p, q)]
    for slope, v in zip(sg.gradients(distributions.divergence.js(*variables), variables), (p, q), strict=True):
        agree(slope, v * np.log(2) / 2, rtol=1e-14)  # a little more of p where q is not: ½p·log(p/m)


# --- all ----------------------------------------------------------------------------------------------------------


@pytest.mark.equation("divergence.kl", "divergence.cross_entropy", "divergence.moment_match", "divergence.js")
def test_gradients():
    noise = np.random.default_rng(3)
    log_p, log_q, w = noise.uniform(-2, 0, (2, 5)), noise.uniform(-2, 0, (2, 5)), noise.uniform(0.1, 1, 5)
    x = noise.uniform(-1, 1, (5, 2))
    module = distributions.divergence
    for f in (module.kl, module.cross_entropy, module.js):
        check_gradients(f, log_p, log_q, w)
    check_gradients(lambda *args: module.moment_match(*args).mu, x, log_p, w)
    check_gradients(lambda *args: module.moment_match(*args).cov, x, log_p, w)


@pytest.mark.equation("divergence.kl")
def test_a_small_kl_is_positive():
    p = np.array([0.2, 0.3, 0.5])
    q = p * (1 + 1e-4 * np.array([1, 1, -1]))
    at_most(POSITIVE, divergence.kl(np.log(p), np.log(q)))


def test_misfits_are_refused():
    log_p, w = np.zeros((2, 3)), np.ones(3)
    with pytest.raises(ValueError, match=r"log_q \(3,\) should have the shape of log_p, \(2, 3\)"):
        divergence.kl(log_p, np.zeros(3), w)
    with pytest.raises(ValueError, match=r"divergence.cross_entropy: weights \(2,\) do not fit log_p \(2, 3\)"):
        divergence.cross_entropy(log_p, log_p, np.ones(2))
    for shape in ((3,), (3, 2, 2), (1, 2), (4, 2)):
        with pytest.raises(ValueError, match="points .* do not fit log_p"):
            divergence.moment_match(np.zeros(shape), log_p)
    with pytest.raises(ValueError, match="no axes"):
        divergence.js(np.zeros(()), np.zeros(()))
    with pytest.raises(TypeError, match="weights is float32 but log_p is float64"):
        divergence.kl(log_p, log_p, w.astype("float32"))
