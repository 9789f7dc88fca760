"""Each derivation of the diffusion chain against another: recursion, joint, grid, sampling, integration."""

import math

import numpy as np
import pytest
from scipy import stats

from reference import bound as V
from reference import diffusion as X
from reference import samplers as S
from reference.distributions import discretised_gaussian_log_prob, expectation_quad
from reference.gaussian import affine_map, condition, moments, regression
from reference.quadrature import panel_nodes


def schedule(seed: int, T: int, low: float = 0.01, high: float = 0.4) -> np.ndarray:
    return np.random.default_rng(seed).uniform(low, high, T)


def reverse_model(seed: int, T: int):
    rng = np.random.default_rng(seed)
    return rng.uniform(0.5, 1.1, T), rng.uniform(-0.3, 0.3, T), rng.uniform(0.2, 0.8, T)


def test_composed_kernels_equal_the_joint_and_the_loop():
    beta, x0 = schedule(0, 7), np.array([0.3, -1.2])
    means, covs = X.forward_chain(beta, x0)
    mean, cov = X.forward_joint(beta, x0, np.zeros((2, 2)))
    for t in range(8):
        block = slice(2 * t, 2 * t + 2)
        np.testing.assert_allclose(means[t], mean[block], atol=1e-14)
        np.testing.assert_allclose(covs[t], cov[block, block], atol=1e-14)
        np.testing.assert_allclose(means[t], S.noised_input(x0, np.zeros(2), t, beta), atol=1e-14)
        assert covs[t, 0, 0] == pytest.approx(1 - S.alpha_bar(beta, t), abs=1e-14)


def test_chain_against_monte_carlo():
    """n = 200,000 walks. Six z-tests at 5.7 deviations: a family-wise false alarm below 10⁻⁶.

    An error of 0.02 in a mean is 9 standard errors, so it would be seen. Negative control: the chain with α
    where ᾱ belongs, that is without composing, is far outside.
    """
    n, beta, x0 = 200_000, np.array([0.1, 0.3, 0.2]), 0.8
    rng = np.random.default_rng(1)
    means, covs = X.forward_chain(beta, [x0])
    x, limit = np.full(n, x0), 5.7
    for t, b in enumerate(beta, start=1):
        x = math.sqrt(1 - b) * x + math.sqrt(b) * rng.standard_normal(n)
        var = covs[t, 0, 0]
        assert abs(x.mean() - means[t, 0]) < limit * math.sqrt(var / n)
        assert abs(x.var() - var) < limit * var * math.sqrt(2 / n)
    assert abs(x.mean() - math.sqrt(1 - beta[-1]) * x0) > limit * math.sqrt(covs[3, 0, 0] / n)
    assert abs(x.var() - beta[-1]) > limit * covs[3, 0, 0] * math.sqrt(2 / n)


@pytest.mark.parametrize("seed", range(4))
def test_posterior_by_conditioning_equals_bayes_on_a_grid(seed):
    beta = schedule(seed, 6)
    x0, xt = np.random.default_rng(seed + 100).uniform(-2, 2, 2)
    for t in range(2, 7):
        mean, cov = X.posterior(beta, t, [x0], [xt])
        grid_mean, grid_var = X.posterior_on_grid(beta, t, x0, xt)
        assert grid_mean == pytest.approx(mean[0], abs=1e-12)
        assert grid_var == pytest.approx(cov[0, 0], rel=1e-11)
        A, B, var = X.posterior_gains(beta, t)
        assert A * xt + B * x0 == pytest.approx(mean[0], abs=1e-12)
        assert var == pytest.approx(cov[0, 0], rel=1e-11)


def test_posterior_equals_the_printed_one():
    """The transcription in samplers.py is the only place here that knows the papers' abbreviations."""
    beta, x0, xt = schedule(5, 9), np.array([0.4, -0.9, 2.0]), np.array([1.0, 0.1, -0.6])
    for t in range(1, 10):
        mean, cov = X.posterior(beta, t, x0, xt)
        np.testing.assert_allclose(mean, S.mean_from_x0(xt, x0, t, beta), atol=1e-13)
        np.testing.assert_allclose(cov, S.beta_tilde(beta, t) * np.eye(3), atol=1e-14)


