"""The GAN's equations against a classifier's likelihood, searches and quadrature; what saturates, and what does not."""

import math

import numpy as np
import pytest
from closed_forms import check_everywhere, check_gradients, seeds, seldom, uniform
from evidence import agree, apart, at_most, host, lifted, up
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import scratchgen as sg
from reference import adversarial as oracle
from reference.derivatives import directional
from reference.quadrature import integrate_panels, panel_nodes
from scratchgen.models.adversarial import gan as module

gan = lifted(module)
sizes = st.integers(1, 5)
EDGES = np.linspace(-14, 14, 57)


def mixture(seed):
    """A log-density on the line: two Gaussians within ±2, of deviations from 0.5 to 1.5."""
    noise = np.random.default_rng(seed)
    w, mu, s = noise.uniform(0.2, 0.8), noise.uniform(-2, 2, 2), noise.uniform(0.5, 1.5, 2)
    return lambda x: np.logaddexp(np.log(w) + stats.norm.logpdf(x, mu[0], s[0]),
                                  np.log(1 - w) + stats.norm.logpdf(x, mu[1], s[1]))  # fmt: skip


def logits(seed, *shape):
    return uniform(seed, shape, (-30, 30), (-30, 30))


# --- V ------------------------------------------------------------------------------------------------------------


@pytest.mark.equation("gan.value")
@given(seeds, sizes)
def test_the_value_is_the_likelihood_of_two_right_decisions(seed, n):
    real, fake = logits(seed, n)
    got = check_everywhere(gan.value, real, fake)
    agree(got, oracle.value(real, fake), rtol=1e-13, atol=1e-15)
    at_most(got, 0.0)


@pytest.mark.equation("gan.value")
def test_the_value_of_sure_decisions():
    """Right ones cost nothing, a wrong one its whole logit; and a coin's are worth −log 4."""
    agree(gan.value(np.array([700.0, -700.0, 0.0]), np.array([-700.0, -700.0, 0.0])), [0, -700, -math.log(4)],
          rtol=1e-15, atol=1e-300)
    check_gradients(module.value, np.array([0.3, -2.0]), np.array([1.1, 0.4]))


@pytest.mark.equation("gan.value")
@seldom
@given(seeds, seeds)
def test_the_discriminator_gains_where_it_decides_better(one, other):
    """The slope of ∫ p·log σ(l) + q·log(1 − σ(l)) in l: upwards where D is below D*, downwards where it is above."""
    x, weights = panel_nodes(EDGES, 6)
    log_p, log_q = mixture(one)(x), mixture(other)(x)
    start = np.random.default_rng(one).uniform(-2, 2, len(x))
    real, fake = (sg.tensor(up(start)) for _ in range(2))
    by_real, by_fake = (host(g) for g in sg.gradients(module.value(real, fake).sum(), [real, fake]))
    slope = weights * (np.exp(log_p) * by_real + np.exp(log_q) * by_fake)
    best = np.array([oracle.best_logit(a, b) for a, b in zip(log_p, log_q, strict=True)])
    near = np.abs(best) < 30  # elsewhere D* is 0 or 1 to all digits
    assert np.array_equal(slope[near] > 0, (start < best)[near])
    agree(by_real + by_fake, 1 - 2 * stats.logistic.cdf(start), rtol=1e-13, atol=1e-15)


# --- the best discriminator ----------------------------------------------------------------------------------------


@pytest.mark.equation("gan.optimal")
@given(seeds, sizes)
def test_the_best_decision_is_the_one_that_a_search_finds(seed, n):
    log_p, log_q = uniform(seed, (n,), (-20, 5), (-20, 5))
    found = [oracle.best_logit(a, b) for a, b in zip(log_p, log_q, strict=True)]
    agree(check_everywhere(gan.optimal, log_p, log_q), found, rtol=1e-13, atol=1e-13)


@pytest.mark.equation("gan.optimal")
@seldom
@given(seeds, seeds, seeds)
def test_no_other_discriminator_does_better(one, other, third):
    """By quadrature, against bends of D* in random places."""
    p, q = mixture(one), mixture(other)
    noise = np.random.default_rng(third)
    rate, shift, size = noise.uniform(0.2, 2), noise.uniform(-3, 3), noise.uniform(0.3, 1)

    def V(bend):
        def integrand(x):
            logit = gan.optimal(p(x), q(x)) + bend * size * np.sin(rate * x + shift)
            return np.exp(p(x)) * stats.logistic.logcdf(logit) + np.exp(q(x)) * stats.logistic.logsf(logit)
        return integrate_panels(integrand, EDGES)

    agree(V(0.0), oracle.best_value(p, q, EDGES), atol=1e-11)
    at_most(max(V(1.0), V(-1.0)), V(0.0))
    agree(directional(V, 0.0, 1.0), 0, atol=1e-9)
    apart(V(0.5), V(0.0), by=1e-4)


