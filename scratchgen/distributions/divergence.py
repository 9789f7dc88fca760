"""How far one density is from another, whatever they are: sums over weighted points.

    KL(p‖q) = Σ_i w_i·p_i·(log p_i − log q_i)                                           (1)  divergence.kl
    H(p, q) = −Σ_i w_i·p_i·log q_i,      KL(p‖q) = H(p, q) − H(p, p)                    (2)  divergence.cross_entropy
    μ = Σ_i w_i·p_i·x_i / Σ_i w_i·p_i                                                   (3)  divergence.moment_match
    C = Σ_i w_i·p_i·(x_i − μ)(x_i − μ)ᵀ / Σ_i w_i·p_i
    JS(p, q) = ½·KL(p‖m) + ½·KL(q‖m),      m = ½(p + q)                                 (4)  divergence.js

The two directions of (1) ask for different things when a simple q stands in for p.  KL(p‖q) is large wherever p has
mass that q lacks: its minimum covers all of p.  KL(q‖p) is large wherever q has mass that p lacks: its minimum sits on
one mode.

By (2), H(p, p) does not depend on q: the q_θ of least KL(p‖q_θ) is that of largest E_p log q_θ, which is maximum
likelihood once the mean over p is one over data.  Among Gaussians it is N(μ, C) of (3).  (4) is symmetric, and never
exceeds log 2; a GAN's discriminator, at its best, measures it (Goodfellow et al. 2014, arXiv:1406.2661).

Everywhere: the last axis of log_p and log_q, (…, N), counts points x_i, where both are known.  weights, (N,) or a
number, says how much of space each stands for: the nodes of a quadrature with theirs; all states of a discrete
variable with 1.  A point without mass adds nothing: 0·log 0 = 0.  Results in nats.
"""

from __future__ import annotations

from math import log
from typing import NamedTuple

from scratchgen import ops
from scratchgen.backend import Array
from scratchgen.distributions.events import alike, same_precision


def kl(log_p: Array, log_q: Array, weights: Array = 1.0) -> Array:
    """KL(p‖q), eq. (1); with the arguments exchanged, KL(q‖p).

    log_p, log_q: (…, N), of one shape.  weights: (N,), or a number.  Returns (…); ∞ where q lacks mass that p has.
    Raises ValueError if the shapes do not fit.
    """
    mass = _mass("divergence.kl", log_p, weights)
    alike("divergence.kl", "log_p", log_p, log_q=log_q)
    return ops.sum(mass * (ops.where(mass != 0, log_p, 0.0) - ops.where(mass != 0, log_q, 0.0)), axis=-1)


def cross_entropy(log_p: Array, log_q: Array, weights: Array = 1.0) -> Array:
    """H(p, q) = −E_p log q, eq. (2); H(p, p) is p's entropy.

    log_p, log_q: (…, N), of one shape.  weights: (N,), or a number.  Returns (…).
    Raises ValueError if the shapes do not fit.
    """
    mass = _mass("divergence.cross_entropy", log_p, weights)
    alike("divergence.cross_entropy", "log_p", log_p, log_q=log_q)
    return -ops.sum(mass * ops.where(mass != 0, log_q, 0.0), axis=-1)


class Moments(NamedTuple):
    """The Gaussian with p's mean and covariance: mu (…, d), cov (…, d, d)."""

    mu: Array
    cov: Array


def moment_match(x: Array, log_p: Array, weights: Array = 1.0) -> Moments:
    """The Gaussian nearest to p in KL(p‖·), eq. (3).  p may lack its constant: the total mass is divided out.

    log q is quadratic in x, so E_p log q sees of p only E x and E xxᵀ; and of all Gaussians the likeliest has them.

    x: (N, d), the points.  log_p: (…, N).  weights: (N,), or a number.  Returns mu (…, d) and cov (…, d, d).
    Raises ValueError if the shapes do not fit.
    """
    mass = _mass("divergence.moment_match", log_p, weights)
    if x.ndim != 2 or x.shape[0] != log_p.shape[-1]:
        raise ValueError(f"divergence.moment_match: points {x.shape} do not fit log_p {log_p.shape}")
    same_precision("divergence.moment_match", "x", x, log_p=log_p)
    share = ops.expand_dims(mass / ops.sum(mass, axis=-1, keepdims=True), -1)       # (…, N, 1)
    mu = ops.sum(share * x, axis=-2)
    centred = x - ops.expand_dims(mu, -2)                                           # (…, N, d)
    return Moments(mu, ops.matmul(ops.swapaxes(share * centred, -1, -2), centred))


def js(log_p: Array, log_q: Array, weights: Array = 1.0) -> Array:
    """Jensen's and Shannon's divergence, eq. (4): 0 for equal densities, log 2 for those that share no point.

    log_p, log_q: (…, N), of one shape.  weights: (N,), or a number.  Returns (…).
    Raises ValueError if the shapes do not fit.
    """
    alike("divergence.js", "log_p", log_p, log_q=log_q)
    log_m = ops.logsumexp(ops.stack([log_p, log_q]), axis=0) - log(2)  # also where both are −∞
    return 0.5 * (kl(log_p, log_m, weights) + kl(log_q, log_m, weights))


def _mass(function: str, log_p: Array, weights: Array) -> Array:
    """w_i·p_i, (…, N)."""
    if not log_p.ndim:
        raise ValueError(f"{function}: log_p has no axes; the last axis counts the points")
    if type(weights) not in (int, float):  # not np.float64, which is a float too, but has a precision
        if weights.shape not in ((), log_p.shape[-1:]):
            raise ValueError(f"{function}: weights {weights.shape} do not fit log_p {log_p.shape}")
        same_precision(function, "log_p", log_p, weights=weights)
    return ops.exp(log_p) * weights
