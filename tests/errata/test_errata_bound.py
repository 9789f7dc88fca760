"""Misprints about the variational bound.  The truth: quadrature, and linear-Gaussian models with exact evidence."""

from math import log, sqrt

import numpy as np
import pytest
from chains import betas, carried, point, schedule_of
from evidence import at_most, lifted
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from slips import TENTHS, Forms, slip

from reference import bound as B
from reference import diffusion as oracle
from reference import samplers as R
from reference.distributions import kl_gaussian_hermite
from reference.gaussian import condition
from reference.quadrature import gaussian_nodes
from scratchgen.distributions import categorical as categorical_module
from scratchgen.models.diffusion import bound as bound_module
from scratchgen.models.latent import bound as latent_module

bound, latent, categorical = map(lifted, (bound_module, latent_module, categorical_module))

SMALL = st.integers(-2, 2)
SLOPES = st.sampled_from([0.0, 0.1, 0.5, 1.0, -0.5])
PRECISE = 1e-8
"""Panels and Gauss–Hermite sums give about eleven digits of each term; the terms of a bound cancel."""


class Model:
    """ε_θ(x, t) = slope·x and σ_t² = β_t: the reverse chain p(x_{t−1} | x_t) = N(a_t·x_t, β_t) that it means."""

    def __init__(self, beta, slope):
        self.beta, self.slope, self.T, self.schedule = beta, slope, len(beta), schedule_of(beta)
        self.var = bound.reverse_variance(self.schedule, "beta")
        one = np.ones(1)
        self.a = [R.mean_from_eps(one, slope * one, t, beta)[0] for t in range(1, self.T + 1)]
        self.chain = (beta, self.a, np.zeros(self.T), np.sqrt(beta))

    def nodes(self, x0, times):
        """Points (n, 1) for each time and weights: Gauss–Hermite, exact for the squares that the terms are."""
        mean, cov = oracle.forward_joint(self.beta, [x0], [[0.0]])
        points, weights = gaussian_nodes(mean[times], cov[np.ix_(times, times)], 3)
        return *np.ascontiguousarray(points.T)[:, :, None], weights

    def reconstruction(self, x0):
        x1, w = self.nodes(x0, [1])
        known = np.full_like(x1, x0)
        return w @ bound.reconstruction_term(self.schedule, known, x1, self.slope * x1, self.var, None)

    def elbo(self, x0):
        """By eq. (1) of the library."""
        total = bound.prior_term(self.schedule, point(x0))[0] + self.reconstruction(x0)
        for t in range(2, self.T + 1):
            xt, w = self.nodes(x0, [t])
            known = np.full_like(xt, x0)
            total += w @ bound.transition_term(self.schedule, known, xt, self.slope * xt, t, self.var)
        return -total

    def elbo_neighbours(self, x0):
        """By eq. (5) of the library."""
        before, w = self.nodes(x0, [self.T - 1])
        total = w @ bound.last_step_term(self.schedule, before) + self.reconstruction(x0)
        for t in range(1, self.T):
            a, b, c, w = self.nodes(x0, [t - 1, t, t + 1])
            total += w @ bound.neighbour_term(self.schedule, a, b, c, self.slope * c, t, self.var)
        return -total


@slip("slip.bound_equality", beta=betas(1, 3), slope=SLOPES, x0=SMALL)
def bound_equality(beta, slope, x0):
    """log p(x_0) against its bound: what lies between is KL(q(x_{1:T} | x_0) ‖ p(x_{1:T} | x_0)) ≥ 0."""
    model = Model(beta, slope)
    mean, cov = oracle.forward_joint(beta, [x0], [[0.0]])
    gap = kl_gaussian_hermite(mean[1:], cov[1:, 1:], *condition(*B.reverse_joint(*model.chain[1:]), [0], [x0]))
    return Forms(model.elbo(x0), model.elbo(x0) + gap, B.evidence(x0, *model.chain[1:]), PRECISE, PRECISE)


@pytest.mark.slip("slip.bound_equality")
@given(beta=betas(1, 3), slope=SLOPES, x0=SMALL)
def test_the_bound_is_at_most_the_evidence(beta, slope, x0):
    model = Model(beta, slope)
    at_most(model.elbo(x0) - B.evidence(x0, *model.chain[1:]), PRECISE)


@slip("slip.neighbour_terms", beta=betas(1, 3), slope=SLOPES, x0=SMALL)
def neighbour_terms(beta, slope, x0):
    """The bound over neighbours: with KL divergences in it, it is another number, at T = 2 already."""
    model = Model(beta, slope)
    printed = -B.bound_by_neighbours_as_printed(x0, *model.chain).total
    return Forms(printed, model.elbo_neighbours(x0), -B.bound_direct(x0, *model.chain), PRECISE, PRECISE)


