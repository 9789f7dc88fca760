"""The variational bound with an exact network, beside the exact evidence: how wide the gap is, and that it closes.

The expectations over x_t are sums over quadrature nodes: on Gaussian data every term is a polynomial of degree two, and
Gauss–Hermite of order 3 exact.
"""

import math

import numpy as np
import pytest
from evidence import agree, apart, at_most, host, lifted
from sandbox_tools import BIMODAL, COV, MEAN, NORMAL, Line, on_backend, slope

from reference import denoisers as E
from reference import samplers as R
from reference.gaussian import chain_joint, condition
from reference.quadrature import gaussian_nodes
from scratchgen.models.diffusion import bound, linear, process

B = lifted(bound)


def negative_bound(data, schedule, variance, x0, order):
    """−ELBO(x_0) of the diffusion whose network is exact, for points x0 (n, d), averaged over ε by Hermite's rule."""
    (n, d), var = x0.shape, bound.reverse_variance(schedule, variance)
    eps_theta = lifted(on_backend(data).eps_theta(schedule))
    nodes, weights = gaussian_nodes(np.zeros(d), np.eye(d), order)
    eps, clean = np.tile(nodes, (n, 1)), np.repeat(x0, len(nodes), axis=0)
    total = B.prior_term(schedule, x0)
    for t in range(1, schedule.T + 1):
        xt = lifted(process.q_sample)(schedule, clean, t, eps)
        if t == 1:
            term = B.reconstruction_term(schedule, clean, xt, eps_theta(xt, t), var, None)
        else:
            term = B.transition_term(schedule, clean, xt, eps_theta(xt, t), t, var)
        total = total + term.reshape(n, -1) @ weights
    return total


def gaussian_gap(schedule, variance):
    """E[−ELBO] − E[−log p] for Gaussian data: the library's terms, all averages exact."""
    x0, w = gaussian_nodes(MEAN, COV, 3)
    entropy = 0.5 * np.linalg.slogdet(2 * math.pi * math.e * COV)[1]
    return w @ negative_bound(NORMAL, schedule, variance, x0, 3) - entropy


def exact_gap(schedule, variance):
    """KL(q(x_T)‖N(0, I)) and Σ_t E KL(q(x_{t−1}|x_t)‖p_θ(x_{t−1}|x_t)), which is what the bound gives away.

    Along the data's axes all is one-dimensional.  The true reverse variance by conditioning the pair (x_{t−1}, x_t);
    the means agree, since the network is exact, so that a divergence is that of two variances.
    """
    values, axes = np.linalg.eigh(COV)
    beta, var = host(schedule.beta)[1:], host(bound.reverse_variance(schedule, variance))
    bars = [R.alpha_bar(beta, t) for t in range(len(beta) + 1)]
    divergence = lambda v, s2: (v / s2 - 1 - math.log(v / s2)) / 2  # noqa: E731
    prior = sum(divergence(bars[-1] * c + 1 - bars[-1], 1.0) + bars[-1] * m**2 / 2
                for c, m in zip(values, axes.T @ MEAN, strict=True))  # fmt: skip
    steps = 0.0
    for t in range(1, len(beta) + 1):
        for c in values:
            before = bars[t - 1] * c + 1 - bars[t - 1]
            _, pair = chain_joint([[[math.sqrt(1 - beta[t - 1])]]], [[0.0]], [[[beta[t - 1]]]], [0.0], [[before]])
            _, left = condition(np.zeros(2), pair, [1], [0.0])
            steps += divergence(left.item(), var[t])
    return prior, steps


@pytest.mark.equation("diffusion.elbo", "diffusion.prior_term", "diffusion.transition_term",
                      "diffusion.reconstruction_term", "exact.eps")  # fmt: skip
@pytest.mark.parametrize("variance", ["beta", "beta_tilde"])
@pytest.mark.parametrize("T", [1, 2, 7, 30])
def test_the_gap_is_what_the_reverse_steps_miss(T, variance):
    """Not an inequality but an equality: every nat between bound and evidence is accounted for."""
    schedule = linear(T, 0.05, 0.9 * T if T < 10 else 9.0)
    prior, steps = exact_gap(schedule, variance)
    found = gaussian_gap(schedule, variance)
    agree(found, prior + steps, 1e-9, 1e-9)
    assert found > 0
    apart(found, steps, 1e-9)  # the prior's part is there


