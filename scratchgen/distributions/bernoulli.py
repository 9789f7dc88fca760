"""Independent coin flips, p = σ(l), in logits l = log p/(1 − p).

All shapes are (B, …): the leading axis is the batch, the rest is the event, over which results are summed.
"""

from __future__ import annotations

from scratchgen import functional as F
from scratchgen.autograd import value_of
from scratchgen.backend import Array
from scratchgen.distributions.events import alike, fitted, per_example


def log_prob(x: Array, logits: Array) -> Array:
    """log p(x), minus a binary cross entropy.

        log p(x) = Σ (x·log p + (1 − x)·log(1 − p))                                         bernoulli.log_prob

    x: (B, …), 0 or 1 (or between, as for grey pixels: the result is then minus a cross entropy).
    logits: x's shape, with length-1 axes where shared, or a number.
    Returns (B,), in nats, summed over the event.  Raises ValueError if the shapes do not fit.
    """
    (logits,) = fitted("bernoulli.log_prob", "x", x, logits=logits)
    return -per_example(F.binary_cross_entropy(logits, x))


def entropy(logits: Array) -> Array:
    """Entropy, the mean of −log p.

        H = −Σ (p log p + (1 − p) log(1 − p))                                               bernoulli.entropy
          = Σ (softplus(m) − m·σ(m)),      m = −|l|

    The entropy is even in l; on the negative side neither term is large.

    logits: (B, …), the full shape of the event.  Returns (B,), in nats, summed over the event.
    Raises ValueError if there is no batch axis.
    """
    fitted("bernoulli.entropy", "logits", logits)
    # a factor of ±1 in place of −|l|: the result is smooth at 0, to any order
    m = logits * ((logits < 0).astype(logits.dtype) * 2 - 1)
    return per_example(F.softplus(m) - m * F.sigmoid(m))


def sample(rng, logits: Array, u: Array | None = None) -> Array:
    """One flip of each coin.

        x = 1 where u < p, 0 elsewhere,      u ~ U[0, 1)                                    bernoulli.sample

    logits: (B, …).  u: the noise, in the logits' shape; None: drawn from rng.
    Returns a plain array in the logits' shape and precision: a jump has no gradient.
    Raises ValueError if the shapes differ.
    """
    fitted("bernoulli.sample", "logits", logits)
    p = F.sigmoid(value_of(logits))
    u = rng.random(p.shape, p.dtype) if u is None else value_of(u)
    alike("bernoulli.sample", "logits", p, u=u)
    return (u < p).astype(p.dtype)


def kl(logits_q: Array, logits_p: Array) -> Array:
    """KL(q‖p) between two sets of coins.

        KL = Σ (q·(l_q − l_p) − softplus(l_q) + softplus(l_p)),      q = σ(l_q)             bernoulli.kl

    logits_q: (B, …).  logits_p: its shape, with length-1 axes where shared, or a number.
    Returns (B,), in nats, summed over the event.  Raises ValueError if the shapes do not fit.
    """
    (logits_p,) = fitted("bernoulli.kl", "logits_q", logits_q, logits_p=logits_p)
    q = F.sigmoid(logits_q)
    return per_example(q * (logits_q - logits_p) - F.softplus(logits_q) + F.softplus(logits_p))
