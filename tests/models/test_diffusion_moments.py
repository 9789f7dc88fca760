"""Samplers with the exact ε of Gaussian data: what is left is the sampler's own error, and it has no noise.

With an affine ε every step is an affine map, whose matrices are found by probing the library's step; means and
covariances then follow without drawing a sample.
"""

import itertools
import math

import numpy as np
import pytest
from diffusion_tools import FEW, betas, close, etas, gaussian_eps, normal, schedule_of, seeds
from evidence import agree, apart, at_most, host, lifted
from hypothesis import given
from hypothesis import strategies as st

from reference import samplers as R
from reference import sde as continuous
from reference.gaussian import affine_map, moments
from scratchgen.models import diffusion
from scratchgen.models.diffusion import cosine, linear

bound, ddim, ddpm = lifted(diffusion.bound), lifted(diffusion.ddim), lifted(diffusion.ddpm)

MEAN, COV = np.array([0.4, -0.3]), np.array([[0.5, 0.2], [0.2, 0.3]])
EYE, ZERO = np.eye(2), np.zeros((1, 2))
T = 200
SCHEDULES = {"linear": linear(T), "cosine": cosine(T)}


def as_map(step, eps_theta, t):
    """(A, B, Q) of one step: step(x, ε, z) with ε = ε_θ(x) and z ~ N(0, I)."""

    def one(x, z=ZERO):
        return step(x[None], lifted(eps_theta)(x[None], np.array([t])), z)[0]

    A, B = affine_map(one, 2)
    gain = np.stack([one(np.zeros(2), e[None]) - B for e in EYE], axis=1)
    return A, B, gain @ gain.T


def ddpm_maps(schedule, beta, eps_theta, variance):
    sigma = np.sqrt(bound.reverse_variance(schedule, variance))
    for t in range(schedule.T, 0, -1):
        yield as_map(lambda x, eps, z, t=t: ddpm.step(schedule, x, eps, t, sigma, z), eps_theta, t)


def ddim_maps(schedule, eps_theta, S, eta):
    tau = ddim.sub_sequence(schedule.T, S)
    for t, s in zip(tau[:0:-1], tau[-2::-1], strict=True):
        yield as_map(lambda x, eps, z, t=t, s=s: ddim.step(schedule, x, eps, t, s, eta, z), eps_theta, t)


def marginal(beta, mean, cov, t):
    ab = R.alpha_bar(beta, t)
    return math.sqrt(ab) * mean, ab * cov + (1 - ab) * EYE


# --- what is exact ------------------------------------------------------------------------------------------


@pytest.mark.equation("ddpm.step")
@FEW
@given(betas())
def test_ddpm_with_beta_is_exact_for_standard_normal_data(beta):
    """Then every x_t is N(0, I), and β_t is the true variance of x_{t−1} given x_t (Ho et al. 2020, §3.2).

    Exact but for the last step, which takes the mean and so leaves out β_1 of the variance.
    """
    schedule = schedule_of(beta)
    eps_theta = gaussian_eps(beta, np.zeros(2), EYE)
    means, covs = moments(np.zeros(2), EYE, ddpm_maps(schedule, beta, eps_theta, "beta"))
    for mean, cov in zip(means[:-1], covs[:-1], strict=True):
        close(mean, np.zeros(2))
        close(cov, EYE)
    close(covs[-1], (1 - beta[0]) * EYE)


@pytest.mark.equation("ddpm.step", "ddim.step")
@FEW
@given(betas(), seeds)
def test_beta_tilde_is_exact_for_an_image_that_is_known(beta, seed):
    """Data in one point: β̃ is the true reverse variance, all marginals are met, and x_0 is the point itself."""
    schedule, point = schedule_of(beta), normal(seed, 2)
    eps_theta = gaussian_eps(beta, point, 0 * EYE)
    start = marginal(beta, point, 0 * EYE, len(beta))
    maps = ddpm_maps(schedule, beta, eps_theta, "beta_tilde")
    for k, (mean, cov) in enumerate(zip(*moments(*start, maps), strict=True)):
        expected = marginal(beta, point, 0 * EYE, len(beta) - k)
        close(mean, expected[0], 1e-9, 1e-9)
        close(cov, expected[1], 1e-9, 1e-9)


@pytest.mark.equation("ddim.step")
@FEW
@given(betas(), seeds, st.one_of(st.just(0.0), st.just(1.0), st.floats(0.01, 0.99)), st.data())
def test_ddim_keeps_every_marginal_of_a_known_image(beta, seed, eta, data):
    """The point of eq. (3): q(x_s | x_0) is the same for every η and every sub-sequence."""
    schedule, point = schedule_of(beta), normal(seed, 2)
    S = data.draw(st.integers(1, len(beta)))
    tau = ddim.sub_sequence(len(beta), S)
    maps = ddim_maps(schedule, gaussian_eps(beta, point, 0 * EYE), S, eta)
    found = moments(*marginal(beta, point, 0 * EYE, len(beta)), maps)
    for t, mean, cov in zip(reversed(tau), *found, strict=True):
        expected = marginal(beta, point, 0 * EYE, t)
        close(mean, expected[0], 1e-9, 1e-9)
        close(cov, expected[1], 1e-9, 1e-9)


