"""Exact noise, score and denoiser by routes that share nothing, and what the samplers do with them."""

import math

import numpy as np
import pytest

from reference import denoisers as E
from reference import samplers as S
from reference.gaussian import affine_map, moments

MIXTURE_1D = E.Mixture(np.array([0.3, 0.7]), np.array([[-1.0], [1.5]]), np.array([[[0.04]], [[0.3]]]))
MIXTURE_2D = E.Mixture(np.array([0.2, 0.5, 0.3]), np.array([[-1.0, 0.0], [1.0, 1.0], [0.0, -2.0]]),
                       np.array([[[0.10, 0.05], [0.05, 0.2]], [[0.3, -0.1], [-0.1, 0.1]],
                                 [[0.05, 0.00], [0.00, 0.4]]]))
LEVELS = [(0.99, 0.1), (0.8, 0.6), (0.2, 0.98), (1.0, 0.5)]       # the last is variance-exploding


@pytest.mark.parametrize(("a", "sigma"), LEVELS)
@pytest.mark.parametrize("xt", [-1.4, 0.1, 2.0])
def test_conditioning_equals_integration(a, sigma, xt):
    def log_prior(x):
        return E.log_prob(MIXTURE_1D, x[:, None])

    for f, route in ((lambda x0: x0, E.denoiser), (lambda x0: (xt - a * x0) / sigma, E.noise)):
        by_quadrature = E.expectation_given(f, xt, log_prior, a, sigma, -7.0, 8.0, panels=150)
        assert by_quadrature == pytest.approx(route([xt], MIXTURE_1D, a, sigma)[0], abs=1e-10)


@pytest.mark.parametrize(("a", "sigma"), LEVELS)
def test_tweedie_in_two_dimensions(a, sigma):
    for xt in np.random.default_rng(0).uniform(-2, 2, (4, 2)):
        denoised, eps = E.denoiser(xt, MIXTURE_2D, a, sigma), E.noise(xt, MIXTURE_2D, a, sigma)
        score = E.score(xt, MIXTURE_2D, a, sigma)
        np.testing.assert_allclose(a * denoised + sigma * eps, xt, atol=1e-12)
        np.testing.assert_allclose(score, -eps / sigma, rtol=1e-8, atol=1e-9)
        np.testing.assert_allclose(score, (a * denoised - xt) / sigma**2, rtol=1e-8, atol=1e-9)


def test_noisy_density_by_sampling():
    """n = 100,000: the share of x_t below 0.3 in one z-test at 5 deviations (α = 6·10⁻⁷; 0.016 would be 10).

    Negative control: the clean mixture puts a share below 0.3 that is far away.
    """
    a, sigma, n = 0.8, 0.6, 100_000
    rng = np.random.default_rng(2)
    k = rng.choice(2, n, p=MIXTURE_1D.weights)
    x0 = MIXTURE_1D.means[k, 0] + np.sqrt(MIXTURE_1D.covs[k, 0, 0]) * rng.standard_normal(n)
    share = np.mean(a * x0 + sigma * rng.standard_normal(n) < 0.3)

    def below(data):
        grid = np.linspace(-12, 0.3, 4001)
        return np.trapezoid(np.exp(E.log_prob(data, grid[:, None])), grid)

    error = math.sqrt(share * (1 - share) / n)
    assert abs(share - below(E.noisy(MIXTURE_1D, a, sigma))) < 5 * error
    assert abs(share - below(MIXTURE_1D)) > 5 * error


def test_one_gaussian_has_a_linear_noise():
    mean, cov = np.array([0.5, -1.0]), np.array([[1.0, 0.3], [0.3, 0.4]])
    weight, bias = E.linear_noise(mean, cov, 0.7, 0.5)
    for xt in np.random.default_rng(1).uniform(-2, 2, (3, 2)):
        expected = E.noise(xt, E.gaussian(mean, cov), 0.7, 0.5)
        np.testing.assert_allclose(weight @ xt + bias, expected, atol=1e-13)


def sampler_moments(mean, cov, beta, times, eta):
    """Moments of a sampler's output under the exact ε, each step probed for its matrices."""
    steps, d = [], len(mean)
    for k in range(len(times) - 1, -1, -1):
        t, t_prev = times[k], times[k - 1] if k else 0
        ab = S.alpha_bar(beta, t)
        weight, bias = E.linear_noise(mean, cov, math.sqrt(ab), math.sqrt(1 - ab))

        def step(x, z, t=t, t_prev=t_prev, weight=weight, bias=bias):
            if eta == "ddpm":
                return S.ddpm_step(x, weight @ x + bias, z, t, beta, "beta_tilde")
            return S.ddim_step(x, weight @ x + bias, z, t, t_prev, beta, eta)

        A, B = affine_map(lambda x, step=step: step(x, np.zeros(d)), d)
        noise, _ = affine_map(lambda z, step=step: step(np.zeros(d), z) - step(np.zeros(d), np.zeros(d)), d)
        steps.append((A, B, noise @ noise.T))
    ab = S.alpha_bar(beta, times[-1])                  # start from the true marginal, not from N(0, I)
    return moments(math.sqrt(ab) * mean, ab * cov + (1 - ab) * np.eye(d), steps)


MEAN, COV = np.array([0.4, -0.2]), np.array([[0.5, 0.2], [0.2, 0.3]])


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0, "ddpm"])
def test_samplers_reach_the_data_and_the_error_shrinks_with_the_step(eta):
    errors = []
    for T in (50, 100, 200):
        beta = np.minimum(1 - np.exp(-np.linspace(0.1, 10, T) / T), 0.999)       # one SDE, finer and finer
        means, covs = sampler_moments(MEAN, COV, beta, list(range(1, T + 1)), eta)
        np.testing.assert_allclose(means[-1], MEAN, atol=1e-10)      # exact: the means telescope
        errors.append(np.abs(covs[-1] - COV).max())
    assert errors[-1] < 0.02
    assert 1.6 < errors[0] / errors[1] < 2.4                             # first order
    assert 1.6 < errors[1] / errors[2] < 2.4


def test_ddim_at_eta_one_is_ddpm():
    beta, times = np.linspace(0.01, 0.3, 8), list(range(1, 9))
    one, other = (sampler_moments(MEAN, COV, beta, times, eta) for eta in (1.0, "ddpm"))
    np.testing.assert_allclose(one[1], other[1], atol=1e-14)
    np.testing.assert_allclose(one[0], other[0], atol=1e-14)
