"""The Gaussian with any covariance, N(μ, Σ), through the Cholesky factor Σ = L·Lᵀ.

mu: (B, D).  cov: (D, D), shared by the batch, or (B, D, D); symmetric positive definite (only the lower
triangle is read; a matrix that is not positive definite makes `cholesky` raise LinAlgError).
Here the event has one axis, D.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from scratchgen import ops
from scratchgen.backend import Array
from scratchgen.distributions.events import alike, same_precision, same_shape
from scratchgen.distributions.gaussian import LOG_2PI


def log_prob(x: Array, mu: Array, cov: Array) -> Array:
    """log N(x; μ, Σ).

        log p(x) = −½ (D log 2π + log det Σ + ‖L⁻¹(x − μ)‖²),   log det Σ = 2 Σ_i log L_ii  gaussian_full.log_prob

    x: (B, D).  mu: (B, D) or (1, D).  cov: (D, D) or (B, D, D).
    Returns (B,), in nats, summed over the event.  Raises ValueError if the shapes do not fit.
    """
    _check("gaussian_full.log_prob", "x", x, cov)
    if mu.shape not in (x.shape, (1, x.shape[1])):
        raise ValueError(f"gaussian_full.log_prob: mu {mu.shape} does not fit x {x.shape}")
    same_precision("gaussian_full.log_prob", "x", x, mu=mu)
    L = ops.linalg.cholesky(cov)
    z = _whiten(L, x - mu)
    return -0.5 * (x.shape[1] * LOG_2PI + ops.sum(ops.square(z), axis=-1)) - _half_log_det(L)


def entropy(cov: Array) -> Array:
    """Entropy, the mean of −log p.

        H = ½ (D + D log 2π + log det Σ)                                                    gaussian_full.entropy

    cov: (B, D, D), or (D, D).  Returns (B,), in nats, summed over the event; () for one shared covariance.
    Raises ValueError if cov holds no square matrices.
    """
    _check_square("gaussian_full.entropy", "cov", cov)
    return 0.5 * cov.shape[-1] * (1 + LOG_2PI) + _half_log_det(ops.linalg.cholesky(cov))


def sample(rng, mu: Array, cov: Array, eps: Array | None = None) -> Array:
    """Independent noise, carried to N(μ, Σ).

        z = μ + L·ε,      ε ~ N(0, I)                                                       gaussian_full.sample

    mu: (B, D).  cov: (D, D) or (B, D, D).  eps: the noise, (B, D); None: drawn from rng.
    Returns (B, D), differentiable in mu and cov.  Raises ValueError if the shapes do not fit.
    """
    _check("gaussian_full.sample", "mu", mu, cov)
    if eps is None:
        eps = rng.standard_normal(mu.shape, mu.dtype)
    alike("gaussian_full.sample", "mu", mu, eps=eps)
    return mu + _apply(ops.linalg.cholesky(cov), eps)


def kl(mu_q: Array, cov_q: Array, mu_p: Array, cov_p: Array) -> Array:
    """KL(q‖p) between two Gaussians.

        KL = ½ (tr Σ_p⁻¹Σ_q + (μ_q−μ_p)ᵀΣ_p⁻¹(μ_q−μ_p) − D + log det Σ_p − log det Σ_q)     gaussian_full.kl

    With M = L_p⁻¹L_q, lower triangular, tr Σ_p⁻¹Σ_q = Σ M_ij² and the terms gather into

        KL = ½ (Σ_i (M_ii² − 1 − log M_ii²) + Σ_{i>j} M_ij² + ‖L_p⁻¹(μ_q − μ_p)‖²),

    a sum of parts none of which is negative: a small divergence keeps its digits.

    mu_q, mu_p: (B, D).  cov_q, cov_p: (D, D) or (B, D, D).
    Returns (B,), in nats, summed over the event.  Raises ValueError if the shapes do not fit.
    """
    _check("gaussian_full.kl", "mu_q", mu_q, cov_q)
    _check("gaussian_full.kl", "mu_q", mu_q, cov_p)
    alike("gaussian_full.kl", "mu_q", mu_q, mu_p=mu_p)
    L_q, L_p = ops.linalg.cholesky(cov_q), ops.linalg.cholesky(cov_p)
    d = 2 * (ops.log(_diagonal(L_q)) - ops.log(_diagonal(L_p)))
    below = ops.tril(ops.linalg.solve(L_p, L_q), -1)
    z = _whiten(L_p, mu_q - mu_p)
    spread = ops.sum(ops.expm1(d) - d, axis=-1) + ops.sum(ops.square(below), axis=(-2, -1))
    return 0.5 * (spread + ops.sum(ops.square(z), axis=-1))


class Conditional(NamedTuple):
    """The Gaussian of the k' = D − k coordinates not observed: mu (B, k'), cov (k', k') or (B, k', k')."""

    mu: Array
    cov: Array


def condition(mu: Array, cov: Array, observed: Sequence[int], values: Array) -> Conditional:
    """N(μ, Σ) given that the `observed` coordinates o take `values`; u are the others.

        μ_u + Σ_uo Σ_oo⁻¹ (values − μ_o),      Σ_uu − Σ_uo Σ_oo⁻¹ Σ_ou                      gaussian_full.condition

    (Bishop 2006, eqs. 2.81 and 2.82.)

    mu: (B, D).  cov: (D, D) or (B, D, D).  observed: k different integers.  values: (B, k), in their order.
    Returns mu (B, D−k) and cov (D−k, D−k) or (B, D−k, D−k), the coordinates in ascending order.
    Raises ValueError if the shapes do not fit, or if `observed` repeats an index or leaves [0, D).
    """
    _check("gaussian_full.condition", "mu", mu, cov)
    B, D = mu.shape
    o = [int(i) for i in observed]
    if len(set(o)) != len(o) or not all(0 <= i < D for i in o) or not 0 < len(o) < D:
        raise ValueError(f"gaussian_full.condition: observed {o}, not 1 to {D - 1} of the indices below {D}")
    same_shape("gaussian_full.condition", "mu[:, observed]", (B, len(o)), values=values)
    same_precision("gaussian_full.condition", "mu", mu, values=values)
    u = [i for i in range(D) if i not in o]
    rows_o, rows_u = ops.take(cov, o, axis=-2), ops.take(cov, u, axis=-2)
    L = ops.linalg.cholesky(ops.take(rows_o, o, axis=-1))
    W = ops.linalg.solve(L, ops.take(rows_o, u, axis=-1))      # L⁻¹Σ_ou, so that WᵀW = Σ_uo Σ_oo⁻¹ Σ_ou
    z = _whiten(L, values - ops.take(mu, o, axis=1))
    Wt = ops.swapaxes(W, -1, -2)
    mean = ops.take(mu, u, axis=1) + _apply(Wt, z)
    return Conditional(mean, ops.take(rows_u, u, axis=-1) - ops.matmul(Wt, W))


# --- matrices that the batch shares, or not -----------------------------------------------------------------


def _apply(A: Array, v: Array) -> Array:
    """A·v for each v: A (m, n) or (B, m, n), v (B, n).  Returns (B, m)."""
    if A.ndim == 2:
        return ops.matmul(v, ops.transpose(A))
    return ops.squeeze(ops.matmul(A, ops.expand_dims(v, -1)), -1)


def _whiten(L: Array, v: Array) -> Array:
    """L⁻¹·v for each v: L (D, D) or (B, D, D), v (B, D).  Returns (B, D)."""
    if L.ndim == 2:
        return ops.transpose(ops.linalg.solve(L, ops.transpose(v)))
    return ops.squeeze(ops.linalg.solve(L, ops.expand_dims(v, -1)), -1)


def _diagonal(L: Array) -> Array:
    return ops.diagonal(L, axis1=-2, axis2=-1)


def _half_log_det(L: Array) -> Array:
    """½ log det Σ = Σ_i log L_ii, whose arguments are positive."""
    return ops.sum(ops.log(_diagonal(L)), axis=-1)


def _check_square(function: str, name: str, cov: Array) -> None:
    if cov.ndim not in (2, 3) or cov.shape[-1] != cov.shape[-2]:
        raise ValueError(f"{function}: {name} {cov.shape} should be (D, D) or (B, D, D)")


def _check(function: str, name: str, x: Array, cov: Array) -> None:
    if x.ndim != 2:
        raise ValueError(f"{function}: {name} {x.shape} should be (B, D)")
    _check_square(function, "cov", cov)
    if cov.shape[-1] != x.shape[1] or (cov.ndim == 3 and cov.shape[0] != x.shape[0]):
        raise ValueError(f"{function}: a covariance of {cov.shape} does not fit {name} {x.shape}")
    same_precision(function, name, x, cov=cov)
