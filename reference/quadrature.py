"""Integrals by quadrature: what every other oracle here rests on.

`integrate` is adaptive (QUADPACK, 21-point Gauss–Kronrod): it judges its own error and warns when it fails.
`integrate_panels` is fixed Gauss–Legendre on panels: it takes a vectorised integrand, so it is fast enough to
stand inside another integral. `gaussian_expectation` is Gauss–Hermite, in d dimensions and exact for
polynomials. They share no nodes, so they also check each other (tests/reference/).
"""

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy import integrate as scipy_integrate


def integrate(f: Callable[[float], float], edges: Sequence[float], absolute: float = 1e-13,
              relative: float = 1e-11) -> float:
    """∫ f from edges[0] to edges[-1], adaptively on each piece between two edges.

    Edges near the integrand's features keep the adaptive rule from stepping over a narrow peak.
    absolute, relative: the error asked of each piece; an integral that misses it warns.
    """
    pieces = [scipy_integrate.quad(f, low, high, epsabs=absolute, epsrel=relative, limit=200)[0]
              for low, high in itertools.pairwise(edges)]
    return math.fsum(pieces)


def panel_nodes(edges: Sequence[float], order: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of Gauss–Legendre quadrature of the given order on each panel, as two flat arrays."""
    edges = np.asarray(edges, dtype=np.float64)
    node, weight = np.polynomial.legendre.leggauss(order)
    centre, half = (edges[1:] + edges[:-1]) / 2, (edges[1:] - edges[:-1]) / 2
    nodes = centre[:, None] + half[:, None] * node        # (panels, order)
    return nodes.ravel(), (half[:, None] * weight).ravel()


def integrate_panels(f: Callable[[np.ndarray], np.ndarray], edges: Sequence[float], order: int = 24) -> float:
    """∫ f over the panels between edges; f takes and returns an array of points."""
    nodes, weights = panel_nodes(edges, order)
    return math.fsum(weights * f(nodes))


def gaussian_nodes(mu, cov, order: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Nodes (order^d, d) and weights (order^d,) with Σ w f(node) ≈ E f(x), x ~ N(mu, cov).

    The covariance is rotated to its eigenvectors, where the coordinates are independent and the integral
    is a product of one-dimensional Gauss–Hermite rules. A singular covariance is allowed: along an
    eigenvector of eigenvalue zero all nodes coincide. Exact for polynomials of degree below 2·order in
    each rotated coordinate.
    """
    mu = np.atleast_1d(np.asarray(mu, dtype=np.float64))
    cov = np.asarray(cov, dtype=np.float64).reshape(mu.size, mu.size)
    eigenvalue, eigenvector = np.linalg.eigh(cov)
    if eigenvalue.min() < -1e-10 * max(1.0, eigenvalue.max()):
        raise ValueError(f"covariance has the negative eigenvalue {eigenvalue.min():.3g}")
    deviation = np.sqrt(np.clip(eigenvalue, 0.0, None))
    # hermegauss has the weight e^{-u²/2}, whose total is √(2π)
    node, weight = np.polynomial.hermite_e.hermegauss(order)
    weight = weight / weight.sum()
    u = np.array(list(itertools.product(node, repeat=mu.size)))                      # (order^d, d)
    weights = np.array([math.prod(w) for w in itertools.product(weight, repeat=mu.size)])
    return mu + (u * deviation) @ eigenvector.T, weights


def gaussian_expectation(f: Callable[[np.ndarray], np.ndarray], mu, cov, order: int = 12) -> float:
    """E f(x) for x ~ N(mu, cov) by Gauss–Hermite; f maps (n, d) points to (n,) values."""
    nodes, weights = gaussian_nodes(mu, cov, order)
    return math.fsum(weights * np.asarray(f(nodes), dtype=np.float64))


def spread_edges(mu: float, scale: float, reach: float = 14.0, panels: int = 28) -> np.ndarray:
    """Edges covering mu ± reach·scale. At 14 standard deviations a Gaussian density has fallen by e⁻⁹⁸."""
    return np.linspace(mu - reach * scale, mu + reach * scale, panels + 1)