# --- its value ------------------------------------------------------------------------------------------------------


@pytest.mark.equation("gan.best_value")
@seldom
@given(seeds, seeds)
def test_the_best_value_is_what_the_best_decisions_reach(one, other):
    p, q = mixture(one), mixture(other)
    x, weights = panel_nodes(EDGES, 20)
    got = gan.best_value(p(x), q(x), weights)
    agree(got, oracle.best_value(p, q, EDGES), rtol=1e-11, atol=1e-11)
    at_most(got, 0.0)
    at_most(-math.log(4) - got, 1e-12)


@pytest.mark.equation("gan.best_value")
def test_equals_cannot_be_told_apart_and_strangers_always():
    p, q = np.log([0.3, 0.7]), np.log([0.6, 0.4])
    agree(gan.best_value(p, p), -math.log(4), rtol=1e-15)
    with np.errstate(divide="ignore"):
        agree(gan.best_value(np.log([0.4, 0.6, 0.0]), np.log([0.0, 0.0, 1.0])), 0, atol=1e-15)
    check_everywhere(gan.best_value, p, q)
    check_gradients(module.best_value, p, q)
    logit = np.array([oracle.best_logit(a, b) for a, b in zip(p, q, strict=True)])
    best = np.exp(p) @ stats.logistic.logcdf(logit) + np.exp(q) @ stats.logistic.logsf(logit)
    agree(gan.best_value(p, q), best, rtol=1e-13)


# --- the generator's losses ------------------------------------------------------------------------------------------


@pytest.mark.equation("gan.minimax")
@given(seeds, sizes)
def test_minimax_is_the_chance_of_being_caught(seed, n):
    fake, _ = logits(seed, n)
    agree(check_everywhere(gan.minimax, fake), oracle.caught(fake), rtol=1e-13, atol=1e-15)
    agree(gan.minimax(np.array([-700.0, 700.0])), [0, -700], rtol=1e-15, atol=1e-300)
    real = np.zeros(n)  # it is what of V the generator can change
    agree(gan.minimax(fake) - math.log(2), oracle.value(real, fake), rtol=1e-13, atol=1e-14)


@pytest.mark.equation("gan.non_saturating")
@given(seeds, sizes)
def test_non_saturating_is_the_surprise_of_passing(seed, n):
    fake, _ = logits(seed, n)
    agree(check_everywhere(gan.non_saturating, fake), oracle.surprise(fake), rtol=1e-13, atol=1e-15)
    agree(gan.non_saturating(np.array([-700.0, 700.0])), [700, 0], rtol=1e-15, atol=1e-300)


def slope(f, fake):
    x = sg.tensor(up(fake))
    (found,) = sg.gradients(f(x).sum(), [x])
    return found


@pytest.mark.equation("gan.minimax", "gan.non_saturating")
@given(seeds, sizes)
def test_both_push_the_logit_up_and_only_one_saturates(seed, n):
    """Slopes by differences of the oracles, and by D: −D, which vanishes with D, and −(1 − D), which then is whole."""
    fake = uniform(seed, (n,), (-8, 8))[0]
    D = stats.logistic.cdf(fake)
    for f, judge, want in ((module.minimax, oracle.caught, -D), (module.non_saturating, oracle.surprise, D - 1)):
        found = slope(f, fake)
        agree(found, want, rtol=1e-13, atol=1e-15)
        agree(found, directional(judge, fake, np.ones(n)), atol=1e-9)
        at_most(found, 0.0)
    sure = np.full(n, -30.0)
    at_most(-host(slope(module.minimax, sure)), 1e-13)
    agree(slope(module.non_saturating, sure), -np.ones(n), rtol=1e-12)


@pytest.mark.equation("gan.minimax", "gan.non_saturating")
def test_gradients():
    fake = np.array([-3.0, 0.2, 2.0])
    check_gradients(module.minimax, fake)
    check_gradients(module.non_saturating, fake)


def test_misfits_are_refused():
    a, b = np.zeros(3), np.zeros((3, 1))
    with pytest.raises(ValueError, match=r"gan.value: fake \(3, 1\) should have the shape of real, \(3,\)"):
        gan.value(a, b)
    with pytest.raises(ValueError, match=r"gan.optimal: log_p_g \(3, 1\) should have the shape of log_p_r"):
        gan.optimal(a, b)
    with pytest.raises(ValueError, match=r"divergence.js: log_q \(3, 1\)"):
        gan.best_value(a, b)
