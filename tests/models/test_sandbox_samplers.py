"""The samplers with an exact network: what is left is their own error, and its rate can be measured.

Gaussian data makes every step affine, so means and covariances follow without a sample; on the real line the density
of a mixture is carried through the steps by quadrature.  Neither has any noise in it.
"""

import itertools
import math

import numpy as np
import pytest
from evidence import agree, apart, at_most, host, lifted, up
from hypothesis import given
from hypothesis import strategies as st
from sandbox_tools import (
    BIMODAL,
    COV,
    FEW,
    MEAN,
    NORMAL,
    Line,
    as_map,
    by_ancestors,
    expected,
    library,
    mixture,
    mixtures,
    on_backend,
    points,
    seeds,
    slope,
    statistics,
)

import scratchgen as sg
from reference import denoisers as E
from reference import samplers as R
from reference.gaussian import moments
from reference.quadrature import panel_nodes
from scratchgen.backend import active
from scratchgen.models.diffusion import Schedule, bound, ddim, ddpm, linear, parameterisation, process
from scratchgen.models.score import denoising, sde
from scratchgen.random import Generator

DDPM, DDIM, P = lifted(ddpm), lifted(ddim), lifted(parameterisation)


def oracle_map(beta, t, step):
    """(A, B, Q) of the oracle's step with the oracle's ε, which is the regression of ε on x_t."""
    ab = R.alpha_bar(beta, t)
    gain, bias = E.linear_noise(MEAN, COV, math.sqrt(ab), math.sqrt(1 - ab))
    return as_map(lambda x, z: step(x, x @ gain.T + bias, z), 2)


def library_maps(schedule, name, eta=None):
    """(A, B, Q) of every step of a sampler, with the exact mixture as its network."""
    eps_theta = lifted(on_backend(NORMAL).eps_theta(schedule))
    sigma = active().sqrt(bound.reverse_variance(schedule, name)) if eta is None else None
    for t in range(schedule.T, 0, -1):
        if eta is None:
            yield as_map(lambda x, z, t=t: DDPM.step(schedule, x, eps_theta(x, t), t, sigma, z), 2)
        else:
            yield as_map(lambda x, z, t=t: DDIM.step(schedule, x, eps_theta(x, t), t, t - 1, eta, z), 2)


def start(schedule):
    """The true moments of x_T: the samplers' error, without that of starting from N(0, I)."""
    return on_host(on_backend(NORMAL).noisy(math.sqrt(bar(schedule)), math.sqrt(1 - bar(schedule))))


def bar(schedule):
    return float(schedule.alpha_bar[schedule.T])


def on_host(m):
    return host(m.means)[0], host(m.covs)[0]


SAMPLERS = {"DDPM, β": ("beta", None), "DDPM, β̃": ("beta_tilde", None), "DDIM, η = 0": ("", 0.0),
            "DDIM, η = ½": ("", 0.5)}  # fmt: skip


@pytest.mark.equation("ddpm.step", "ddim.step", "exact.eps")
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_gaussian_data_by_the_oracles_recursion(sampler):
    """Along 25 steps: mean and covariance of the library's sampler and network, and of the oracle's."""
    schedule = linear(25, 0.1, 8.0)
    beta = host(schedule.beta)[1:]
    variance, eta = SAMPLERS[sampler]

    def step(t):
        if eta is None and variance == "beta_tilde" and t == 1:  # no noise there, so that its variance is not asked
            return lambda x, e, z: R.ddpm_step(x, e, z, t, beta, "beta")
        if eta is None:
            return lambda x, e, z: R.ddpm_step(x, e, z, t, beta, variance)
        return lambda x, e, z: R.ddim_step(x, e, z, t, t - 1, beta, eta)

    found = moments(*start(schedule), library_maps(schedule, variance, eta))
    wanted = moments(*start(schedule), [oracle_map(beta, t, step(t)) for t in range(25, 0, -1)])
    agree(found[0], wanted[0], 1e-9, 1e-9)
    agree(found[1], wanted[1], 1e-9, 1e-9)


@pytest.mark.equation("ddpm.step", "ddim.step", "exact.eps")
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_samplers_reach_gaussian_data_at_the_rate_of_one_over_T(sampler):
    """The mean exactly; the covariance with an error of C/T, measured at T = 25 … 200 as a slope of −1 within 0.2.

    At T = 200 it is below 0.02 (of variances 0.2 and 0.6).  With ε asked one step too late it does not shrink.
    """
    variance, eta = SAMPLERS[sampler]
    errors, Ts = [], np.array([25, 50, 100, 200])
    for T in Ts:
        schedule = linear(int(T), 0.1, 10.0)
        means, covs = moments(*start(schedule), library_maps(schedule, variance, eta))
        agree(means[-1], MEAN, 1e-9, 1e-9)
        errors.append(np.abs(covs[-1] - COV).max())
    agree(slope(Ts, errors), -1.0, 0, 0.2)
    at_most(errors[-1], 0.02)


