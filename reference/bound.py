"""The variational bound of a diffusion, in three forms, beside the evidence it bounds.

The model is linear-Gaussian, in one dimension, so that its evidence is exact:

    p(x_T) = N(0, 1),   p(x_{t−1} | x_t) = N(a_t x_t + b_t, s_t²),   a[t-1], b[t-1], s[t-1] for t = 1 … T

and `beta[t-1]` is β_t of the forward chain. Whatever computes a bound for a network can be given such a mean
instead. All numbers are negative bounds in nats, so −log p(x₀) ≤ each of them, with equality when the model
is the forward chain reversed. The three forms share the one-step kernels and nothing else.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy import stats

from reference.diffusion import forward_chain, forward_joint, kl_panels, posterior
from reference.gaussian import chain_joint
from reference.quadrature import gaussian_expectation


def reverse_joint(a, b, s) -> tuple[np.ndarray, np.ndarray]:
    """Joint mean and covariance of (x₀, x₁, …, x_T) under the reverse model, in that order."""
    steps = range(len(a) - 1, -1, -1)
    mean, cov = chain_joint([[[a[i]]] for i in steps], [[b[i]] for i in steps],
                            [[[s[i] ** 2]] for i in steps], [0.0], [[1.0]])
    return mean[::-1].copy(), cov[::-1, ::-1].copy()


def evidence(x0, a, b, s) -> np.ndarray:
    """log p(x₀), exact: the first marginal of the joint. Elementwise in x0."""
    mean, cov = reverse_joint(a, b, s)
    return stats.norm.logpdf(x0, mean[0], math.sqrt(cov[0, 0]))


class Bound(NamedTuple):
    """A negative variational bound, term by term."""
    prior: float               # what compares x_T with p(x_T)
    steps: list[float]         # one for each of the T − 1 steps between
    reconstruction: float      # L₀ = −E_q log p(x₀ | x₁)

    @property
    def total(self) -> float:
        return math.fsum([self.prior, *self.steps, self.reconstruction])


def bound_direct(x0: float, beta, a, b, s) -> float:
    """−E_q[log p(x_{0:T}) − log q(x_{1:T} | x₀)], the definition, undecomposed (Ho et al. 2020, eq. 3).

    Both are Gaussians, in T+1 and T dimensions: E_q of the quadratic log p is a trace and a square, and the
    mean of −log q is q's entropy ½ log det(2πe Σ). No per-step term is ever formed.
    """
    q_mean, q_cov = forward_joint(beta, [x0], [[0.0]])
    p_mean, p_cov = reverse_joint(a, b, s)
    apart = q_mean - p_mean
    square = np.trace(np.linalg.solve(p_cov, q_cov)) + apart @ np.linalg.solve(p_cov, apart)
    log_p = -(square + np.linalg.slogdet(2 * math.pi * p_cov)[1]) / 2
    entropy = np.linalg.slogdet(2 * math.pi * math.e * q_cov[1:, 1:])[1] / 2
    return float(-(log_p + entropy))


def bound_by_kl(x0: float, beta, a, b, s) -> Bound:
    """L_T + Σ_{t=2}^T L_{t−1} + L₀ (Ho et al. 2020, eq. 5).

        L_T = KL(q(x_T | x₀) ‖ p(x_T))
        L_{t−1} = E_{q(x_t|x₀)} KL(q(x_{t−1} | x_t, x₀) ‖ p(x_{t−1} | x_t))

    Divergences by quadrature inside a Gauss–Hermite sum over x_t; posteriors by conditioning.
    """
    T = len(beta)
    means, covs = forward_chain(beta, [x0])

    def divergence(t: int, xt: float) -> float:
        mean, cov = posterior(beta, t, [x0], [xt])
        return kl_panels(stats.norm(mean[0], math.sqrt(cov[0, 0])), stats.norm(a[t-1] * xt + b[t-1], s[t-1]))

    prior = kl_panels(stats.norm(means[T, 0], math.sqrt(covs[T, 0, 0])), stats.norm(0, 1))
    steps = [gaussian_expectation(lambda x, t=t: [divergence(t, xt) for xt in x[:, 0]], means[t], covs[t],
                                  order=3) for t in range(2, T + 1)]
    return Bound(prior, steps, _reconstruction(x0, beta, a, b, s))


def bound_by_neighbours(x0: float, beta, a, b, s) -> Bound:
    """The form that compares each step with the step opposite it, before q is turned round by Bayes' rule.

        E KL(q(x_T | x_{T−1}) ‖ p(x_T)) + L₀
            + Σ_{t=1}^{T−1} E_{q(x_{t−1}, x_t, x_{t+1} | x₀)}[log q(x_t | x_{t−1}) − log p(x_t | x_{t+1})]

    `steps` holds t = 1 … T−1. Its terms are no divergences and may be negative. Gauss–Hermite over the
    triple, which is cut out of the chain's joint (singular at t = 1, since x₀ is given).
    """
    T = len(beta)
    mean, cov = forward_joint(beta, [x0], [[0.0]])
    steps = []
    for t in range(1, T):
        def log_ratio(x, t=t):
            return (stats.norm.logpdf(x[:, 1], math.sqrt(1 - beta[t - 1]) * x[:, 0], math.sqrt(beta[t - 1]))
                    - stats.norm.logpdf(x[:, 1], a[t] * x[:, 2] + b[t], s[t]))
        triple = [t - 1, t, t + 1]
        steps.append(gaussian_expectation(log_ratio, mean[triple], cov[np.ix_(triple, triple)], order=3))
    return Bound(_last_kernel(x0, beta), steps, _reconstruction(x0, beta, a, b, s))


def bound_by_neighbours_as_printed(x0: float, beta, a, b, s) -> Bound:
    """What is often printed for the form above, and is not equal to it.

        Σ_{t=1}^{T−1} E_{q(x_{t−1}, x_{t+1} | x₀)} KL(q(x_t | x_{t−1}) ‖ p(x_t | x_{t+1}))

    Under q the middle variable, given its two neighbours, is q(x_t | x_{t−1}, x_{t+1}). The divergence
    averages it over q(x_t | x_{t−1}) instead, as if x_{t+1} had not been made from x_t. The difference is the
    lost covariance, Σ a_{t+1} Cov(x_t, x_{t+1} | x_{t−1})/s²_{t+1}, which has a's sign.

    It still lies above −log p(x₀). Its pairs (x_t, x_{t+1}) have q's marginals but less covariance; they are
    the pairs of a Gaussian Markov chain r with more entropy than q, and the number equals r's own bound,
    E_r[−log p(x_{0:T})] − H(r) ≥ −log p(x₀), plus H(r) − H(q) > 0. But that surplus never vanishes, so
    unlike the bound it is not tight for the chain reversed, and minimising it prefers another model. At T = 1
    there are no such terms.
    """
    T = len(beta)
    mean, cov = forward_joint(beta, [x0], [[0.0]])

    def divergence(t: int, before: float, after: float) -> float:
        q = stats.norm(math.sqrt(1 - beta[t - 1]) * before, math.sqrt(beta[t - 1]))
        return kl_panels(q, stats.norm(a[t] * after + b[t], s[t]))

    steps = []
    for t in range(1, T):
        pair = [t - 1, t + 1]
        steps.append(gaussian_expectation(lambda x, t=t: [divergence(t, *row) for row in x], mean[pair],
                                          cov[np.ix_(pair, pair)], order=3))
    return Bound(_last_kernel(x0, beta), steps, _reconstruction(x0, beta, a, b, s))


def _last_kernel(x0: float, beta) -> float:
    """E_{q(x_{T−1}|x₀)} KL(q(x_T | x_{T−1}) ‖ p(x_T)): a true KL, since p(x_T) depends on no neighbour."""
    means, covs = forward_chain(beta, [x0])
    b = float(beta[-1])

    def divergence(before: float) -> float:
        return kl_panels(stats.norm(math.sqrt(1 - b) * before, math.sqrt(b)), stats.norm(0, 1))

    return gaussian_expectation(lambda x: [divergence(v) for v in x[:, 0]], means[-2], covs[-2], order=3)


def _reconstruction(x0: float, beta, a, b, s) -> float:
    means, covs = forward_chain(beta, [x0])

    def log_p(x):
        return stats.norm.logpdf(x0, a[0] * x[:, 0] + b[0], s[0])

    return -gaussian_expectation(log_p, means[1], covs[1], order=3)