def test_posterior_at_the_first_step_is_the_data():
    mean, cov = X.posterior([0.3, 0.2], 1, [0.7], [-5.0])
    assert mean[0] == 0.7
    assert cov[0, 0] == 0
    assert X.posterior_gains([0.3, 0.2], 1) == (0.0, 1.0, 0.0)


def test_noise_weight_is_flat_in_its_arguments_and_equals_the_printed_one():
    beta = schedule(6, 5)
    for t in range(2, 6):
        var = 0.7 * beta[t - 1]
        weight = X.noise_weight(beta, t, var)
        elsewhere = X.noise_weight(beta, t, var, eps=-1.0, eps_theta=2.0, x0=-3.0)
        assert weight == pytest.approx(elsewhere, rel=1e-9)
        # Ho et al. 2020, eq. 12
        printed = beta[t - 1] ** 2 / (2 * var * (1 - beta[t - 1]) * (1 - S.alpha_bar(beta, t)))
        assert weight == pytest.approx(printed, rel=1e-9)


def test_evidence_against_nested_integration():
    """p(x₀) by integrating x_T, then x_{T−1}, …, out on a grid: no joint Gaussian."""
    a, b, s = reverse_model(0, 4)
    grid, w = panel_nodes(np.linspace(-9, 9, 121), order=12)
    density = stats.norm.pdf(grid)
    for t in range(4, 1, -1):
        kernel = stats.norm.pdf(grid[:, None], a[t - 1] * grid + b[t - 1], s[t - 1])
        density = kernel @ (w * density)
    for x0 in (-1.0, 0.2, 2.5):
        value = stats.norm.pdf(x0, a[0] * grid + b[0], s[0]) @ (w * density)
        assert V.evidence(x0, a, b, s) == pytest.approx(math.log(value), rel=1e-10)


@pytest.mark.parametrize(("seed", "T", "x0"), [(0, 1, 0.5), (1, 2, -0.7), (2, 5, 1.3)])
def test_three_forms_of_the_bound_agree_below_the_evidence(seed, T, x0):
    beta, (a, b, s) = schedule(seed, T, 0.05, 0.5), reverse_model(seed, T)
    direct = V.bound_direct(x0, beta, a, b, s)
    by_kl = V.bound_by_kl(x0, beta, a, b, s)
    by_neighbours = V.bound_by_neighbours(x0, beta, a, b, s)
    assert by_kl.total == pytest.approx(direct, rel=1e-10)
    assert by_neighbours.total == pytest.approx(direct, rel=1e-10)
    assert len(by_kl.steps) == len(by_neighbours.steps) == T - 1
    assert min(by_kl.prior, *by_kl.steps, by_neighbours.prior) >= 0
    assert -direct < V.evidence(x0, a, b, s) - 1e-3


@pytest.mark.parametrize(("seed", "sign"), [(2, 1), (3, 1), (2, -1)])
def test_the_printed_neighbour_form_is_another_number(seed, sign):
    """Off by Σ a_{t+1} √α_{t+1} β_t / s²_{t+1}, the covariance it drops; either way, still above −log p."""
    beta, (a, b, s), x0 = schedule(seed, 4, 0.05, 0.5), reverse_model(seed, 4), 0.6
    a = sign * a
    printed = V.bound_by_neighbours_as_printed(x0, beta, a, b, s)
    holds = V.bound_by_neighbours(x0, beta, a, b, s)
    lost = [a[t] * math.sqrt(1 - beta[t]) * beta[t - 1] / s[t] ** 2 for t in range(1, 4)]
    np.testing.assert_allclose(np.subtract(printed.steps, holds.steps), lost, rtol=1e-8)
    assert np.sign(printed.total - holds.total) == sign
    assert abs(printed.total - V.bound_direct(x0, beta, a, b, s)) > 0.1
    assert printed.total > -V.evidence(x0, a, b, s)


