"""What an invertible map does to volumes and masses, from the map alone.

    log_abs_det         a numeric Jacobian, one displaced point at a time, and LU elimination
    chain_log_abs_det   the same of several maps in turn: their Jacobians are multiplied before the determinant
    image_density       log-density of x where g(x) is standard normal and g is affine: scipy's Gaussian
    image_mean          E h(x) over the noise z that x = g⁻¹(z) comes from: no density of x at all
    image_moments       mean and covariance of x = g⁻¹(τz) for an affine g⁻¹

Of images:

    squares             2×2 pixels as one, pixel by pixel
    is_black            the colours of a checkerboard, counted along its rows
    each_pixel          one matrix applied to every pixel, one after the other
    block_log_abs_det   the determinant of that map as one matrix, all pixels' channels long
    channel_moments     mean and variance of each channel, of a list of all its numbers
    elimination         scipy's LU decomposition
"""

import statistics
from collections.abc import Callable, Sequence

import numpy as np
from scipy import linalg, stats

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


def image_moments(inverse: Map, d: int, temperature: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of x = A·τz + B, z ~ N(0, I)."""
    A, B = affine_map(inverse, d)
    return B, temperature**2 * A @ A.T


def squares(x) -> np.ndarray:
    """Images (N, H, W, C) with every 2×2 pixels as one, their channels one after the other."""
    x = np.asarray(x)
    found = [[[np.concatenate([image[2 * r, 2 * q], image[2 * r, 2 * q + 1], image[2 * r + 1, 2 * q],
                               image[2 * r + 1, 2 * q + 1]])
               for q in range(x.shape[2] // 2)] for r in range(x.shape[1] // 2)] for image in x]
    return np.array(found)


def is_black(h: int, w: int) -> np.ndarray:
    """(H, W): colours alternate along a row, and each row begins with the other one than the row above."""
    board, first = [], True
    for _ in range(h):
        board.append([first if column % 2 == 0 else not first for column in range(w)])
        first = not first
    return np.array(board)


def each_pixel(matrix, x) -> np.ndarray:
    """Images (N, H, W, C), the channels of every pixel a column that is multiplied by the matrix from the left."""
    return np.array([[[matrix @ pixel for pixel in row] for row in image] for image in np.asarray(x)])


def block_log_abs_det(matrix, h: int, w: int) -> float:
    """log |det| of the matrix with the given one h·w times along its diagonal."""
    return float(np.linalg.slogdet(linalg.block_diag(*[matrix] * (h * w)))[1])


def channel_moments(x) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance (without Bessel's correction) of each channel of images (N, H, W, C)."""
    channels = [np.asarray(x)[..., c].ravel().tolist() for c in range(np.shape(x)[3])]
    mean = np.array([statistics.fmean(one) for one in channels])
    return mean, np.array([statistics.pvariance(one) for one in channels])


def elimination(matrix) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """P, L, U with P·L·U the matrix, L of unit diagonal."""
    return linalg.lu(matrix)