@pytest.mark.equation("ddpm.step", "ddim.step")
@pytest.mark.parametrize("sampler", ["DDPM, β", "DDIM, η = 0"])
def test_from_pure_noise_the_prior_leaves_what_is_left_of_the_data(sampler):
    """From N(0, I) instead of the true x_T the mean is off by √ᾱ_T·E x_0, times what the chain makes of it."""
    variance, eta = SAMPLERS[sampler]
    schedule = linear(50, 0.1, 16.0)
    maps = list(library_maps(schedule, variance, eta))
    (mean, _), (other, _) = (
        (m[-1], c[-1]) for m, c in (moments(*start(schedule), maps), moments(np.zeros(2), np.eye(2), maps))
    )
    A = np.linalg.multi_dot([step[0] for step in reversed(maps)])
    agree(mean - other, A @ (math.sqrt(bar(schedule)) * MEAN), 1e-9, 1e-9)
    at_most(np.abs(mean - other).max(), math.sqrt(bar(schedule)))
    apart(mean, other, 1e-5)


# --- a mixture ------------------------------------------------------------------------------------------------------


def by_ddpm(T, late=0):
    """`statistics` of Algorithm 2's x_0, the network asked for `late` steps before the one that x_t is at."""
    schedule = linear(T, 0.1, 10.0)
    eps_theta = lifted(on_backend(BIMODAL).eps_theta(schedule))
    return by_ancestors(BIMODAL, schedule, lambda x, t: eps_theta(x, max(t - late, 1)), Line(-5.0, 5.0, 501))


def by_ddim(T):
    """`statistics` of DDIM's x_0 with η = 0, which is a function of x_T: by quadrature over x_T."""
    schedule = linear(T, 0.1, 10.0)
    x, w = panel_nodes(np.linspace(-7, 7, 161))
    w = w * np.exp(E.log_prob(E.noisy(BIMODAL, math.sqrt(bar(schedule)), math.sqrt(1 - bar(schedule))), x[:, None]))
    eps_theta = on_backend(BIMODAL).eps_theta(schedule)
    (*_, x0) = ddim.sample(eps_theta, schedule, up(x[:, None]), T, 0.0, None)
    return statistics(BIMODAL, host(x0)[:, 0], w)


@pytest.mark.equation("ddpm.step", "exact.eps")
def test_ddpm_reaches_a_mixture():
    """Share of the first component, mean, second moment: errors of C/T, slope −1 within 0.25; under 0.02 at T = 80."""
    errors, Ts = [], np.array([20, 40, 80])
    for T in Ts:
        errors.append(np.abs(by_ddpm(int(T)) - expected(BIMODAL)).max())
    agree(slope(Ts, errors), -1.0, 0, 0.25)
    at_most(errors[-1], 0.02)
    apart(by_ddpm(80, late=20), expected(BIMODAL), 0.02)


@pytest.mark.equation("ddim.step", "exact.eps")
def test_ddim_reaches_a_mixture():
    errors, Ts = [], np.array([20, 40, 80, 160])
    for T in Ts:
        errors.append(np.abs(by_ddim(int(T)) - expected(BIMODAL)).max())
    agree(slope(Ts, errors), -1.0, 0, 0.25)
    at_most(errors[-1], 0.02)


def test_samples_of_a_mixture():
    """Algorithm 2 itself, T = 60, n = 4000: the share of the left component, 0.3 within 5.3 deviations (0.038) and
    its O(1/T) error (0.01, measured above)."""
    schedule = linear(60, 0.1, 10.0)
    m, rng = on_backend(BIMODAL), Generator(3)
    xT = rng.standard_normal((4000, 1), "float64")
    noise = lambda shape: rng.standard_normal(shape, "float64")  # noqa: E731
    (*_, x0) = ddpm.sample(m.eps_theta(schedule), schedule, xT, bound.reverse_variance(schedule, "beta"), noise)
    share = np.mean(E.responsibilities(BIMODAL, host(x0))[0])
    agree(share, 0.3, 0, 5.3 * math.sqrt(0.3 * 0.7 / 4000) + 0.01)


# --- one thing said in several ways ------------------------------------------------------------------------------


@pytest.mark.equation("ddpm.step", "ddim.step", "ddim.sigma")
@FEW
@given(mixtures, seeds, st.integers(2, 8))
def test_ddim_at_eta_one_is_ddpm_step_by_step(data, seed, T):
    """With the exact network of a mixture, at every step from the same x_t with the same noise."""
    noise = np.random.default_rng(seed)
    schedule = Schedule(active().asarray(noise.uniform(0.02, 0.5, T)))
    eps_theta = lifted(on_backend(data).eps_theta(schedule))
    sigma = active().sqrt(bound.reverse_variance(schedule, "beta_tilde"))
    x = noise.normal(size=(3, data.means.shape[1]))
    for t in range(T, 0, -1):
        z, eps = noise.normal(size=x.shape), eps_theta(x, t)
        by_ddpm, by_ddim = DDPM.step(schedule, x, eps, t, sigma, z), DDIM.step(schedule, x, eps, t, t - 1, 1.0, z)
        agree(by_ddim, by_ddpm, 1e-9, 1e-9)
        if t > 1:
            apart(DDIM.step(schedule, x, eps, t, t - 1, 0.0, z), by_ddpm, 1e-6)
        x = by_ddpm


