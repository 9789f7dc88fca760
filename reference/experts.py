"""Products of densities, normalised by adding them up: over a few states with fractions, in the plane over a grid.

No precision is added and no square completed: the product's moments are integrals.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from reference.divergence import Nodes


def table(experts) -> list[Fraction]:
    """p of every state as an exact fraction. experts: (K, states), rows of integers, none of which need add up to 1."""
    products = []
    for column in zip(*experts, strict=True):
        total = Fraction(1)
        for value in column:
            total *= Fraction(int(value))
        products.append(total)
    whole = sum(products, start=Fraction(0))
    return [p / whole for p in products]


class Moments(NamedTuple):
    """∫ Π p_k, and the mean (d,) and covariance (d, d) of the product."""

    Z: float
    mean: np.ndarray
    cov: np.ndarray


def moments(log_parts: Sequence[Callable[[np.ndarray], np.ndarray]], nodes: Nodes) -> Moments:
    """By quadrature, of densities (n, d) ↦ log p_k (n,)."""
    density = nodes.weights * np.prod([np.exp(part(nodes.points)) for part in log_parts], axis=0)
    Z = density.sum()
    mean = density @ nodes.points / Z
    centred = nodes.points - mean
    return Moments(float(Z), mean, centred.T @ (density[:, None] * centred) / Z)
