"""The forward diffusion chain, its posterior, and the weight of a noise prediction.

Times run t = 0 … T, where x₀ is data; `beta[t-1]` is β_t. A one-step kernel

    q(x_t | x_{t−1}) = N(√(1−β_t) x_{t−1}, β_t I)

is the only fact about diffusion used here. The marginal q(x_t | x₀) comes from composing kernels as matrices,
the posterior from conditioning the joint Gaussian (or from Bayes' rule on a grid), and the weights of the
noise-prediction loss from divergences evaluated by quadrature. ᾱ, μ̃ and β̃, with which papers and library
abbreviate these, occur nowhere in this file.
"""

import math
from collections.abc import Callable

import numpy as np
from scipy import stats

from reference.gaussian import chain_joint, condition, regression
from reference.quadrature import integrate, integrate_panels, panel_nodes, spread_edges


def forward_chain(beta, x0) -> tuple[np.ndarray, np.ndarray]:
    """Means (T+1, d) and covariances (T+1, d, d) of x_t given x0 (d,), pushing moments through each kernel.

        mean ← F mean,   cov ← F cov Fᵀ + Q,   F = √(1−β_t) I,   Q = β_t I
    """
    mean = np.atleast_1d(np.asarray(x0, dtype=np.float64))
    cov = np.zeros((mean.size, mean.size))
    means, covs = [mean], [cov]
    for b in np.asarray(beta, dtype=np.float64):
        F, Q = math.sqrt(1 - b) * np.eye(mean.size), b * np.eye(mean.size)
        mean, cov = F @ mean, F @ cov @ F.T + Q
        means.append(mean)
        covs.append(cov)
    return np.stack(means), np.stack(covs)


def continuous_decay(rate: Callable[[float], float], u: float) -> float:
    """What is left of x₀'s square at time u when kernels grow ever more and ever weaker, β = rate(u)·du each.

    Its logarithm falls at that rate, so it is integrated.
    """
    return math.exp(-integrate(rate, [0.0, u])) if u else 1.0


def forward_joint(beta, mean, cov) -> tuple[np.ndarray, np.ndarray]:
    """Joint mean and covariance of (x₀, x₁, …, x_T), stacked, for x₀ ~ N(mean, cov); cov = 0 fixes x₀."""
    d = np.atleast_1d(mean).size
    eye = np.eye(d)
    return chain_joint([math.sqrt(1 - b) * eye for b in beta], [np.zeros(d)] * len(beta),
                       [b * eye for b in beta], mean, cov)


def posterior(beta, t: int, x0, xt, s: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Mean (d,) and covariance (d, d) of x_s given x_t and x₀, for t = 1 … T and s < t; without s, of x_{t−1}.

    The pair (x_s, x_t) given x₀ is cut out of the chain's joint Gaussian and conditioned on x_t.
    """
    x0 = np.atleast_1d(np.asarray(x0, dtype=np.float64))
    d, s = x0.size, t - 1 if s is None else s
    mean, cov = forward_joint(beta, x0, np.zeros((d, d)))
    pair = np.concatenate([np.arange(s * d, (s + 1) * d), np.arange(t * d, (t + 1) * d)])
    return condition(mean[pair], cov[np.ix_(pair, pair)], list(range(d, 2 * d)), xt)


def posterior_gains(beta, t: int) -> tuple[float, float, float]:
    """A, B and variance of x_{t−1} | x_t, x₀ ~ N(A x_t + B x₀, variance), as a linear regression.

    x₀ is given the prior N(0, 1); then (x₀, x_{t−1}, x_t) is a Gaussian triple and A, B are the coefficients
    of regressing the middle one on the outer two. The prior's choice cannot matter, for x₀ is conditioned on.
    At t = 1 the middle one is x₀ itself: (0, 1, 0).
    """
    if t == 1:
        return 0.0, 1.0, 0.0
    _, cov = forward_joint(beta, [0.0], [[1.0]])
    triple = [0, t - 1, t]
    cov = cov[np.ix_(triple, triple)]
    gain, _ = regression(cov, [0, 2])
    return float(gain[0, 1]), float(gain[0, 0]), float(cov[1, 1] - gain[0] @ cov[[0, 2], 1])


def posterior_on_grid(beta, t: int, x0: float, xt: float) -> tuple[float, float]:
    """Mean and variance of x_{t−1} | x_t, x₀ in one dimension by Bayes' rule on a grid, t ≥ 2.

    posterior ∝ q(x_{t−1} | x₀) · q(x_t | x_{t−1}), normalised by quadrature. The panels cover 14 deviations
    of whichever factor is narrower around the product's top, which is looked for on a coarse grid.
    """
    means, covs = forward_chain(beta, [x0])
    mean, deviation = means[t - 1, 0], math.sqrt(covs[t - 1, 0, 0])
    b = float(beta[t - 1])
    shrink = math.sqrt(1 - b)

    def log_product(x):
        return (stats.norm.logpdf(x, mean, deviation)
                + stats.norm.logpdf(xt, shrink * x, math.sqrt(b)))

    width = min(deviation, math.sqrt(b) / shrink)
    coarse = np.linspace(min(mean, xt / shrink) - width, max(mean, xt / shrink) + width, 4001)
    top = coarse[np.argmax(log_product(coarse))]
    reach = 14 * width + (coarse[1] - coarse[0])
    x, w = panel_nodes(np.linspace(top - reach, top + reach, 121))
    density = np.exp(log_product(x) - log_product(top)) * w
    density /= density.sum()
    centre = float(density @ x)
    return centre, float(density @ (x - centre) ** 2)


def noise_weight(beta, t: int, var: float, eps: float = 0.3, eps_theta: float = -0.8,
                 x0: float = 0.4) -> float:
    """The factor w in L_{t−1} = w·(ε − ε_θ)² + const, for reverse variance `var`, measured; t ≥ 2.

    A model that predicts ε_θ instead of ε claims another x₀, and with it the posterior of that x₀. Here both
    posteriors are conditioned from the chain and both divergences integrated; the difference between the
    divergence at ε_θ and at ε itself, per squared error, is the weight.
    """
    means, covs = forward_chain(beta, [1.0])
    gain, deviation = means[t, 0], math.sqrt(covs[t, 0, 0])
    xt = gain * x0 + deviation * eps
    q_mean, q_cov = posterior(beta, t, [x0], [xt])
    p_mean, _ = posterior(beta, t, [(xt - deviation * eps_theta) / gain], [xt])
    q = stats.norm(q_mean[0], math.sqrt(q_cov[0, 0]))
    at_theta = kl_panels(q, stats.norm(p_mean[0], math.sqrt(var)))
    at_eps = kl_panels(q, stats.norm(q_mean[0], math.sqrt(var)))
    return (at_theta - at_eps) / (eps - eps_theta) ** 2


def kl_panels(q, p) -> float:
    """KL between two frozen scipy Gaussians by fixed quadrature."""
    return integrate_panels(lambda x: q.pdf(x) * (q.logpdf(x) - p.logpdf(x)), spread_edges(q.mean(), q.std()))
