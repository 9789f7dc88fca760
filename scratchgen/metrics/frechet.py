"""The Fréchet distance between two sets of features, each taken for a Gaussian.

    d² = ‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2·(Σ₁Σ₂)^½)                                          (1)
    tr (Σ₁Σ₂)^½ = tr (Σ₁^½ Σ₂ Σ₁^½)^½ = ‖Σ₂^½ Σ₁^½‖_*,  the sum of the singular values  (2)

(1): Dowson & Landau (1982); as a figure for generative models Heusel et al. (2017, eq. 6), who like everybody
since print d² and call it the distance.  (2): Σ₁Σ₂ is not symmetric, and its root by Schur's method
loses half the digits, or its realness, where a covariance is singular.  It is similar to the symmetric
matrix Σ₁^½ Σ₂ Σ₁^½ = AᵀA with A = Σ₂^½ Σ₁^½, whose root has the singular values of A for eigenvalues.

All in float64 on the host.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Moments(NamedTuple):
    """μ (d,) and Σ (d, d), float64."""

    mu: np.ndarray
    cov: np.ndarray


def as_rows(features: np.ndarray, least: int = 1) -> np.ndarray:
    """Features (n, d) in float64.  Raises ValueError if they are no such array, not finite, or n < least."""
    x = np.asarray(features, dtype=np.float64)
    if x.ndim != 2 or x.shape[1] < 1:
        raise ValueError(f"features of shape {x.shape} are not (n, d)")
    if len(x) < least:
        raise ValueError(f"{len(x)} examples are too few: at least {least} are needed")
    if not np.isfinite(x).all():
        raise ValueError("features that are not finite")
    return x


def moments(features: np.ndarray) -> Moments:
    """μ = (1/n) Σ_i x_i  and  Σ = 1/(n−1) Σ_i (x_i − μ)(x_i − μ)ᵀ  of features (n, d).

    Σ has rank n − 1 at most: with n ≤ d it is singular.  Raises ValueError unless n ≥ 2 and all is finite.
    """
    x = as_rows(features, least=2)
    mu = x.mean(axis=0)
    centred = x - mu
    return Moments(mu, centred.T @ centred / (len(x) - 1))


def root(cov: np.ndarray) -> np.ndarray:
    """Σ^½ = U √Λ Uᵀ, symmetric and positive semi-definite, from Σ = U Λ Uᵀ.

    Eigenvalues within rounding of 0 count as 0: the root would make 10⁻⁸ of 10⁻¹⁶.
    Raises ValueError if Σ is not symmetric, not finite, or has a negative eigenvalue.
    """
    if not np.isfinite(cov).all() or not np.allclose(cov, cov.T, rtol=0, atol=1e-8 * np.abs(cov).max()):
        raise ValueError("a covariance must be finite and symmetric")
    values, vectors = np.linalg.eigh(cov)
    largest = float(np.abs(values).max())
    if values[0] < -1e-6 * largest:
        raise ValueError(f"a covariance has no negative eigenvalue, as {values[0]:.3g} here")
    values[values < len(values) * np.finfo(np.float64).eps * largest] = 0
    return (vectors * np.sqrt(values)) @ vectors.T


def distance(a: Moments, b: Moments) -> float:
    """d² of eq. (1), by eq. (2): ≥ 0, and 0 just for equal moments.

    Raises ValueError if the dimensions differ, or if a covariance is none (see `root`).
    """
    d = len(a.mu)
    if not a.mu.shape == b.mu.shape == (d,) or not a.cov.shape == b.cov.shape == (d, d):
        shapes = f"{a.mu.shape} {a.cov.shape} and {b.mu.shape} {b.cov.shape}"
        raise ValueError(f"moments of shapes {shapes} have no distance")
    overlap = np.linalg.svd(root(b.cov) @ root(a.cov), compute_uv=False).sum()
    gap = float(np.sum((a.mu - b.mu) ** 2) + np.trace(a.cov) + np.trace(b.cov) - 2 * overlap)
    return max(gap, 0.0)  # rounding can reach below


def frechet(x: np.ndarray, y: np.ndarray) -> float:
    """d² between the Gaussians fitted to features x (n, d) and y (m, d), n and m at least 2.

    Biased upwards by the noise in the moments, the more the smaller n and the larger d: compare only
    figures of one n, and look at what real against real gives.
    """
    return distance(moments(x), moments(y))
