"""What score matching minimises, by quadrature and finite differences.

Densities and fields are plain functions of NumPy arrays. The score of a density is differentiated numerically,
a trace is that of a numeric Jacobian, an expectation is a sum over the nodes of a quadrature rule: no integration
by parts, which is what score matching rests on, and no closed form of a mixture's score.
"""

from collections.abc import Callable, Sequence

import numpy as np
from scipy import linalg, stats

from reference.denoisers import expectation_given
from reference.derivatives import directional, jacobian
from reference.quadrature import gaussian_nodes, panel_nodes


def trace(field: Callable, x) -> float:
    """tr ∇s at one point x (d,), from the numeric Jacobian, entry by entry."""
    return float(np.trace(jacobian(field, np.atleast_1d(x))))


def quadratic_form(field: Callable, x, v) -> float:
    """vᵀ∇s(x)v at one point: how fast v·s grows along v."""
    return float(directional(lambda x: np.dot(v, field(x)), np.atleast_1d(x), v))


def score_1d(log_p: Callable, x) -> np.ndarray:
    """d log p/dx, elementwise, by extrapolated central differences."""
    x = np.asarray(x, dtype=np.float64)
    return directional(log_p, x, np.ones_like(x))


def average_1d(f: Callable, log_p: Callable, edges: Sequence[float]) -> float:
    """E f(x), x ~ p, by Gauss–Legendre on panels. f and log_p take flat arrays; p need not be normalised."""
    x, w = panel_nodes(edges)
    p = w * np.exp(log_p(x))
    return float(p @ f(x) / p.sum())


def fisher_1d(s: Callable, log_p: Callable, edges: Sequence[float]) -> float:
    """½E(d log p/dx − s)², the divergence of Fisher, as it is defined."""
    return average_1d(lambda x: (score_1d(log_p, x) - s(x)) ** 2 / 2, log_p, edges)


def grid_2d(reach: float = 13.0, spacing: float = 0.125) -> np.ndarray:
    """Points (n, 2) of an even grid over the square |x_i| ≤ reach.

    Sums over them times spacing² converge exponentially for what is analytic and vanishes at the edge: the error is
    e^(−2πδ/spacing), δ how far from the real axis the integrand's nearest pole lies.
    """
    axis = np.linspace(-reach, reach, round(2 * reach / spacing) + 1)
    return np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)


def average_2d(values: np.ndarray, log_p: Callable) -> float:
    """E f(x), x ~ p, from the values f (n,) on `grid_2d`. log_p takes points (n, 2); p need not be normalised."""
    p = np.exp(log_p(grid_2d()))
    return float(p @ values / p.sum())


def fisher_2d(s: Callable, log_p: Callable) -> float:
    """½E‖∇log p − s‖² in the plane, with a numeric gradient of log p. s and log_p take points (n, 2)."""
    x = grid_2d()
    value = s(x)
    apart = [directional(log_p, x, np.broadcast_to(unit, x.shape)) - value[:, i] for i, unit in enumerate(np.eye(2))]
    return average_2d((apart[0] ** 2 + apart[1] ** 2) / 2, log_p)


def fisher_gaussian(A, b, mean, cov) -> float:
    """Fisher's divergence between N(mean, cov) and the linear score s(x) = A x + b, by Gauss–Hermite (exact)."""
    nodes, weights = gaussian_nodes(mean, cov, order=3)
    apart = -linalg.solve(cov, (nodes - mean).T).T - (nodes @ np.asarray(A).T + b)
    return float(weights @ (apart**2).sum(axis=1) / 2)


def mean_target(xt: float, log_prior: Callable, sigma: float, low: float, high: float) -> float:
    """E[∇log N(x̃; x, σ²) | x̃] in one dimension, over the posterior of x: the score of x̃ (Vincent 2011).

    The inner gradient is a numeric derivative of scipy's density.
    """
    def target(x0):
        return score_1d(lambda x: stats.norm.logpdf(x, x0, sigma), np.full_like(x0, xt))
    return expectation_given(target, xt, log_prior, 1.0, sigma, low, high)


def denoising_1d(s: Callable, log_p: Callable, sigma: float, edges: Sequence[float]) -> float:
    """E σ²·½(s(x̃) − d/dx̃ log N(x̃; x, σ²))² over x ~ p and x̃ ~ N(x, σ²), by quadrature in both."""
    x, w = panel_nodes(edges)
    p = w * np.exp(log_p(x))
    nodes, weights = gaussian_nodes(0.0, sigma**2, order=40)
    total = 0.0
    for shift, weight in zip(nodes[:, 0], weights, strict=True):
        target = score_1d(lambda y: stats.norm.logpdf(y, x, sigma), x + shift)
        total += weight * float(p @ (s(x + shift) - target) ** 2)
    return sigma**2 / 2 * total / float(p.sum())
