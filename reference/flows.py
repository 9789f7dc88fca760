"""What an invertible map does to volumes and masses, from the map alone.

    log_abs_det         a numeric Jacobian, one displaced point at a time, and LU elimination
    chain_log_abs_det   the same of several maps in turn: their Jacobians are multiplied before the determinant
    image_density       log-density of x where g(x) is standard normal and g is affine: scipy's Gaussian
    image_mean          E h(x) over the noise z that x = g⁻¹(z) comes from: no density of x at all
"""

from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats

from reference.derivatives import jacobian
from reference.gaussian import affine_map
from reference.quadrature import gaussian_expectation

Map = Callable[[np.ndarray], np.ndarray]
"""One point (D,) ↦ one point (D,)."""


def log_abs_det(g: Map, x, h: float = 1e-2) -> float:
    """log |det J_g(x)| at one point. h: the largest displacement."""
    return float(np.linalg.slogdet(jacobian(g, x, h=h))[1])


def chain_log_abs_det(maps: Sequence[Map], x) -> float:
    """log |det (J_T ⋯ J_2 J_1)| for the maps one after the other, from one point on."""
    product = np.eye(np.size(x))
    for g in maps:
        product = jacobian(g, x) @ product
        x = g(x)
    return float(np.linalg.slogdet(product)[1])


def image_density(g: Map, d: int) -> Callable[[np.ndarray], np.ndarray]:
    """log p(x) for z = g(x) ~ N(0, I) and an affine g, z = A x + B: x is Gaussian with mean −A⁻¹B, precision AᵀA."""
    A, B = affine_map(g, d)
    inverse = np.linalg.inv(A)
    return stats.multivariate_normal(-inverse @ B, inverse @ inverse.T).logpdf


def image_mean(h: Callable[[np.ndarray], np.ndarray], inverse: Map, d: int, order: int = 40) -> float:
    """E h(g⁻¹(z)), z ~ N(0, I), by Gauss–Hermite. h and g⁻¹ take many points, (n, D)."""
    return gaussian_expectation(lambda z: h(inverse(z)), np.zeros(d), np.eye(d), order)
