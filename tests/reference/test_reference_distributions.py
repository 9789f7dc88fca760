"""Quadrature against quadrature, and against the closed forms of scipy.stats."""

import math

import numpy as np
import pytest
from scipy import stats

from reference import distributions as D
from reference import quadrature as Q
from reference.gaussian import affine_map


def test_three_quadratures_agree():
    mu, sigma = 0.7, 1.3
    density = stats.norm(mu, sigma).pdf
    edges = Q.spread_edges(mu, sigma)
    adaptive = Q.integrate(lambda x: density(x) * math.cos(x), edges)
    panels = Q.integrate_panels(lambda x: density(x) * np.cos(x), edges)
    hermite = Q.gaussian_expectation(lambda x: np.cos(x[:, 0]), mu, sigma**2, order=24)
    exact = math.exp(-sigma**2 / 2) * math.cos(mu)        # real part of the characteristic function at 1
    assert max(abs(v - exact) for v in (adaptive, panels, hermite)) < 1e-12


def test_gauss_hermite_rotation_reproduces_moments():
    rng = np.random.default_rng(0)
    root = rng.standard_normal((3, 3))
    mu, cov = rng.standard_normal(3), root @ root.T
    x, w = Q.gaussian_nodes(mu, cov, order=5)
    centred = x - mu
    assert w.sum() == pytest.approx(1, abs=1e-14)
    np.testing.assert_allclose(w @ x, mu, atol=1e-13)
    np.testing.assert_allclose((w[:, None] * centred).T @ centred, cov, atol=1e-12)
    # Isserlis: E[u²v²] = C_uu C_vv + 2 C_uv²
    fourth = w @ (centred[:, 0] ** 2 * centred[:, 1] ** 2)
    assert fourth == pytest.approx(cov[0, 0] * cov[1, 1] + 2 * cov[0, 1] ** 2, rel=1e-12)


def test_gauss_hermite_takes_a_singular_covariance_and_refuses_a_negative_one():
    x, w = Q.gaussian_nodes([1.0, 2.0], [[0.0, 0.0], [0.0, 4.0]], order=4)
    np.testing.assert_array_equal(x[:, 0], 1.0)
    assert w @ (x[:, 1] - 2) ** 2 == pytest.approx(4)
    with pytest.raises(ValueError, match="negative eigenvalue"):
        Q.gaussian_nodes([0.0, 0.0], [[1.0, 2.0], [2.0, 1.0]])


@pytest.mark.parametrize(("mu", "sigma"), [(0.0, 1.0), (-3.0, 0.02), (5.0, 40.0)])
def test_entropies_against_scipy(mu, sigma):
    edges = Q.spread_edges(mu, sigma)
    law = stats.norm(mu, sigma)
    assert D.entropy_quad(law.logpdf, edges) == pytest.approx(law.entropy(), abs=1e-11)
    assert D.entropy_logistic_quad(mu, sigma) == pytest.approx(2 + math.log(sigma), abs=1e-11)


def test_gaussian_entropy_in_three_dimensions_against_scipy():
    cov = np.array([[2.0, 0.3, -0.4], [0.3, 1.0, 0.2], [-0.4, 0.2, 0.5]])
    expected = stats.multivariate_normal([1, 2, 3], cov).entropy()
    assert D.entropy_gaussian_hermite([1, 2, 3], cov) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("q", "p"), [((0, 1), (0, 1)), ((1, 0.5), (-2, 2)), ((0.3, 3), (0, 0.5))])
def test_gaussian_kl_quad_equals_hermite(q, p):
    quad = D.kl_gaussian_quad(*q, *p)
    hermite = D.kl_gaussian_hermite([q[0]], [[q[1] ** 2]], [p[0]], [[p[1] ** 2]])
    assert quad == pytest.approx(hermite, rel=1e-11, abs=1e-12)
    assert quad >= -1e-12
    assert (abs(quad) < 1e-12) == (q == p)


def test_gaussian_kl_of_independent_coordinates_adds():
    joint = D.kl_gaussian_hermite([1.0, -1.0], np.diag([0.25, 4.0]), [0.0, 0.5], np.diag([1.0, 2.0]))
    apart = D.kl_gaussian_quad(1, 0.5, 0, 1) + D.kl_gaussian_quad(-1, 2, 0.5, math.sqrt(2))
    assert joint == pytest.approx(apart, rel=1e-11)


