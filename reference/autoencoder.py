"""What an autoencoder loses: sums number by number, and the least that affine maps can lose, from a covariance.

`best_affine` knows nothing of encoders and decoders: the points of x̂ = g(f(x)) with affine f and g lie in a plane of
d dimensions, the plane that loses least is found from the eigenvalues of the covariance (Eckart & Young 1936).
"""

import math
from collections.abc import Callable

import numpy as np
from scipy import linalg

from reference.derivatives import directional


def squared_error(x, rebuilt) -> list[float]:
    """‖x − x̂‖² of each example, by an exactly rounded sum."""
    return [math.fsum((float(a) - float(b)) ** 2 for a, b in zip(np.ravel(row), np.ravel(other), strict=True))
            for row, other in zip(x, rebuilt, strict=True)]  # fmt: skip


def best_affine(x, d: int) -> tuple[float, np.ndarray]:
    """The least mean of ‖x − x̂‖² over points x (n, D) by affine maps through d numbers, and the projection (D, D) onto
    the directions that the best x̂ − μ lie in: unique where the d-th eigenvalue is not the next one.
    """
    x = np.asarray(x, dtype=np.float64)
    values, vectors = linalg.eigh(np.cov(x.T, bias=True))  # the smallest first
    kept = vectors[:, len(values) - d :]
    return float(values[: len(values) - d].sum()), kept @ kept.T


def code_jacobian(encode: Callable, x) -> np.ndarray:
    """∂c/∂x (d, D) at one point x of any shape, a column for each of its numbers, by extrapolated differences."""
    x = np.asarray(x, dtype=np.float64)
    return np.stack([directional(encode, x, unit.reshape(x.shape)) for unit in np.eye(x.size)], axis=-1)


def expected_stretch(encode: Callable, x) -> float:
    """‖∂c/∂x‖²_F at one point: D times the mean, over all directions v of length 1, of ‖d/ds c(x + s·v)‖².

    The mean of a quadratic form over the sphere is that over any orthonormal basis; here one that is turned away from
    the axes.
    """
    x = np.asarray(x, dtype=np.float64)
    basis = linalg.qr(np.vander(np.linspace(-1, 1, x.size)) + np.eye(x.size))[0]
    return float(sum(np.sum(directional(encode, x, v.reshape(x.shape)) ** 2) for v in basis.T))


def sigmoid_contraction(W, b, x) -> float:
    """‖∂c/∂x‖²_F of one layer c = σ(x·W + b) at one point x (D,): Σ_j (c_j(1 − c_j))²·Σ_i W_ij² (Rifai et al. 2011).

    σ as a half-angle of the hyperbolic tangent, its slope c(1 − c) = 1/(4·cosh²(a/2)).
    """
    a = np.asarray(b, dtype=np.float64) + np.asarray(x, dtype=np.float64) @ np.asarray(W, dtype=np.float64)
    return math.fsum(float(w @ w) / (4 * math.cosh(s / 2) ** 2) ** 2 for w, s in zip(np.asarray(W).T, a, strict=True))


def affine_denoising(A, b, mean, cov, sigma: float) -> float:
    """E‖x − (A·x̃ + b)‖² for x ~ N(mean, cov) and x̃ = x + N(0, σ²I): the second moment of one Gaussian vector,
    x − A·x̃ − b = (I, −A)·(x, x̃) − b, from the joint moments of (x, x̃).
    """
    A, mean, cov = (np.asarray(a, dtype=np.float64) for a in (A, mean, cov))
    eye = np.eye(len(mean))
    joint = np.block([[cov, cov], [cov, cov + sigma**2 * eye]])
    gain = np.hstack([eye, -A])
    off = gain @ np.concatenate([mean, mean]) - b
    return float(np.trace(gain @ joint @ gain.T) + off @ off)
