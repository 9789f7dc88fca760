"""Chains of linear-Gaussian steps by plain linear algebra.

Everything about a diffusion with affine means is a statement about one big Gaussian vector. Here that vector
is written down whole, its covariance is computed by solving one linear system, and conditionals are Schur
complements. No recursion in ᾱ, no completing of squares: the shortcuts of the papers do not appear.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from scipy import linalg


def chain_joint(transitions: Sequence, offsets: Sequence, noises: Sequence, mean, cov):
    """Joint mean (n+1)·d and covariance of y₀, …, y_n.

        y₀ ~ N(mean, cov),   y_k = F_k y_{k−1} + c_k + w_k,   w_k ~ N(0, Q_k)

    transitions F_k (d, d), offsets c_k (d,), noises Q_k (d, d), for k = 1 … n.
    Derivation: stacked, the chain is the linear system (I − S) y = c + w with S holding the F_k below the
    diagonal and w independent between blocks, so y = (I − S)⁻¹(c + w) and the covariance follows.
    """
    mean = np.atleast_1d(np.asarray(mean, dtype=np.float64))
    d, n = mean.size, len(transitions)
    system, noise = np.eye((n + 1) * d), np.zeros(((n + 1) * d, (n + 1) * d))
    source = np.zeros((n + 1) * d)
    source[:d], noise[:d, :d] = mean, cov
    for k in range(1, n + 1):
        here, before = slice(k * d, (k + 1) * d), slice((k - 1) * d, k * d)
        system[here, before] = -np.asarray(transitions[k - 1], dtype=np.float64)
        source[here], noise[here, here] = offsets[k - 1], noises[k - 1]
    inverse = linalg.solve_triangular(system, np.eye((n + 1) * d), lower=True)
    return inverse @ source, inverse @ noise @ inverse.T


def condition(mean, cov, given: Sequence[int], value) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of the other coordinates of N(mean, cov), given that mean's `given` ones = value.

        μ_u + Σ_ug Σ_gg⁻¹ (value − μ_g),   Σ_uu − Σ_ug Σ_gg⁻¹ Σ_gu        (the Schur complement)
    """
    gain, unknown = regression(cov, given)
    mean, cov = np.asarray(mean, dtype=np.float64), np.asarray(cov, dtype=np.float64)
    shift = gain @ (np.atleast_1d(np.asarray(value, dtype=np.float64)) - mean[given])
    return mean[unknown] + shift, cov[np.ix_(unknown, unknown)] - gain @ cov[np.ix_(given, unknown)]


def regression(cov, given: Sequence[int]) -> tuple[np.ndarray, list[int]]:
    """Gain Σ_ug Σ_gg⁻¹ of the best linear prediction from `given`, and the indices it predicts."""
    cov = np.asarray(cov, dtype=np.float64)
    given = list(given)
    unknown = [i for i in range(len(cov)) if i not in set(given)]
    gain = linalg.solve(cov[np.ix_(given, given)], cov[np.ix_(given, unknown)], assume_a="sym").T
    return gain, unknown


def affine_map(step: Callable[[np.ndarray], np.ndarray], d: int) -> tuple[np.ndarray, np.ndarray]:
    """A (d, d) and B (d,) of an affine map, found by probing it: B = step(0), A e_i = step(e_i) − step(0).

    Turns any sampler's step with a linear ε, the library's included, into the matrices of `moments`.
    Raises ValueError when a further probe shows that the map is not affine.
    """
    B = np.asarray(step(np.zeros(d)), dtype=np.float64)
    A = np.stack([np.asarray(step(unit), dtype=np.float64) - B for unit in np.eye(d)], axis=1)
    probe = np.linspace(-1.7, 2.3, d) if d > 1 else np.array([2.3])
    if not np.allclose(step(probe), A @ probe + B, rtol=1e-9, atol=1e-9):
        raise ValueError("the step is not affine")
    return A, B


def moments(mean, cov, steps: Iterable) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Means and covariances along x ← A x + B + N(0, Q), for the (A, B, Q) in steps; the start included.

        mean ← A mean + B,   cov ← A cov Aᵀ + Q

    With the exact, linear ε of Gaussian data this is the distribution of a sampler's output without drawing
    a single sample.
    """
    means, covs = [np.asarray(mean, dtype=np.float64)], [np.asarray(cov, dtype=np.float64)]
    for A, B, Q in steps:
        means.append(A @ means[-1] + B)
        covs.append(A @ covs[-1] @ np.asarray(A).T + Q)
    return means, covs
