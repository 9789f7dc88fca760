"""Densities out of any function f: make it positive, divide by its volume; then build larger ones from those.

    g = f²,   e^f,   |f|,   log(1 + e^f)                                                (1)  energy.positive
    p(x) = g(x)/Z,      Z = Σ_i w_i·g(x_i)                                              (2)  energy.normalise
    log p(x) = θ·T(x) − A(θ) + log h(x),      A(θ) = log Σ_i w_i·h(x_i)·e^(θ·T(x_i))    (3)  energy.exponential_family
    ∇A(θ) = E T(x)                                                                      (4)  energy.family_gradient
    p(x_1, x_2, …) = p_1(x_1)·p_2(x_2 | x_1)·…                                          (5)  energy.product
    p(x) = Σ_k α_k·p_k(x),      Σ_k α_k = 1                                             (6)  energy.mixture

None of (1) is negative anywhere; none has volume 1.  The second is the energy model's, with −f as the energy: where f
is high, the energy is low and the density high.  There a density that varies by many orders of magnitude takes an f
that varies little.

(2) is a sum over all states, or a quadrature of ∫g dx.  Where that can be done on paper it gives the known laws: for
g = e^(−(x−μ)²/2σ²), Z = √(2πσ²), the Gaussian; for g = e^(−λx) on x ≥ 0, Z = 1/λ, the exponential law.  (3), of which
both are cases, names the logarithm of the volume A; it generates moments: with (4), ∇²A is the covariance of T, which
makes −log p convex in θ, and where the likelihood is highest, E T is the mean of T over the data.

A product of normalised parts needs no Z, since the later parts integrate to 1 whatever the earlier variables are:
∫∫ p_θ(x)·p_θ'(x)(y) dy dx = ∫ p_θ(x) dx = 1, also where the second's parameters θ'(x) come from the first's value.
Autoregressive models are (5); models with latent variables are (6), an OR where the product of experts is an AND.

Everywhere: f and log g (…, N) at N points x_i.  Their weights w_i, (N,), positive, or a number: a quadrature's; 1 where
the points are all the states.  Logarithms in nats; log g may be −∞.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import log
from typing import Any

from scratchgen import functional as F
from scratchgen import ops
from scratchgen.backend import Array
from scratchgen.distributions.events import same_precision, same_shape

# --- eq. (1) ------------------------------------------------------------------------------------------------


def log_square(f: Array) -> Array:
    """log f², of f's shape.  Where f = 0 it is −∞, and its gradient is taken to be 0."""
    return 2 * log_absolute(f)


def log_exponential(f: Array) -> Array:
    """log e^f = f: what −energy is."""
    return f


def log_absolute(f: Array) -> Array:
    """log |f|, of f's shape.  Where f = 0 it is −∞, and its gradient is taken to be 0."""
    zero = f == 0
    return ops.where(zero, -float("inf"), ops.log(ops.where(zero, 1.0, ops.absolute(f))))


FAR = -20.0


def log_softplus(f: Array) -> Array:
    """log log(1 + e^f), of f's shape.

    Far to the left, where e^f would vanish, log(1 + e^f) = e^f·(1 − ½·e^f + …), and so the result is f − ½·e^f, up to
    e^(2f).
    """
    far = f < FAR
    left = ops.where(far, f, FAR)
    return ops.where(far, left - 0.5 * ops.exp(left), ops.log(F.softplus(ops.where(far, FAR, f))))


# --- eq. (2) ------------------------------------------------------------------------------------------------


def log_Z(log_g: Array, weights: Array = 1.0) -> Array:
    """log Z, the partition function's logarithm, eq. (2).  log_g: (…, N).  weights: (N,), or a number.  Returns (…).

    Raises ValueError if the shapes do not fit, or a number for all weights is not positive.
    """
    return ops.logsumexp(log_g + _log_weights("energy.log_Z", "log_g", log_g, weights), axis=-1)


def normalise(log_g: Array, weights: Array = 1.0) -> Array:
    """log p = log g − log Z, eq. (2).  log_g: (…, N).  weights: (N,), or a number.  Returns (…, N).

    Raises ValueError if the shapes do not fit.
    """
    return log_g - ops.expand_dims(log_Z(log_g, weights), -1)


# --- eqs. (3) and (4) ---------------------------------------------------------------------------------------


