"""Energy models on the line and in the plane, with their constants by quadrature.

A potential f is any function of points; here e^f is normalised on Gauss–Legendre panels, so that what a model says
without its constant can be held against a density that has one. What an example was before noise was added follows from
Bayes' rule on the same panels.
"""

from collections.abc import Callable

import numpy as np
from scipy import interpolate, stats

from reference.quadrature import panel_nodes


def nodes(dims: int, reach: float = 10.0, panels: int = 20, order: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, dims) and weights (N,) of a quadrature over [−reach, reach]^dims, dims 1 or 2."""
    x, w = panel_nodes(np.linspace(-reach, reach, panels + 1), order)
    if dims == 1:
        return x[:, None], w
    return np.stack(np.meshgrid(x, x, indexing="ij"), axis=-1).reshape(-1, 2), np.outer(w, w).ravel()


def volume(f: Callable, dims: int, **grid) -> float:
    """∫ e^f over the points of a grid.  f: (N, dims) ↦ (N,)."""
    x, w = nodes(dims, **grid)
    return float(w @ np.exp(f(x)))


def log_density(f: Callable, dims: int, **grid) -> Callable:
    """x (N, dims) ↦ log e^f/Z, with Z by quadrature."""
    log_Z = np.log(volume(f, dims, **grid))
    return lambda x: f(x) - log_Z


def cdf_at(f: Callable, points, reach: float = 10.0, panels: int = 400) -> np.ndarray:
    """P(x ≤ point), (N,), of e^f/Z on the line: sums over narrow panels, and a cubic through them."""
    edges = np.linspace(-reach, reach, panels + 1)
    x, w = panel_nodes(edges, 6)
    mass = np.cumsum((w * np.exp(f(x[:, None]))).reshape(panels, -1).sum(axis=1))
    return interpolate.CubicSpline(edges, np.concatenate([[0.0], mass]) / mass[-1])(points)


def log_posterior(log_p: Callable, y: float, sigma: float, reach: float = 10.0) -> Callable:
    """x (…) ↦ log p(x | y) on the line, y = x + σ·ε, by Bayes' rule; for complex x too, if log p takes them."""
    x, w = panel_nodes(np.linspace(-reach, reach, 81), 12)
    log_evidence = np.log(w @ (np.exp(log_p(x)) * stats.norm.pdf(y, loc=x, scale=sigma)))
    return lambda x: log_p(x) - (y - x) ** 2 / (2 * sigma**2) - np.log(sigma * np.sqrt(2 * np.pi)) - log_evidence


def posterior_moments(log_p: Callable, y: float, sigma: float, reach: float = 10.0) -> tuple[float, float]:
    """Mean and variance of p(x | y), by quadrature."""
    x, w = panel_nodes(np.linspace(-reach, reach, 81), 12)
    p = w * np.exp(log_posterior(log_p, y, sigma, reach)(x))
    mean = float(p @ x)
    return mean, float(p @ (x - mean) ** 2)


def perceptron(layers, x) -> np.ndarray:
    """A perceptron by loops over its layers (w, b): silu is x times the chance that logistic noise stays below x."""
    x = np.reshape(x, (len(x), -1))
    for i, (w, b) in enumerate(layers):
        x = x @ w + b
        x = x * stats.logistic.cdf(x) if i < len(layers) - 1 else x
    return x