def test_bound_is_tight_when_the_model_is_the_chain_reversed():
    """For x₀ ~ N(0, 1) every x_t is N(0, 1), the true reverse kernels are affine, and bound = evidence."""
    beta = schedule(3, 5)
    _, cov = X.forward_joint(beta, [0.0], [[1.0]])
    a, s = np.empty(5), np.empty(5)
    for t in range(1, 6):
        pair = cov[np.ix_([t - 1, t], [t - 1, t])]
        a[t - 1] = regression(pair, [1])[0][0, 0]
        s[t - 1] = math.sqrt(condition([0, 0], pair, [1], [0.0])[1][0, 0])
    for x0 in (-2.0, 0.1, 1.5):
        exact = stats.norm.logpdf(x0)
        assert V.evidence(x0, a, np.zeros(5), s) == pytest.approx(exact, rel=1e-12)
        assert -V.bound_direct(x0, beta, a, np.zeros(5), s) == pytest.approx(exact, rel=1e-10)
        assert -V.bound_by_kl(x0, beta, a, np.zeros(5), s).total == pytest.approx(exact, rel=1e-10)
        assert -V.bound_by_neighbours(x0, beta, a, np.zeros(5), s).total == pytest.approx(exact, rel=1e-10)
        assert -V.bound_by_neighbours_as_printed(x0, beta, a, np.zeros(5), s).total < exact - 0.5
    assert -V.bound_direct(0.1, beta, a * 1.01, np.zeros(5), s) < stats.norm.logpdf(0.1) - 1e-5


def test_bound_changes_when_the_kl_arguments_or_times_slip():
    """Negative control for the agreement above: near misses of the KL form are not the same number."""
    beta, (a, b, s) = schedule(2, 4, 0.05, 0.5), reverse_model(2, 4)
    direct = V.bound_direct(0.6, beta, a, b, s)
    shifted = V.bound_by_kl(0.6, beta, np.roll(a, 1), np.roll(b, 1), np.roll(s, 1)).total
    assert abs(shifted - direct) > 1e-2
    bound = V.bound_by_kl(0.6, beta, a, b, s)
    assert abs(bound._replace(steps=bound.steps[1:]).total - direct) > 1e-3


def test_a_discretised_decoder_can_replace_the_last_term():
    """E over x₁ of a discretised log-likelihood: with fine bins it is the density times the bin's width."""
    beta, levels, x0 = np.array([0.02, 0.1]), 1025, 0.25
    mean, cov = X.forward_chain(beta, [x0])
    a, b, s = 0.9, 0.05, 0.5

    def log_p(x1):
        return float(discretised_gaussian_log_prob(x0, a * x1 + b, s, levels))

    value = expectation_quad(log_p, mean[1, 0], math.sqrt(cov[1, 0, 0]))
    smooth = -V.bound_by_kl(x0, beta, [a, 0.9], [b, 0.0], [s, 0.4]).reconstruction
    assert value == pytest.approx(smooth + math.log(2 / (levels - 1)), abs=1e-5)


def test_affine_map_and_moments():
    rng = np.random.default_rng(0)
    A, B, Q = rng.standard_normal((2, 2)), rng.standard_normal(2), np.diag([0.1, 0.2])
    found_A, found_B = affine_map(lambda x: A @ x + B, 2)
    np.testing.assert_allclose(found_A, A, atol=1e-14)
    np.testing.assert_allclose(found_B, B)
    means, covs = moments([0, 0], np.eye(2), [(A, B, Q), (A, B, Q)])
    np.testing.assert_allclose(means[2], A @ B + B)
    np.testing.assert_allclose(covs[2], A @ (A @ A.T + Q) @ A.T + Q)
    with pytest.raises(ValueError, match="not affine"):
        affine_map(lambda x: x**2, 2)
