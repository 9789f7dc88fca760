"""The exponential distribution: density λ·e^(−λx) on x ≥ 0, in log_rate = log λ.

The simplest law that one draws by turning a distribution function around: `sample`.

All shapes are (B, …): the leading axis is the batch, the rest is the event, over which results are summed.
"""

from __future__ import annotations

from scratchgen import ops
from scratchgen.autograd import value_of
from scratchgen.backend import Array
from scratchgen.distributions.events import alike, fitted, per_example


def log_prob(x: Array, log_rate: Array) -> Array:
    """log of the density; −∞ where any x is negative.

        log p(x) = Σ (log λ − λx),      x ≥ 0                                               exponential.log_prob

    x: (B, …).  log_rate: x's shape, with length-1 axes where shared, or a number.
    Returns (B,), in nats, summed over the event.  Raises ValueError if the shapes do not fit.
    """
    (log_rate,) = fitted("exponential.log_prob", "x", x, log_rate=log_rate)
    inside = log_rate - ops.exp(log_rate) * x
    return per_example(ops.where(x >= 0, inside, -float("inf")))


def entropy(log_rate: Array) -> Array:
    """Entropy, the mean of −log p.

        H = Σ (1 − log λ)                                                                   exponential.entropy

    log_rate: (B, …), the full shape of the event.  Returns (B,), in nats, summed over the event.
    Raises ValueError if there is no batch axis.
    """
    fitted("exponential.entropy", "log_rate", log_rate)
    return per_example(1 - log_rate)


def kl(log_rate_q: Array, log_rate_p: Array) -> Array:
    """KL(q‖p) between two exponential laws.

        KL = Σ (log λ_q − log λ_p + λ_p/λ_q − 1)                                            exponential.kl
           = Σ (e^d − 1 − d),      d = log λ_p − log λ_q

    The second form, with expm1, keeps the digits of a small divergence.

    log_rate_q: (B, …).  log_rate_p: its shape, with length-1 axes where shared, or a number.
    Returns (B,), in nats, summed over the event.  Raises ValueError if the shapes do not fit.
    """
    (log_rate_p,) = fitted("exponential.kl", "log_rate_q", log_rate_q, log_rate_p=log_rate_p)
    d = log_rate_p - log_rate_q
    return per_example(ops.expm1(d) - d)


def sample(rng, log_rate: Array, u: Array | None = None) -> Array:
    """The inverse of the distribution function, of uniform noise.

        x = −(ln u)/λ,      u ~ U(0, 1)                                                     exponential.sample

    P(X > x) = e^(−λx) falls from 1 to 0 as x grows: the x where it equals u is the formula.  With λ = 1 and the
    sign turned, x = ln u is distributed with density eˣ on x < 0.

    log_rate: (B, …).  u: the noise, in log_rate's shape, in (0, 1]; None: drawn from rng.
    Returns log_rate's shape, differentiable in it.  Raises ValueError if the shapes differ.
    """
    fitted("exponential.sample", "log_rate", log_rate)
    if u is None:
        u = 1 - rng.random(log_rate.shape, log_rate.dtype)  # draws are in [0, 1), and there is no logarithm of 0
    alike("exponential.sample", "log_rate", log_rate, u=u)
    return -ops.log(value_of(u)) * ops.exp(-log_rate)
