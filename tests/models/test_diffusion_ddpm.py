"""DDPM's steps and chain: the paper's algorithm line by line, the posterior of the image that the noise implies."""

import numpy as np
import pytest
from diffusion_tools import SOME, betas, close, handed_out, normal, schedule_of, seeds, some_eps
from evidence import apart, lifted
from hypothesis import given
from hypothesis import strategies as st

from reference import diffusion as chain
from reference import samplers as R
from scratchgen.models import diffusion

bound, ddpm, process = (lifted(getattr(diffusion, name)) for name in ("bound", "ddpm", "process"))
SHAPES = st.sampled_from([(2, 1), (1, 3), (2, 2, 2, 1), (3, 2, 1, 2)])
VARIANCES = st.sampled_from(["beta", "beta_tilde"])


# --- DDPM ---------------------------------------------------------------------------------------------------


@pytest.mark.equation("ddpm.step")
@SOME
@given(betas(), seeds, SHAPES, VARIANCES)
def test_ddpm_step(beta, seed, shape, variance):
    schedule = schedule_of(beta)
    xt, eps, z = normal(seed, 3, *shape)
    sigma = np.sqrt(bound.reverse_variance(schedule, variance))
    for t in range(1, len(beta) + 1):
        close(
            ddpm.step(schedule, xt, eps, t, sigma, z),
            R.ddpm_step(xt, eps, z, t, beta, variance),
            1e-11,
            1e-11,
        )


@pytest.mark.equation("ddpm.step")
@SOME
@given(betas(), seeds, SHAPES, VARIANCES)
def test_ddpm_chain(beta, seed, shape, variance):
    """All of Algorithm 2: which time each call gets, which noise, and none at the end."""
    schedule, T = schedule_of(beta), len(beta)
    xT, *zs = normal(seed, T + 1, *shape)
    on_backend, on_host = some_eps(T)
    noise = handed_out(zs)
    xs = list(ddpm.sample(on_backend, schedule, xT, bound.reverse_variance(schedule, variance), noise))
    expected = R.ddpm_chain(xT, on_host, zs, beta, variance)
    assert len(xs) == T
    assert noise.calls == T - 1
    for x, y in zip(xs, expected[1:], strict=True):
        close(x, y, 1e-9, 1e-9)


@pytest.mark.equation("ddpm.step")
@SOME
@given(betas(least=2), seeds)
def test_a_ddpm_step_is_the_posterior_of_the_image_that_the_noise_implies(beta, seed):
    """x_t made by composed kernels; mean and deviation of x_{t−1} by conditioning the chain on x_0 and x_t."""
    schedule = schedule_of(beta)
    x0, eps, z = normal(seed, 3, 1, 3)
    sigma = np.sqrt(bound.reverse_variance(schedule, "beta_tilde"))
    for t in range(2, len(beta) + 1):
        means, covs = chain.forward_chain(beta, x0[0])
        xt = means[t] + np.sqrt(covs[t, 0, 0]) * eps
        mean, cov = chain.posterior(beta, t, x0[0], xt[0])
        close(ddpm.step(schedule, xt, eps, t, sigma, z)[0], mean + np.linalg.cholesky(cov) @ z[0], 1e-9, 1e-9)


@pytest.mark.equation("ddpm.step")
def test_no_noise_at_the_last_step_of_ddpm(xp):
    """Negative control: with the noise that the formula would have at t = 1, the image is another one."""
    beta = np.array([0.2, 0.3])
    schedule = schedule_of(beta)
    xt, eps, z = normal(0, 3, 2, 3)
    sigma = np.sqrt(bound.reverse_variance(schedule, "beta"))
    last = ddpm.step(schedule, xt, eps, 1, sigma, None)
    close(last, process.mean_from_eps(schedule, xt, eps, 1))
    close(last, ddpm.step(schedule, xt, eps, 1, sigma, z), 0, 0)
    apart(last + sigma[1] * z, R.ddpm_step(xt, eps, z, 1, beta), 1e-4)