@pytest.mark.equation("diffusion.elbo", "exact.eps")
def test_the_bound_becomes_the_evidence():
    """σ² = β: the steps' part falls as 1/T (slope −1 within 0.1), the prior's with ᾱ_T: in the limit both are 0.

    Of the nats that T = 20, 40, 80, 160 give away, 0.068, 0.034, 0.017, 0.009, the prior's are 0.0002 to 0.0007.
    """
    Ts = np.array([20, 40, 80, 160])
    parts = np.array([exact_gap(linear(int(T), 0.1, 10.0), "beta") for T in Ts])
    found = np.array([gaussian_gap(linear(int(T), 0.1, 10.0), "beta") for T in Ts])
    agree(found, parts.sum(axis=1), 1e-9, 1e-9)
    agree(slope(Ts, found - parts[:, 0]), -1.0, 0, 0.1)
    at_most(found[-1], 0.01)
    little, more = (exact_gap(linear(50, 0.1, top), "beta")[0] for top in (10.0, 30.0))
    at_most(more, 1e-3 * little)


@pytest.mark.equation("diffusion.elbo", "diffusion.reverse_variance")
def test_beta_tilde_never_becomes_tight_for_a_density():
    """β̃ is right for data in a point.  Near t = 0 the true reverse variance of data with a density is β, t/(t−1) times
    as much, however fine the schedule.  With β̃_2 = β/2 in the place of β̃_1, d dimensions cost

        d/2·(Σ_{t ≥ 2} [1/(t−1) − log t/(t−1)] + 1 − log 2) = d/2·(γ + 1 − log 2),     γ: Euler's constant,

    0.884 nats for d = 2, which the gap approaches as (a + b·log T)/T: three Ts give a, b and the limit, to 3 %.
    """
    Ts = np.array([80, 160, 320])
    schedules = [linear(int(T), 6.0, 6.0) for T in Ts]  # all β alike
    gaps = [gaussian_gap(s, "beta_tilde") - exact_gap(s, "beta_tilde")[0] for s in schedules]
    limit, *_ = np.linalg.solve(np.stack([np.ones(3), 1 / Ts, np.log(Ts) / Ts], axis=1), gaps)
    agree(limit, np.euler_gamma + 1 - math.log(2), 0.03)
    apart(gaussian_gap(schedules[-1], "beta"), gaps[-1], 0.5)


@pytest.mark.equation("diffusion.elbo", "exact.eps")
def test_the_bound_of_a_mixture_at_single_points():
    """−ELBO(x_0) → −log p(x_0) of the mixture at each point by itself, with an error of C/T, from 40 Hermite nodes.

    C is up to 30, and the slope −1 within 0.3; without the term in 1/T, by extrapolation, bound and evidence are equal
    to 0.003.
    """
    x0 = np.array([[-1.3], [-0.2], [0.9], [1.6]])
    evidence, Ts = E.log_prob(BIMODAL, x0), np.array([25, 50, 100, 200])
    bounds = [negative_bound(BIMODAL, linear(int(T), 0.1, 16.0), "beta", x0, 40) for T in Ts]
    for gap in np.transpose(bounds) + evidence[:, None]:
        agree(slope(Ts, np.abs(gap)), -1.0, 0, 0.3)
    agree(2 * bounds[-1] - bounds[-2], -evidence, 0, 3e-3)
    apart(bounds[-1], -evidence, 3e-3)


@pytest.mark.equation("diffusion.elbo", "exact.eps")
def test_on_average_the_bound_of_a_mixture_lies_below_the_evidence():
    """E[−ELBO] ≥ the data's entropy, by quadrature over x_0 too, with either variance."""
    line = Line(-2.6, 2.9, 56)
    p = line.masses(BIMODAL)
    entropy = -p @ E.log_prob(BIMODAL, line.x[:, None])
    gaps = {}
    for variance in ("beta", "beta_tilde"):
        gaps[variance] = [p @ negative_bound(BIMODAL, linear(T, 0.1, 12.0), variance, line.x[:, None], 24) - entropy
                          for T in (15, 30, 60)]  # fmt: skip
        at_most(np.negative(gaps[variance]), 0.0)
    assert gaps["beta"] == sorted(gaps["beta"], reverse=True)
    apart(p.sum(), 0.9, 0.099)  # the line holds the data: 1 within 0.001
