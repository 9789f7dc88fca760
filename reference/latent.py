"""Models with latents whose evidence is exact: linear-Gaussian chains by linear algebra, discrete z by enumeration.

A chain of latents over what is seen, written downwards as steps (W, c, v), W (d_{t−1}, d_t):

    z_T ~ N(0, I),   z_{t−1} = W z_t + c + N(0, diag v),   z_0 = x;   down = [step 1, …, step T]

is one big Gaussian vector (x, z_1, …, z_T); so is (z_1, …, z_T) under q, given x, with up = [(W, c, v), …] for
z_t = W z_{t−1} + c + N(0, diag v). Here both are written down whole. Evidence is a marginal of the first, the
posterior a conditional, and a bound the mean under q of one log-density less another: no factorisation, no
divergence between kernels, no closed form of a divergence. T = 1 is a variational autoencoder.

With discrete z everything is a finite sum, taken in rational arithmetic: a weight p(x, z)/q(z) is a fraction, and
the only rounding is that of the last logarithm.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
from scipy import linalg, stats

from reference.distributions import kl_gaussian_hermite
from reference.gaussian import condition, regression
from reference.quadrature import gaussian_expectation, integrate_panels, spread_edges

Steps = Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]


def stacked(steps: Steps, mean, cov) -> tuple[np.ndarray, np.ndarray, list[slice]]:
    """Mean and covariance of y_0, …, y_n and the place of each; y_0 ~ N(mean, cov), y_k = W y_{k−1} + c + N(0, diag v).

    As `reference.gaussian.chain_joint`, one linear system (I − S) y = c + w; but each y_k may have its own length.
    """
    sizes = [len(np.atleast_1d(mean)), *(len(c) for _, c, _ in steps)]
    places = [slice(end - size, end) for size, end in zip(sizes, itertools.accumulate(sizes), strict=True)]
    total = sum(sizes)
    system, noise, source = np.eye(total), np.zeros((total, total)), np.zeros(total)
    source[places[0]], noise[places[0], places[0]] = mean, cov
    for (before, here), (W, c, v) in zip(itertools.pairwise(places), steps, strict=True):
        system[here, before] = -np.asarray(W)
        source[here], noise[here, here] = c, np.diag(v)
    inverse = linalg.solve_triangular(system, np.eye(total), lower=True)
    return inverse @ source, inverse @ noise @ inverse.T, places


def joint(down: Steps) -> tuple[np.ndarray, np.ndarray, int]:
    """Mean and covariance of (x, z_1, …, z_T) under p, and the length of x."""
    d = np.asarray(down[-1][0]).shape[1]
    mean, cov, places = stacked(list(down)[::-1], np.zeros(d), np.eye(d))
    order = np.concatenate([np.arange(len(mean))[place] for place in reversed(places)])
    return mean[order], cov[np.ix_(order, order)], len(down[0][1])


def evidence(x, down: Steps) -> float:
    """log p(x), exact: the first marginal of the joint."""
    mean, cov, n = joint(down)
    return float(stats.multivariate_normal.logpdf(x, mean[:n], cov[:n, :n]))


def posterior(x, down: Steps) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of (z_1, …, z_T) given x under p."""
    mean, cov, n = joint(down)
    return condition(mean, cov, list(range(n)), x)


def encoded(x, up: Steps) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of (z_1, …, z_T) given x under q."""
    x = np.atleast_1d(np.asarray(x, dtype=np.float64))
    mean, cov, _ = stacked(up, x, np.zeros((len(x), len(x))))
    return mean[len(x):], cov[len(x):, len(x):]


def elbo(x, up: Steps, down: Steps) -> float:
    """E_q[log p(x, z) − log q(z|x)], the definition: two log-densities of whole vectors at q's Gauss–Hermite nodes.

    Their difference is quadratic, so order 2 is exact; 3 leaves room to see it.
    """
    mean, cov, _ = joint(down)
    p = stats.multivariate_normal(mean, cov)
    q_mean, q_cov = encoded(x, up)
    q = stats.multivariate_normal(q_mean, q_cov)

    def log_ratio(z):
        return p.logpdf(np.concatenate([np.tile(x, (len(z), 1)), z], axis=1)) - q.logpdf(z)

    return gaussian_expectation(log_ratio, q_mean, q_cov, order=3)


def gap(x, up: Steps, down: Steps) -> float:
    """KL(q(z|x) ‖ p(z|x)): by how much the bound falls short. The posterior is conditioned, not derived."""
    return kl_gaussian_hermite(*encoded(x, up), *posterior(x, down), order=3)


def exact_up(x, down: Steps) -> Steps:
    """The q that is the posterior, as a chain: the regression of each z_t on z_{t−1} given x, and what it leaves.

    Given x, z_1 … z_T are still a Markov chain, so the earlier ones add nothing to the prediction.
    """
    mean, cov = posterior(x, down)
    places = np.split(np.arange(len(mean)), np.cumsum([np.asarray(W).shape[1] for W, _, _ in down])[:-1])
    first = places[0]
    up = [(np.zeros((len(first), len(x))), mean[first], np.diag(cov[np.ix_(first, first)]))]
    for before, here in itertools.pairwise(places):
        pair = np.concatenate([before, here])
        gain, _ = regression(cov[np.ix_(pair, pair)], range(len(before)))
        left = cov[np.ix_(here, here)] - gain @ cov[np.ix_(before, here)]
        up.append((gain, mean[here] - gain @ mean[before], np.diag(left)))
    return up


def marginal(x, up: Steps, t: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of z_t given x under q, cut out of the whole; all latents of x's length."""
    mean, cov = encoded(x, up)
    here = slice((t - 1) * len(x), t * len(x))
    return mean[here], cov[here, here]


