"""Misprints in the way back: posterior, samplers, DDIM.  The truth: the joint Gaussian of the chain, conditioned."""

from math import sqrt

import numpy as np
import pytest
from chains import betas, carried, point, schedule_of
from evidence import agree, at_most, lifted
from hypothesis import given
from hypothesis import strategies as st
from slips import TENTHS, Forms, slip

from reference import diffusion as oracle
from reference import samplers as R
from scratchgen.models.diffusion import ddim as ddim_module
from scratchgen.models.diffusion import process as process_module

process, ddim = lifted(process_module), lifted(ddim_module)

SMALL = st.integers(-3, 3)


def bars(beta):
    """ᾱ_t and ᾱ_{t−1} at t = T."""
    return R.alpha_bar(beta, len(beta)), R.alpha_bar(beta, len(beta) - 1)


@slip("slip.posterior_mean", beta=betas(2, 4), x0=SMALL, xt=SMALL)
def posterior_mean(beta, x0, xt):
    """The weight of x_t needs all the noise before it, 1 − ᾱ_{t−1}; at t = 2 the two are still equal."""
    t, (bar, before) = len(beta), bars(beta)
    found = process.posterior(schedule_of(beta), point(x0), point(xt), t)
    printed = (sqrt(1 - beta[-1]) * beta[-2] * xt + sqrt(before) * beta[-1] * x0) / (1 - bar)
    return Forms(printed, found.mean[0, 0], oracle.posterior(beta, t, [x0], [xt])[0][0])


@slip("slip.sampler_root", beta=betas(1, 4), x0=SMALL, eps=SMALL)
def sampler_root(beta, x0, eps):
    """The mean of x_{t−1} for an x_t made of x_0 and ε: the noise in x_t has deviation √(1−ᾱ_t)."""
    t = len(beta)
    xt = R.noised_input([x0], [eps], t, beta)
    printed = (xt[0] - beta[-1] / sqrt(beta[-1]) * eps) / sqrt(1 - beta[-1])
    found = process.mean_from_eps(schedule_of(beta), xt[None], point(eps), t)
    return Forms(printed, found[0, 0], oracle.posterior(beta, t, [x0], xt)[0][0])


@slip("slip.mean_from_one_step", beta=betas(2, 4), x0=SMALL, before=SMALL, eps=SMALL)
def mean_from_one_step(beta, x0, before, eps):
    """Which ε the mean wants: not the one that made x_t of x_{t−1}, but the one that made it of x_0."""
    t, schedule = len(beta), schedule_of(beta)
    xt = point(sqrt(1 - beta[-1]) * before + sqrt(beta[-1]) * eps)
    printed = process.mean_from_eps(schedule, xt, point(eps), t)
    holds = process.mean_from_eps(schedule, xt, process.predict_eps(schedule, xt, point(x0), t), t)
    return Forms(printed[0, 0], holds[0, 0], oracle.posterior(beta, t, [x0], xt[0])[0][0])


@slip("slip.two_variances", beta=betas(2, 4))
def two_variances(beta):
    """The variance of q(x_{t−1} | x_t, x_0): β_t is that of q(x_t | x_{t−1})."""
    t = len(beta)
    found = process.posterior(schedule_of(beta), point(0), point(0), t)
    return Forms(beta[-1], float(found.var), oracle.posterior(beta, t, [0], [0])[1][0, 0])


@pytest.mark.slip("slip.two_variances")
@given(beta=betas(1, 4))
def test_the_two_variances_meet_late_in_a_long_chain(beta):
    """β̃_t/β_t = (1−ᾱ_{t−1})/(1−ᾱ_t) < 1, and → 1 once ᾱ is gone: 1 − β̃_t/β_t ≤ ᾱ_{t−1}/(1−ᾱ_t)."""
    for long in (beta, beta * 8):
        t = len(long)
        found = float(process.posterior(schedule_of(long), point(0), point(0), t).var) / long[-1]
        at_most(found, 1.0)
        at_most(1 - found, carried(long[:-1])[0] ** 2 / carried(long)[1] + 1e-12)


@slip("slip.ddim_alpha", beta=betas(2, 4), share=st.sampled_from([0.0, 0.5, 1.0]))
def ddim_alpha(beta, share):
    """Gain and variance of x_{t−1} given x_0, when x_t ~ q(x_t | x_0) is taken back by one DDIM step.

    Printed: the step's formula with DDPM's α_t = 1 − β_t.  A part of β_{t−1} serves as its σ², so that the root
    is that of no negative number.  The step is affine in x_t: its moments are pushed through.
    """
    t = len(beta)
    gain, var = carried(beta)
    now, before, printed_var = 1 - beta[-1], 1 - beta[-2], share * beta[-2]
    slope = sqrt((1 - share) * beta[-2]) / sqrt(beta[-1])  # √(1 − α_{t−1} − σ²)/√(1 − α_t)
    printed = [sqrt(before) + slope * (gain - sqrt(now)), slope**2 * var + printed_var]

    def step(x0, xt, z):
        schedule = schedule_of(beta)
        eps = process.predict_eps(schedule, point(xt), point(x0), t)
        return ddim.step(schedule, point(xt), eps, t, t - 1, share, point(z))[0, 0]

    per_xt, per_z = step(0, 1, 0), step(0, 0, 1)
    holds = [step(1, gain, 0), per_xt**2 * var + per_z**2]
    return Forms(printed, holds, truth=list(carried(beta[:-1])))


@pytest.mark.slip("slip.ddim_alpha")
@given(beta=betas(2, 4), eta=TENTHS)
def test_the_root_of_the_direction_is_of_no_negative_number(beta, eta):
    """σ_t(η)² ≤ 1 − ᾱ_{t−1} for every η ≤ 1, which the step's root needs; a larger η is refused."""
    t, schedule = len(beta), schedule_of(beta)
    direction, noise = ddim_module.sigmas(schedule, t, t - 1, eta)
    at_most(float(direction) ** 2, carried(beta[:-1])[1])
    agree(float(noise), eta * sqrt(oracle.posterior(beta, t, [0], [0])[1][0, 0]), rtol=1e-12)
    with pytest.raises(ValueError, match="eta"):
        ddim_module.sigmas(schedule, t, t - 1, 1 + eta)


@slip("slip.ddim_root", beta=betas(2, 4), x0=SMALL, eps=st.sampled_from([0.0, 1.0, -1.0, 0.5, -0.5]))
def ddim_root(beta, x0, eps):
    """The mean of x_{t−1} with η = 1, where DDIM is the posterior of the chain; ε belongs after the root."""
    t, (_, before), schedule = len(beta), bars(beta), schedule_of(beta)
    xt = R.noised_input([x0], [eps], t, beta)
    mean, cov = oracle.posterior(beta, t, [x0], xt)
    printed = sqrt(before) * x0 + sqrt(1 - before - cov[0, 0] * eps)
    found = ddim.step(schedule, xt[None], point(eps), t, t - 1, 1.0, np.zeros((1, 1)))
    return Forms(printed, found[0, 0], mean[0])