def test_sigma_hat_does_not_keep_the_marginals():
    """Negative control: σ̂ adds more noise than the direction leaves room for."""
    beta = np.linspace(0.05, 0.3, 6)
    maps = list(ddim_maps(schedule_of(beta), gaussian_eps(beta, MEAN, 0 * EYE), 3, "sigma_hat"))
    _, covs = moments(*marginal(beta, MEAN, 0 * EYE, 6), maps[:1])
    apart(covs[-1], marginal(beta, MEAN, 0 * EYE, 4)[1], 0.01)


@pytest.mark.equation("ddim.step")
@FEW
@given(betas(), etas, st.data())
def test_means_are_exact_for_gaussian_data(beta, eta, data):
    """E x̂_0 = E x_0 and E ε_θ = 0 along the way, whatever noise is added."""
    S = data.draw(st.integers(1, len(beta)))
    schedule, tau = schedule_of(beta), ddim.sub_sequence(len(beta), S)
    maps = ddim_maps(schedule, gaussian_eps(beta, MEAN, COV), S, eta)
    means, _ = moments(*marginal(beta, MEAN, COV, len(beta)), maps)
    for t, mean in zip(reversed(tau), means, strict=True):
        close(mean, marginal(beta, MEAN, COV, t)[0], 1e-9, 1e-9)


# --- what becomes exact with more steps -------------------------------------------------------------------


@pytest.mark.equation("ddpm.step")
@pytest.mark.parametrize("name", SCHEDULES)
def test_variance_recursion_of_ddpm(name):
    """v ← g²·v + σ² in the eigenbasis of the data, from the oracle's own step; data's variance is bracketed.

    β̃ falls short of the true reverse variance and β exceeds it (for variances below 1), so the samples'
    covariance lies under and over the data's.  With T = 200 the gap is under 0.04.
    """
    schedule = SCHEDULES[name]
    beta = host(schedule.beta)[1:]
    values, basis = np.linalg.eigh(COV)
    eps_theta = gaussian_eps(beta, MEAN, COV)
    ends = {}
    for variance in ("beta", "beta_tilde"):
        start = marginal(beta, MEAN, COV, T)
        means, covs = moments(*start, ddpm_maps(schedule, beta, eps_theta, variance))
        v = np.diag(basis.T @ start[1] @ basis).copy()
        ab = np.cumprod(1 - beta)
        for t in range(T, 0, -1):
            # ε of N(0, c) data along one axis: E[ε | x_t] = √(1−ᾱ)/(ᾱ·c + 1 − ᾱ)·x_t
            slope = math.sqrt(1 - ab[t - 1]) / (ab[t - 1] * values + 1 - ab[t - 1])
            g = (1 - beta[t - 1] / math.sqrt(1 - ab[t - 1]) * slope) / math.sqrt(1 - beta[t - 1])
            before = ab[t - 2] if t > 1 else 1.0
            s2 = beta[t - 1] if variance == "beta" else (1 - before) / (1 - ab[t - 1]) * beta[t - 1]
            v = g * g * v + (s2 if t > 1 else 0.0)
        close(basis.T @ covs[-1] @ basis, np.diag(v), 1e-9, 1e-9)
        close(means[-1], MEAN, 1e-9, 1e-9)
        ends[variance] = v
    close(ends["beta_tilde"], values, 0, 0.04)
    close(ends["beta"], values, 0, 0.04)
    at_most(ends["beta_tilde"] - np.minimum(values, ends["beta"]), 0.0)


def covariance_error(schedule, S, eta):
    beta = host(schedule.beta)[1:]
    maps = ddim_maps(schedule, gaussian_eps(beta, MEAN, COV), S, eta)
    _, covs = moments(*marginal(beta, MEAN, COV, T), maps)
    return np.abs(covs[-1] - COV).max()


@pytest.mark.equation("ddim.step")
@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize(("eta", "least", "most"), [(0.0, 1.7, 2.2), (0.5, 1.6, 2.2), (1.0, 1.35, 2.2)])
def test_ddim_comes_nearer_to_the_data_with_every_step(name, eta, least, most):
    """First order: half the step, about half the error in the covariance, and under 0.3 from 10 steps on."""
    errors = [covariance_error(SCHEDULES[name], S, eta) for S in (10, 20, 40, 80)]
    at_most(errors[0], 0.3)
    for coarse, fine in itertools.pairwise(errors):
        agree(coarse / fine, (least + most) / 2, 0, (most - least) / 2)


