"""Misprints in the forward chain.  The truth: moments pushed through the one-step kernels, one after the other."""

from math import prod, sqrt

import numpy as np
import pytest
from chains import betas, carried, point, schedule_of
from evidence import agree, apart, at_most, lifted
from hypothesis import strategies as st
from scipy import stats
from slips import TENTHS, Forms, slip

from reference import samplers as R
from reference.diffusion import forward_joint
from scratchgen.models.diffusion import cosine, linear
from scratchgen.models.diffusion import process as process_module

process = lifted(process_module)


def jump(beta):
    """Gain and variance of q(x_t | x_s) by the library: eq. (2) of a chain that consists of the steps between."""
    q = process.q_marginal(schedule_of(beta), point(1), len(beta))
    return float(q.mean[0, 0]), float(q.var)


@slip("slip.noise_under_root", x=st.integers(0, 3), eps=st.integers(0, 4), beta=TENTHS)
def noise_under_root(x, eps, beta):
    """ε under the root: for ε < 0 there is no such number, and for ε > 0 the noise is not Gaussian.

    The truth: x_t lies as far up in N(√(1−β)·x, β) as ε lies in N(0, 1).
    """
    found = process.q_step(schedule_of([beta]), point(x), 1)
    return Forms(
        printed=sqrt(1 - beta) * x + sqrt(beta * eps),
        holds=found.mean[0, 0] + sqrt(float(found.var)) * eps,
        truth=stats.norm(sqrt(1 - beta) * x, sqrt(beta)).isf(stats.norm.sf(eps)),
    )


@slip("slip.two_step_root", beta=betas(2, 2))
def two_step_root(beta):
    """Gain and deviation over two steps; the root must reach over both α."""
    before, now = 1 - np.array(beta)
    gain, var = carried(beta)
    found = jump(beta)
    return Forms(
        printed=[sqrt(now) * before, sqrt(1 - now) * before], holds=[found[0], sqrt(found[1])], truth=[gain, sqrt(var)]
    )


@slip("slip.two_step_index", beta=betas(4, 4))
def two_step_index(beta):
    """Deviations over two and over three steps up to t = 4: α_{t−1} = α_3 is left out, α_{t−2} stands for it."""
    alpha = [1.0, *(1 - np.array(beta))]
    printed = [sqrt(1 - alpha[4] * alpha[2]), sqrt(1 - alpha[4] * alpha[2] * alpha[1])]
    holds = [sqrt(jump(beta[2:])[1]), sqrt(jump(beta[1:])[1])]
    return Forms(printed, holds, truth=[sqrt(carried(beta[2:])[1]), sqrt(carried(beta[1:])[1])])


@slip("slip.noise_scale", beta=TENTHS)
def noise_scale(beta):
    """The variance that one step adds: that of (1 − α)·ε is (1 − α)²."""
    alpha = 1 - beta
    added = process.q_sample(schedule_of([beta]), point(0), 1, point(1))[0, 0]  # what ε = 1 becomes
    return Forms(printed=(1 - alpha) ** 2, holds=added**2, truth=carried([beta])[1])


@slip("slip.one_noise", beta=betas(2, 2))
def one_noise(beta):
    """The variance after two steps: with one ε for both, deviations would add, not variances."""
    before, now = beta
    return Forms(
        printed=(sqrt(1 - now) * sqrt(before) + sqrt(now)) ** 2, holds=jump(beta)[1], truth=carried(beta)[1]
    )


@slip("slip.second_variance", beta=betas(2, 2))
def second_variance(beta):
    """The variance of x_2's noise: the first step's is scaled by the second step, not by its own."""
    first, second = beta
    return Forms(printed=(1 - first) * second + second, holds=jump(beta)[1], truth=carried(beta)[1])


@slip("slip.alpha_bar", beta=betas(1, 4))
def alpha_bar(beta):
    """Gain and variance of q(x_t | x_0), t = T: 1 − β_t belongs to one step, ᾱ_t to all of them."""
    printed = 1 - beta[-1]
    return Forms(printed=[sqrt(printed), 1 - printed], holds=list(jump(beta)), truth=list(carried(beta)))


@slip("slip.last_alpha", beta=betas(1, 5))
def last_alpha(beta):
    """What x_T still knows of x_0: their squared correlation, for x_0 ~ N(0, 1), from the joint covariance."""
    _, cov = forward_joint(beta, [0.0], [[1.0]])
    left = cov[0, -1] ** 2 / (cov[0, 0] * cov[-1, -1])
    schedule = schedule_of(beta)
    return Forms(printed=float(schedule.alpha[-1]), holds=float(schedule.alpha_bar[-1]), truth=left)


@pytest.mark.slip("slip.last_alpha")
def test_the_usual_schedule_forgets_while_its_last_alpha_does_not():
    """β_t from 10⁻⁴ to 0.02 in a thousand steps: α_T = 0.98 for ever, ᾱ_T = 4·10⁻⁵."""
    schedule = linear(1000)
    at_most(float(schedule.alpha_bar[-1]), 5e-5)
    at_most(0.97, float(schedule.alpha[-1]))
    agree(float(schedule.alpha_bar[-1]), carried(np.linspace(1e-4, 0.02, 1000))[0] ** 2, rtol=1e-11)
    apart(float(schedule.alpha[-1]), 0.0, by=0.9)


SCHEDULES = {"linear": (linear, 21), "cosine": (cosine, 3)}  # with the least T that each can have here


@st.composite
def some_schedule(draw):
    """Its name, T and t, 2 ≤ t < T: the last step of the cosine schedule is cut off at 0.999."""
    name = draw(st.sampled_from(sorted(SCHEDULES, reverse=True)))
    T = draw(st.integers(SCHEDULES[name][1], 60))
    return name, T, draw(st.integers(2, T - 1))


@slip("slip.noise_annealing", which=some_schedule())
def noise_annealing(which):
    """Which way the noise goes: along the forward chain, and along the sampler's.

    The truth: the noise that a step of the sampler puts in, at t−1 and at t, on the papers' own schedules.
    """
    name, T, t = which
    schedule = SCHEDULES[name][0](T)
    growth = np.sign(float(schedule.beta[t] - schedule.beta[t - 1]))
    if name == "linear":
        beta = [(0.1 + k / (T - 1) * 19.9) / T for k in range(T)]
    else:
        left = [np.cos((k / T + 0.008) / 1.008 * np.pi / 2) ** 2 for k in range(T + 1)]
        beta = [1 - left[k + 1] / left[k] for k in range(T)]
    zero, one = np.zeros(1), np.ones(1)
    early, late = (R.ddpm_step(zero, zero, one, s, beta)[0] if s > 1 else sqrt(beta[0]) for s in (t - 1, t))
    return Forms(printed=[-1.0, 1.0], holds=[growth, -growth], truth=[np.sign(late - early), np.sign(early - late)])


@pytest.mark.slip("slip.two_step_index", "slip.one_noise")
@pytest.mark.parametrize("beta", [[0.1, 0.2, 0.3, 0.4], [0.5] * 6])
def test_the_chain_of_lines_ends_at_alpha_bar(beta):
    """√(1 − α_t·α_{t−1}…α_1) is √(1 − ᾱ_t): with all factors in place the last line follows from the first."""
    gain, var = carried(beta)
    agree(jump(beta), [gain, var], rtol=1e-13)
    agree(1 - prod(1 - b for b in beta), var, rtol=1e-13)