def reversed_step(x, zt, up: Steps, t: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of z_{t−1} given z_t and x under q, t ≥ 2, by conditioning; all latents of x's length."""
    mean, cov = encoded(x, up)
    d = len(x)
    pair = np.arange((t - 2) * d, t * d)
    return condition(mean[pair], cov[np.ix_(pair, pair)], list(range(d, 2 * d)), zt)


# One latent number, any likelihood.

def evidence_quad(log_lik: Callable, panels: int = 60) -> float:
    """log ∫ p(x|z) N(z; 0, 1) dz; log_lik takes an array of z."""
    def integrand(z):
        return np.exp(log_lik(z) + stats.norm.logpdf(z))
    return math.log(integrate_panels(integrand, spread_edges(0.0, 1.0, panels=panels)))


def elbo_quad(log_lik: Callable, mu: float, sigma: float, panels: int = 60) -> float:
    """∫ q(z) (log p(x|z) + log p(z) − log q(z)) dz for q = N(mu, sigma²): undecomposed, by quadrature."""
    q = stats.norm(mu, sigma)

    def integrand(z):
        return q.pdf(z) * (log_lik(z) + stats.norm.logpdf(z) - q.logpdf(z))

    return integrate_panels(integrand, spread_edges(mu, sigma, panels=panels))


def gap_quad(log_lik: Callable, mu: float, sigma: float, panels: int = 60) -> float:
    """∫ q log(q/p(z|x)) dz, the posterior being p(x|z)p(z) normalised by quadrature."""
    q, log_z = stats.norm(mu, sigma), evidence_quad(log_lik, panels)

    def integrand(z):
        return q.pdf(z) * (q.logpdf(z) - (log_lik(z) + stats.norm.logpdf(z) - log_z))

    return integrate_panels(integrand, spread_edges(mu, sigma, panels=panels))


# Discrete z: p(z), p(x|z) at the x that is seen, and q(z|x), as rows of floats, read as exact fractions.

def _exact(row) -> list[Fraction]:
    return [Fraction(float(v)) for v in row]


def discrete_evidence(prior, likelihood) -> float:
    """log Σ_z p(z) p(x|z)."""
    return math.log(sum(a * b for a, b in zip(_exact(prior), _exact(likelihood), strict=True)))


def discrete_posterior(prior, likelihood) -> np.ndarray:
    """p(z|x) by Bayes' rule."""
    product = [a * b for a, b in zip(_exact(prior), _exact(likelihood), strict=True)]
    return np.array([float(v / sum(product)) for v in product])


def importance_table(prior, likelihood, q, K: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All K-tuples of latents (n, K), the probability of each under q (n,), and log (1/K) Σ_k p(x, z_k)/q(z_k) (n,).

    K = 1 is the plain bound. The mean weight is a fraction; its logarithm is the only rounding.
    """
    prior, likelihood, q = _exact(prior), _exact(likelihood), _exact(q)
    weight = [a * b / c for a, b, c in zip(prior, likelihood, q, strict=True)]
    tuples = list(itertools.product(range(len(q)), repeat=K))
    probability = [float(math.prod(q[z] for z in zs)) for zs in tuples]
    logs = [math.log(sum(weight[z] for z in zs) / K) for zs in tuples]
    return np.array(tuples), np.array(probability), np.array(logs)


def importance_bound(prior, likelihood, q, K: int) -> float:
    """E_q log (1/K) Σ_k p(x, z_k)/q(z_k), by enumeration of all K-tuples."""
    _, probability, logs = importance_table(prior, likelihood, q, K)
    return math.fsum(probability * logs)