def test_fewer_steps_cost_less_without_noise():
    """Why DDIM has η = 0: at every S its error is the smallest."""
    for S in (10, 20, 50):
        errors = [covariance_error(SCHEDULES["cosine"], S, eta) for eta in (0.0, 0.5, 1.0)]
        assert errors == sorted(errors)


@pytest.mark.equation("ddim.invert")
@pytest.mark.parametrize("name", SCHEDULES)
def test_inversion_and_back(name):
    """x_0 → x_T → x_0 with η = 0 and the exact ε: an error of first order in the step; x_T has q's covariance."""
    schedule = SCHEDULES[name]
    beta = host(schedule.beta)[1:]
    eps_theta = gaussian_eps(beta, MEAN, COV)
    x0 = np.random.default_rng(0).multivariate_normal(MEAN, COV, 6)
    errors = []
    for S in (10, 20, 40, 80):
        (*_, xT) = ddim.invert(eps_theta, schedule, x0, S)
        (*_, back) = ddim.sample(eps_theta, schedule, xT, S, 0.0, None)
        errors.append(np.abs(back - x0).max())
    at_most(errors[0], 0.5)
    for coarse, fine in itertools.pairwise(errors):
        agree(coarse / fine, 1.9, 0, 0.3)
    (*_, other) = ddim.sample(eps_theta, schedule, xT[::-1], 80, 0.0, None)
    apart(other, x0, 10 * errors[-1])  # another code is another image
    start = np.concatenate([np.zeros((1, 2)), EYE])
    (*_, codes) = ddim.invert(eps_theta, schedule, start, T)
    A = (codes[1:] - codes[0]).T
    close(A @ COV @ A.T, marginal(beta, MEAN, COV, T)[1], 0, 0.05)


@pytest.mark.equation("ddim.invert")
def test_inversion_tends_to_the_probability_flow():
    """S = T steps, T growing: x_0 goes where the flow of the schedule's continuous limit takes it.

    The end's ᾱ is the oracle's too, of infinitely many kernels.  Doubling T halves the error; three extrapolations
    over 40 … 640 steps cancel T⁻¹, T⁻² and T⁻³, and leave 8e-8 of it.  β(u) = 20·u, all but: a β_min > 0 makes the
    first steps grow like √t, and with them an error T⁻¹·log T that does not extrapolate.
    """
    x0 = np.random.default_rng(1).multivariate_normal(MEAN, COV, 4)
    a, var = continuous.marginal(continuous.vp_step(lambda u: 20 * u), 1.0)
    expected = continuous.gaussian_flow(x0, MEAN, COV, a, math.sqrt(var))
    codes = []
    for steps in (40, 80, 160, 320, 640):
        schedule = linear(steps, 1e-9, 20.0)
        eps_theta = gaussian_eps(host(schedule.beta)[1:], MEAN, COV)
        (*_, code) = ddim.invert(eps_theta, schedule, x0, steps)
        codes.append(code)
    errors = [np.abs(code - expected).max() for code in codes]
    for steps, (coarse, fine) in zip((40, 80, 160, 320), itertools.pairwise(errors), strict=True):
        agree(coarse / fine, 2.0, 0, 5 / steps)  # the next order's share: 2.10, 2.05, 2.03, 2.02
    for factor in (2, 4, 8):
        codes = [(factor * fine - coarse) / (factor - 1) for coarse, fine in itertools.pairwise(codes)]
    close(codes[-1], expected, 0, 1e-6)
    # negative controls: of one data and one noise, but not the flow's map; and the flow of half the β
    roots = [np.linalg.cholesky(C) for C in (COV, a**2 * COV + var * EYE)]
    apart(a * MEAN + (x0 - MEAN) @ np.linalg.inv(roots[0]).T @ roots[1].T, expected, 0.1)
    a, var = continuous.marginal(continuous.vp_step(lambda u: 10 * u), 1.0)
    apart(continuous.gaussian_flow(x0, MEAN, COV, a, math.sqrt(var)), expected, 0.01)


def test_exact_noise_of_the_wrong_time_would_be_seen():
    """Negative control: ε_θ asked at t − 1 misses the marginal at t = 1 that β̃ meets exactly."""
    beta = np.linspace(0.05, 0.3, 6)
    right = gaussian_eps(beta, MEAN, 0 * EYE)
    late = lambda x, t: right(x, np.maximum(host(t) - 1, 1))  # noqa: E731
    start, end = (marginal(beta, MEAN, 0 * EYE, t) for t in (6, 1))
    for eps_theta, is_met in ((right, True), (late, False)):
        means, covs = moments(*start, ddpm_maps(schedule_of(beta), beta, eps_theta, "beta_tilde"))
        distance = np.abs(means[-2] - end[0]).max() + np.abs(covs[-2] - end[1]).max()
        assert (distance < 1e-9) == is_met
        assert is_met or distance > 0.01