def log_partition(theta: Array, T: Array, log_h: Array, weights: Array = 1.0) -> Array:
    """A(θ), eq. (3), by summing over points.

    theta: (…, K), natural parameters.  T: (N, K), the statistics at the points.  log_h: (N,).  weights: (N,), or a
    number.  Returns (…).  Raises ValueError if the shapes do not fit.
    """
    return log_Z(_tilted("energy.log_partition", theta, T, log_h), weights)


def exponential_family(theta: Array, T: Array, log_h: Array, A: Array) -> Array:
    """log p(x) = θ·T(x) − A(θ) + log h(x), eq. (3).

    theta: (…, K).  T: (N, K), the statistics of the N points x.  log_h: (N,).  A: A(θ), (…), where known on paper, or
    from `log_partition`, whose points need not be these.  Returns (…, N).  Raises ValueError if the shapes do not fit.
    """
    tilted = _tilted("energy.exponential_family", theta, T, log_h)
    if type(A) not in (int, float):
        same_shape("energy.exponential_family", "theta without its last axis", theta.shape[:-1], A=A)
        same_precision("energy.exponential_family", "theta", theta, A=A)
        A = ops.expand_dims(A, -1)
    return tilted - A


def family_gradient(theta: Array, T: Array, log_h: Array, weights: Array = 1.0) -> Array:
    """∇A(θ) = E T(x), eq. (4): a mean over p, without differentiating anything.  Arguments as in `log_partition`.

    Returns (…, K).  Raises ValueError if the shapes do not fit.
    """
    tilted = _tilted("energy.family_gradient", theta, T, log_h)
    masses = F.softmax(tilted + _log_weights("energy.family_gradient", "log_h", log_h, weights), axis=-1)
    return ops.matmul(masses, T)


def _tilted(function: str, theta: Array, T: Array, log_h: Array) -> Array:
    """θ·T(x_i) + log h(x_i), (…, N)."""
    if T.ndim != 2 or theta.shape[-1:] != T.shape[1:] or log_h.shape != T.shape[:1]:
        shapes = f"theta {theta.shape}, T {T.shape}, log_h {log_h.shape}"
        raise ValueError(f"{function}: {shapes} should be (…, K), (N, K) and (N,)")
    same_precision(function, "theta", theta, T=T, log_h=log_h)
    return ops.matmul(theta, ops.transpose(T)) + log_h


def _log_weights(function: str, name: str, log_g: Array, weights: Array) -> Array:
    """log w_i, (N,), or a number."""
    if not log_g.ndim:
        raise ValueError(f"{function}: {name} has no axes; the last axis counts the points")
    if type(weights) in (int, float):
        if not weights > 0:
            raise ValueError(f"{function}: weights {weights} should be positive")
        return log(weights)
    if weights.shape not in ((), log_g.shape[-1:]):
        raise ValueError(f"{function}: weights {weights.shape} do not fit {name} {log_g.shape}")
    same_precision(function, name, log_g, weights=weights)
    return ops.log(weights)


# --- eqs. (5) and (6) ---------------------------------------------------------------------------------------


def product(parts: Sequence[Callable[..., Array]], xs: Sequence[Any]) -> Array:
    """log p(x_1, x_2, …), eq. (5).

    parts: part i maps x_i and all before it, (x_i, x_1, …, x_{i−1}), to log p_i(x_i | x_1 … x_{i−1}), (B,); one that
    looks at x_i alone is independent of the rest.  xs: the variables, as many, each (B, …).  Returns (B,).
    Raises ValueError if there are not as many parts as variables, or their shapes differ.
    """
    if len(parts) != len(xs) or not xs:
        raise ValueError(f"energy.product: {len(parts)} parts for {len(xs)} variables")
    first, *later = [part(x, *xs[:i]) for i, (part, x) in enumerate(zip(parts, xs, strict=True))]
    total = first
    for log_p in later:
        same_shape("energy.product", "the first part", first.shape, part=log_p)
        total = total + log_p
    return total


def mixture(log_alpha: Array, log_parts: Array) -> Array:
    """log p(x), eq. (6), from logarithms: a part that gives x no probability costs nothing but its share.

    log_alpha: (K,), log α_k, where the α_k add up to 1.  log_parts: (B, K), log p_k(x).  Returns (B,).
    Raises ValueError if the shapes do not fit.
    """
    if log_alpha.ndim != 1 or log_parts.shape[-1:] != log_alpha.shape:
        raise ValueError(f"energy.mixture: log_alpha {log_alpha.shape} does not fit log_parts {log_parts.shape}")
    same_precision("energy.mixture", "log_parts", log_parts, log_alpha=log_alpha)
    return ops.logsumexp(log_alpha + log_parts, axis=-1)