@slip("slip.prior_matching", beta=betas(1, 4), x0=SMALL)
def prior_matching(beta, x0):
    """KL(q(x_T | x_0) ‖ N(0, 1)) of a chain of finite length."""
    gain, var = carried(beta)
    holds = bound.prior_term(schedule_of(beta), point(x0))[0]
    return Forms(0.0, holds, oracle.kl_panels(stats.norm(gain * x0, sqrt(var)), stats.norm()), atol=1e-10)


@pytest.mark.slip("slip.prior_matching")
@given(beta=betas(1, 4), x0=SMALL, times=st.integers(1, 20))
def test_prior_matching_goes_with_alpha_bar(beta, x0, times):
    """KL = ½(ᾱ_T·x_0² − ᾱ_T − log(1−ᾱ_T)) ≤ ½(ᾱ_T·x_0² + ᾱ_T²/(1−ᾱ_T)): 0 in the limit ᾱ_T → 0, and only there."""
    bar = carried(beta * times)[0] ** 2
    found = bound.prior_term(schedule_of(beta * times), point(x0))[0]
    at_most(found, 0.5 * (bar * x0**2 + bar**2 / (1 - bar)) + 1e-15)
    at_most(-found, 0.0)


@slip("slip.simple_loss", beta=betas(2, 3), choice=st.sampled_from(["beta", "beta_tilde"]), eps=SMALL, guess=SMALL)
def simple_loss(beta, choice, eps, guess):
    """L_{t−1} for a network that says `guess` where ε is true: a weight stands before the square.

    A constant stands beside it too, which is granted here to the printed form: no gradient sees it.
    The truth: the network claims another x_0, hence another posterior mean; the divergence is integrated.
    """
    t, schedule = len(beta), schedule_of(beta)
    gain, var = carried(beta)
    xt = sqrt(var) * eps  # x_0 = 0
    (true_mean,), true_var = oracle.posterior(beta, t, [0.0], [xt])
    (mean,), _ = oracle.posterior(beta, t, [(xt - sqrt(var) * guess) / gain], [xt])
    sigma = bound.reverse_variance(schedule, choice)
    ratio = true_var[0, 0] / sigma[t]
    truth = oracle.kl_panels(stats.norm(true_mean, sqrt(true_var[0, 0])), stats.norm(mean, sqrt(sigma[t])))
    constant, square = 0.5 * (ratio - 1 - log(ratio)), (eps - guess) ** 2
    weight = bound.simple_weight(schedule, sigma)[t]
    return Forms(square + constant, weight * square + constant, truth, atol=1e-10)


@slip("slip.ddim_bound", beta=betas(2, 3), eta=st.sampled_from([0.5, *(k / 10 for k in range(1, 11))]))
def ddim_bound(beta, eta):
    """The weight of (ε − ε_θ)² in KL(q_σ(x_{t−1} | x_t, x_0) ‖ q_σ(x_{t−1} | x_t, x̂_0)): DDPM's only for η = 1.

    The truth: both Gaussians as the sampler makes them, the divergence integrated.
    """
    t, schedule = len(beta), schedule_of(beta)
    bar, before = R.alpha_bar(beta, t), R.alpha_bar(beta, t - 1)
    sigma = R.ddim_sigma(beta, t, t - 1, eta)
    zero, one = np.zeros(1), np.ones(1)
    told = [R.ddim_step(zero, eps, zero, t, t - 1, beta, eta)[0] for eps in (zero, one)]
    truth = oracle.kl_panels(stats.norm(told[0], sigma), stats.norm(told[1], sigma))
    ddpm = bound.simple_weight(schedule, bound.reverse_variance(schedule, "beta_tilde"))
    holds = (sqrt(before * (1 - bar) / bar) - sqrt(max(1 - before - sigma**2, 0))) ** 2 / (2 * sigma**2)
    return Forms(ddpm[t], holds, truth)


@slip("slip.log_evidence", prior=st.integers(1, 9), fits=TENTHS, misfits=TENTHS, q=TENTHS)
def log_evidence(prior, fits, misfits, q):
    """∫ Q(c | x) log P(x) dc for a code c of one bit: log P(x), whatever Q is.  The truth: the two codes, counted."""
    joint = np.array([prior / 10 * fits, (1 - prior / 10) * misfits])  # P(x, c)
    codes = lambda p: np.log(np.asarray(p, float))[None]  # noqa: E731
    posterior, belief = codes(joint / joint.sum()), codes([q, 1 - q])
    first = q * log(fits) + (1 - q) * log(misfits)  # E_Q log P(x | c)
    elbo = latent.elbo(np.array([first]), categorical.kl(belief, codes([prior / 10, 1 - prior / 10])))
    holds = elbo + categorical.kl(belief, posterior)
    return Forms(printed=joint.sum(), holds=holds[0], truth=log(joint.sum()))
