"""Probabilities of grey levels under a density over numbers, by integrating it over each level's bin.

    bin_of              the bin of a value, from the levels' count alone: the midpoints to its neighbours
    log_mass            log ∫ p over the bin, by Gauss–Legendre on a grid of nodes
    mean_log_mass       the mean of log p over the bin, and the log of its volume counted in bins: the volume is 1
    divergence          KL(U‖p(u | x)) within the bin, its two densities normalised by their sums over the nodes
    code_length         bits per number of an arithmetic code that knows the probabilities: scipy's entropies
"""

from collections.abc import Callable
from fractions import Fraction

import numpy as np
from scipy import special, stats

from reference.quadrature import panel_nodes

LogDensity = Callable[[np.ndarray], np.ndarray]
"""Points (N, D) ↦ log-density (N,)."""


def values(levels: int) -> list[Fraction]:
    """The values that a pixel takes, evenly from −1 to 1, exactly."""
    return [Fraction(2 * k, levels - 1) - 1 for k in range(levels)]


def bin_of(x: float, levels: int) -> tuple[float, float]:
    """The ends of the bin of a value: half-way to its neighbours, and as far beyond the outer values."""
    held = values(levels)
    here = min(held, key=lambda value: abs(float(value) - x))
    half = (held[1] - held[0]) / 2
    return float(here - half), float(here + half)


def nodes_of(x, levels: int, order: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """Nodes (N, D) and weights (N,) of Gauss–Legendre on the box of bins around x (D,); the weights add to 1."""
    sides = [panel_nodes(bin_of(value, levels), order) for value in np.atleast_1d(x)]
    points = np.stack(np.meshgrid(*(nodes for nodes, _ in sides), indexing="ij"), axis=-1).reshape(-1, len(sides))
    weights = np.ones(1)
    for _, along in sides:
        weights = np.multiply.outer(weights, along / along.sum()).ravel()
    return points, weights


def volume(x, levels: int) -> float:
    """Of the box of bins around x (D,)."""
    ends = [bin_of(value, levels) for value in np.atleast_1d(x)]
    return float(np.prod([high - low for low, high in ends]))


def log_mass(log_density: LogDensity, x, levels: int, order: int = 24) -> float:
    """log ∫ p over the box of bins around x (D,)."""
    points, weights = nodes_of(x, levels, order)
    return float(special.logsumexp(log_density(points), b=weights * volume(x, levels)))


def mean_log_mass(log_density: LogDensity, x, levels: int, order: int = 24) -> float:
    """∫ log(p·volume) over the box of bins around x (D,), divided by the volume."""
    points, weights = nodes_of(x, levels, order)
    return float(weights @ (log_density(points) + np.log(volume(x, levels))))


def divergence(log_density: LogDensity, x, levels: int, order: int = 24) -> float:
    """KL from the uniform density on the box of bins around x (D,) to what p says of the place in it."""
    points, weights = nodes_of(x, levels, order)
    return float(stats.entropy(weights, weights * np.exp(log_density(points))))


def code_length(counts, probabilities) -> float:
    """Bits per number for numbers seen so often, coded by these probabilities: H(q) + KL(q‖p), in base 2."""
    return float(stats.entropy(counts, base=2) + stats.entropy(counts, probabilities, base=2))
