"""Divergences of two densities in the plane, and the Gaussians that make them least.

The integrals are sums over an even grid, with densities from scipy.stats: for what is smooth and has vanished at the
border, the error falls faster than any power of the spacing. The best Gaussians are found by a minimiser that knows
nothing of moments or modes: it turns the five numbers of a Gaussian until the integral is least.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import optimize, special, stats

LogDensity = Callable[[np.ndarray], np.ndarray]
"""Points (…, 2) ↦ log-density (…)."""


class Nodes(NamedTuple):
    """Points (N, 2) in the plane, and the areas (N,) that they stand for."""

    points: np.ndarray
    weights: np.ndarray


def plane(low: Sequence[float], high: Sequence[float], counts: Sequence[int]) -> Nodes:
    """The centres of the cells of an even grid on a rectangle, each with the area of its cell."""
    sides = [(b - a) / n for a, b, n in zip(low, high, counts, strict=True)]
    axes = [a + side * (np.arange(n) + 0.5) for a, side, n in zip(low, sides, counts, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    return Nodes(points, np.full(len(points), sides[0] * sides[1]))


def kl(log_p: LogDensity, log_q: LogDensity, nodes: Nodes) -> float:
    """∫∫ p log(p/q), by scipy's elementwise relative entropy; an infinity where q vanishes and p does not."""
    p, q = np.exp(log_p(nodes.points)), np.exp(log_q(nodes.points))
    return float(nodes.weights @ special.rel_entr(p, q))


def js(log_p: LogDensity, log_q: LogDensity, nodes: Nodes) -> float:
    """The entropy of the average of p and q, less the average of their entropies."""
    p, q = np.exp(log_p(nodes.points)), np.exp(log_q(nodes.points))
    surplus = special.entr((p + q) / 2) - (special.entr(p) + special.entr(q)) / 2
    return float(nodes.weights @ surplus)


class Fit(NamedTuple):
    """A Gaussian, mu (2,) and cov (2, 2), and the divergence it leaves."""

    mu: np.ndarray
    cov: np.ndarray
    divergence: float


def fit(divergence: Callable[[LogDensity], float], mu, cov) -> Fit:
    """The Gaussian q that makes divergence(log q) least, from the start N(mu, cov).

    BFGS on numeric slopes, over the mean and the logarithm of the covariance, a symmetric matrix: any five numbers are
    a Gaussian. The place is known to about 1e-7, the root of what a divergence is rounded to.
    """
    def gaussian(v):
        eigenvalue, axes = np.linalg.eigh(np.array([[v[2], v[3]], [v[3], v[4]]]))
        return v[:2], (axes * np.exp(eigenvalue)) @ axes.T

    def loss(v):
        return divergence(stats.multivariate_normal(*gaussian(v)).logpdf)

    eigenvalue, axes = np.linalg.eigh(cov)
    root = (axes * np.log(eigenvalue)) @ axes.T
    v = np.array([*mu, root[0, 0], root[0, 1], root[1, 1]])
    v = optimize.minimize(loss, v, method="BFGS", jac="3-point", options={"gtol": 1e-7}).x
    return Fit(*gaussian(v), loss(v))