@pytest.mark.equation("exact.score", "exact.eps", "exact.denoiser", "diffusion.score", "diffusion.tweedie",
                      "diffusion.v", "diffusion.from_v", "score.denoiser")  # fmt: skip
@FEW
@given(mixtures, seeds, st.integers(1, 6))
def test_noise_score_clean_image_and_velocity(data, seed, T):
    """Each of the mixture's exact answers gives the others, by the formulas that are used on networks."""
    noise = np.random.default_rng(seed)
    schedule = Schedule(active().asarray(noise.uniform(0.05, 0.5, T)))
    t = int(noise.integers(1, T + 1))
    ab = R.alpha_bar(host(schedule.beta)[1:], t)
    a, sigma = math.sqrt(ab), math.sqrt(1 - ab)
    x, exact = points(seed, 3, data.means.shape[1]), library(data)
    eps, x0 = exact.eps(x, a, sigma), exact.denoiser(x, a, sigma)
    score = library(E.noisy(data, a, sigma)).score(x)
    # σ ≥ 0.22, and nothing is larger than 25/σ: 1e-9 is a thousand times float64's rounding of it
    agree(P.score_from_eps(schedule, eps, t), score, 1e-9, 1e-9)
    agree(P.eps_from_score(schedule, score, t), eps, 1e-9, 1e-9)
    agree(P.x0_from_score(schedule, x, score, t), x0, 1e-9, 1e-9)
    agree(lifted(process.predict_x0)(schedule, x, eps, t), x0, 1e-9, 1e-9)
    v = P.velocity(schedule, x0, eps, t)
    agree(P.x0_from_v(schedule, x, v, t), x0, 1e-9, 1e-9)
    agree(P.eps_from_v(schedule, x, v, t), eps, 1e-9, 1e-9)
    # and without the schedule's √ᾱ: the noise of x_t/√ᾱ_t has σ̃ = σ/a, its score is a times that of x_t
    agree(lifted(denoising.score_from_denoiser)(x0, x / a, sigma / a), a * score, 1e-9, 1e-9)


@pytest.mark.equation("ddim.step", "sde.probability_flow", "diffusion.score")
def test_ddim_follows_the_probability_flow():
    """A step of DDIM with η = 0 is Euler's along the flow of VP, up to h²: the difference falls by four when h does
    by two.  Negative control: against the reverse equation's drift it falls by two only."""
    m, x, t = on_backend(mixture(5, 2, 2)), points(6, 4, 2, 1.5), 0.5
    vp = sde.VP(0.1, 8.0)
    apart_by = {}
    for drift in (sde.probability_flow, sde.reverse):
        for T in (100, 200, 400):
            schedule = linear(T, 0.1, 8.0)
            k = T // 2
            eps = lifted(m.eps_theta(schedule))(x, k)
            v = lifted(drift)(vp, x, P.score_from_eps(schedule, eps, k), t)
            moved = DDIM.step(schedule, x, eps, k, k - 1, 0.0, None) - x
            apart_by[drift, T] = np.abs(moved + v / T).max()
    for drift, ratio in ((sde.probability_flow, 4.0), (sde.reverse, 2.0)):
        for T, U in itertools.pairwise((100, 200, 400)):
            agree(apart_by[drift, T] / apart_by[drift, U], ratio, 0.1)


@pytest.mark.equation("exact.eps")
def test_float32_samples_like_float64():
    """50 steps of Algorithm 2 in float32: within 1e-3 of float64's, from the same noise."""
    schedule = linear(50, 0.1, 10.0)
    noise = np.random.default_rng(7).normal(size=(51, 6, 1))
    ends = []
    for dtype in ("float32", "float64"):
        queue = iter(up([z.astype(dtype) for z in noise[1:]]))
        var = bound.reverse_variance(schedule, "beta_tilde")
        eps_theta = on_backend(BIMODAL, dtype).eps_theta(schedule)
        (*_, x) = ddpm.sample(eps_theta, schedule, up(noise[0].astype(dtype)), var, lambda shape, q=queue: next(q))
        assert x.dtype == dtype
        ends.append(host(x))
    agree(ends[0], ends[1], 0, 1e-3)


def test_on_both_backends(xp):
    with sg.backend("numpy"):
        wanted = moments(*start(linear(10, 0.1, 8.0)), library_maps(linear(10, 0.1, 8.0), "beta"))
    found = moments(*start(linear(10, 0.1, 8.0)), library_maps(linear(10, 0.1, 8.0), "beta"))
    agree(found[1], wanted[1], 1e-12, 1e-12)