def test_logistic_kl_is_a_divergence():
    assert D.kl_logistic_quad(0.5, 2.0, 0.5, 2.0) == pytest.approx(0, abs=1e-12)
    assert D.kl_logistic_quad(0.5, 2.0, 0.0, 1.0) > 0.1
    shifted = D.kl_logistic_quad(3.5, 4.0, 3.0, 2.0)      # invariant under x → 2x + c
    assert shifted == pytest.approx(D.kl_logistic_quad(0.25, 2.0, 0.0, 1.0), rel=1e-10)


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize(("mu", "scale"), [(0.1, 0.3), (-0.95, 0.01), (2.0, 0.5)])
def test_discretised_masses_sum_to_one_and_match_the_distribution_function(levels, mu, scale):
    x = np.linspace(-1, 1, levels)
    x = x[:: max(1, levels // 16)] if levels == 256 else x
    for log_mass, law in ((D.discretised_gaussian_log_prob, stats.norm(mu, scale)),
                          (D.discretised_logistic_log_prob, stats.logistic(mu, scale))):
        mass = np.exp(log_mass(x, mu, scale, levels))
        expected = [law.cdf(high) - law.cdf(low) for low, high in (D.bin_edges(v, levels) for v in x)]
        np.testing.assert_allclose(mass, expected, rtol=1e-9, atol=1e-15)
        if levels < 256:
            assert mass.sum() == pytest.approx(1, abs=1e-10)


def test_discretised_tails_keep_their_digits():
    """Far from the mean the difference of distribution functions is 0 − 0 or 1 − 1; the integral is not."""
    got = D.discretised_gaussian_log_prob(1.0, -1.0, 0.02, 256)       # the open bin, 99.8 deviations out
    assert got == pytest.approx(stats.norm.logsf((2 - 1 / 255) / 0.02), rel=1e-12)
    got = D.discretised_logistic_log_prob(1.0, -1.0, 0.001, 256)      # 1,996 scales out
    assert got == pytest.approx(stats.logistic.logsf((2 - 1 / 255) / 0.001), rel=1e-12)
    inner = D.discretised_logistic_log_prob(1 - 2 / 255, -1.0, 0.001, 256)
    low, high = ((2 - 3 / 255) / 0.001, (2 - 1 / 255) / 0.001)
    assert inner == pytest.approx(-low + math.log1p(-math.exp(low - high)), rel=1e-12)


def test_values_off_the_grid_are_refused():
    with pytest.raises(ValueError, match="not one of"):
        D.bin_edges(0.5, 256)
    with pytest.raises(ValueError, match="not one of"):
        D.bin_edges(1.5, 17)


def test_bernoulli_and_categorical():
    p = np.array([0.2, 0.5, 0.9])
    table = D.bernoulli_table(p)
    assert table.sum() == pytest.approx(1)
    assert math.log(table[0b101]) == pytest.approx(D.bernoulli_log_prob([1, 0, 1], p).sum())
    assert D.entropy_enumerate(table) == pytest.approx(stats.bernoulli.entropy(p).sum())
    assert D.kl_enumerate(table, table) == 0
    p = [0.1, 0.2, 0.7]
    assert [D.categorical_log_prob(k, p) for k in range(3)] == pytest.approx(np.log(p))
    q, p = [0.5, 0.5, 0.0], [0.25, 0.5, 0.25]
    assert D.kl_enumerate(q, p) == pytest.approx(stats.entropy(q, p))
    assert D.kl_enumerate([0.5, 0.5], [1.0, 0.0]) == math.inf


def test_expectation_of_a_function_that_is_no_polynomial():
    expected = math.exp(0.3 + 0.5 * 0.4**2)
    assert D.expectation_quad(math.exp, 0.3, 0.4) == pytest.approx(expected, rel=1e-11)


def test_noise_is_carried_to_the_law_it_names():
    """Affine with a triangular Jacobian, positive on its diagonal, whose square is the covariance."""
    cov = np.array([[2.0, 0.3, -0.4], [0.3, 1.0, 0.2], [-0.4, 0.2, 0.5]])
    A, B = affine_map(lambda eps: D.multivariate_normal_of_noise(eps, np.array([1.0, 2.0, 3.0]), cov), 3)
    np.testing.assert_allclose(A @ A.T, cov, atol=1e-12)
    np.testing.assert_allclose(B, [1, 2, 3], atol=1e-12)
    np.testing.assert_allclose(np.triu(A, 1), 0, atol=1e-12)
    assert (np.diag(A) > 0).all()
    assert D.normal_of_noise(1.5, 2.0, 0.5) == pytest.approx(2.75, rel=1e-12)
    assert stats.logistic.cdf(D.logistic_of_noise(0.3, 2.0, 0.5), 2.0, 0.5) == pytest.approx(0.3, rel=1e-12)
    assert D.bernoulli_of_noise(np.array([0.0, 0.24, 0.26, 0.9]), 0.25).tolist() == [1, 1, 0, 0]
    exponential = np.random.default_rng(0).exponential(size=(20_000, 3))
    share = np.bincount(D.categorical_of_noise(exponential, np.array([0.1, 0.2, 0.7]))) / 20_000
    np.testing.assert_allclose(share, [0.1, 0.2, 0.7], atol=5.3 * 0.5 / np.sqrt(20_000))      # α = 1e-7
