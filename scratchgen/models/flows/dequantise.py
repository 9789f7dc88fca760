"""Dequantisation: what a density over real numbers says of data that are grey levels, in bits.

A pixel of L levels is k ∈ {0 … L−1}, held as x = 2k/(L−1) − 1, so that neighbours are Δ = 2/(L−1) apart.  On points
like these a density may grow without bound, and says nothing.  Noise fills each level's own bin:

    x_u = x + Δ·(u − ½),   u ~ U[0, 1)^D                                                (1)  dequantise.spread
    log P_u(x) = log p(x_u) + D·log Δ                                                   (2)  dequantise.log_mass
    log P(x) = log E_u P_u(x)  ≥  E_u log P_u(x),   P(x) = ∫ p over the bin of x        (3)  dequantise.bound
    log P(x) ≥ E log (1/K) Σ_k P_{u_k}(x)  ≥  (3)                                       (4)  dequantise.importance
    bits per dimension = −log P(x) / (D·log 2)                                          (5)  dequantise.bits

(2) is the change of variables to units in which levels are 1 apart: without D·log Δ, the bits of data on [−1, 1] and
of the same data on 0 … 255 would differ.  P is a true probability of the integers k, to be compared with that of any
model of integers.  (3) is Jensen's inequality (Theis, van den Oord & Bethge 2016, §3.1; Ho et al. 2019): what it loses
is KL(U‖p(u | x)), 0 where p is constant in each bin.  With K draws in place of one, (4) loses less, and nothing in the
limit (Burda, Grosse & Salakhutdinov 2016).  The bins tile [−1 − Δ/2, 1 + Δ/2]: mass outside is wasted, and ΣP ≤ 1.

Everywhere: x (B, …), one example a row; D is the number of its pixels; probabilities (B,), in nats.
"""

from __future__ import annotations

from collections.abc import Callable
from math import log, prod
from typing import NamedTuple

from scratchgen import ops
from scratchgen.backend import Array
from scratchgen.distributions.events import alike, bin_half_width


def spread(x: Array, u: Array, levels: int) -> Array:
    """x_u, eq. (1): anywhere in the bin of x, (B, …); the nearest level is still that of x.

    u: (B, …), uniform on [0, 1).  Raises ValueError if the shapes differ or levels < 2, TypeError if precisions do.
    """
    alike("dequantise.spread", "x", x, u=u)
    return x + 2 * bin_half_width("dequantise.spread", levels) * (u - 0.5)


def log_mass(log_p: Array, dims: int, levels: int) -> Array:
    """log P_u(x), eq. (2): the logarithm of a density over numbers Δ apart as one over numbers 1 apart.

    log_p: log p(x_u), of any shape.  dims: D.  Raises ValueError for levels < 2.
    """
    return log_p + dims * log(2 * bin_half_width("dequantise.log_mass", levels))


class Code(NamedTuple):
    """Two estimates, from the same draws, of what lies below log P(x), (B,), in nats: eqs. (3) and (4)."""

    bound: Array
    importance: Array


def code(log_p: Callable[[Array], Array], x: Array, levels: int, u: Array) -> Code:
    """Eqs. (3) and (4) from K draws.  log_p: x (B, …) ↦ log p(x), (B,).  u: (K, B, …), uniform on [0, 1).

    Each is in the mean, over u, at most log P(x).
    Raises ValueError if the shapes do not fit, if there is no draw, or if levels < 2.
    """
    if not u.shape[0]:
        raise ValueError("dequantise.code: no draw")
    dims = prod(x.shape[1:])
    logs = ops.stack([log_mass(log_p(spread(x, u[k], levels)), dims, levels) for k in range(u.shape[0])])
    return Code(ops.mean(logs, axis=0), ops.logsumexp(logs, axis=0) - log(u.shape[0]))


def bits_per_dim(log_P: Array, dims: int) -> Array:
    """Eq. (5): how long a code for one of `dims` pixels is, where the model says log P for all of them, in nats."""
    return -log_P / (dims * log(2))
