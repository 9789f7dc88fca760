"""The logistic distribution: distribution function σ(z), z = (x − μ)/s, in mu and log_s = log s.

All shapes are (B, …): the leading axis is the batch, the rest is the event, over which results are summed.
There is no `kl`: between two logistics of different scale it has no closed form.
"""

from __future__ import annotations

from scratchgen import functional as F
from scratchgen import ops
from scratchgen.autograd import value_of
from scratchgen.backend import Array, float32
from scratchgen.distributions.events import alike, bin_half_width, fitted, per_example


def log_prob(x: Array, mu: Array, log_s: Array) -> Array:
    """log of the density, the slope of the distribution function.

        log p(x) = Σ (log σ(z) + log σ(−z) − log s),      z = (x − μ)/s                     logistic.log_prob

    x: (B, …).  mu, log_s: x's shape, with length-1 axes where shared, or numbers.
    Returns (B,), in nats, summed over the event.  Raises ValueError if the shapes do not fit.
    """
    mu, log_s = fitted("logistic.log_prob", "x", x, mu=mu, log_s=log_s)
    z = (x - mu) * ops.exp(-log_s)
    return per_example(F.log_sigmoid(z) + F.log_sigmoid(-z) - log_s)


def entropy(log_s: Array) -> Array:
    """Entropy, the mean of −log p.

        H = Σ (log s + 2)                                                                   logistic.entropy

    log_s: (B, …), the full shape of the event.  Returns (B,), in nats, summed over the event.
    Raises ValueError if there is no batch axis.
    """
    fitted("logistic.entropy", "log_s", log_s)
    return per_example(log_s + 2)


def sample(rng, mu: Array, log_s: Array, u: Array | None = None) -> Array:
    """The inverse of the distribution function, of uniform noise.

        x = μ + s·logit(u),      u ~ U(0, 1)                                                logistic.sample

    mu: (B, …).  log_s: mu's shape, with length-1 axes where shared, or a number.
    u: the noise, in mu's shape, inside (0, 1); None: drawn from rng.
    Returns mu's shape, differentiable in mu and log_s.  Raises ValueError if the shapes do not fit.
    """
    (log_s,) = fitted("logistic.sample", "mu", mu, log_s=log_s)
    if u is None:
        # draws are multiples of twice this, 0 among them, which stands for [0, 2·tiny): its middle is taken
        tiny = 2.0**-25 if mu.dtype == float32 else 2.0**-54
        u = ops.maximum(rng.random(mu.shape, mu.dtype), tiny)
    alike("logistic.sample", "mu", mu, u=u)
    return mu + ops.exp(log_s) * ops.logit(value_of(u))


def discretised_log_prob(x: Array, mu: Array, log_s: Array, levels: int) -> Array:
    """log-probability of the bin around each x, for data on `levels` equally spaced values of [−1, 1].

        log (σ(b) − σ(a)),      a, b = (x ∓ h − μ)/s,      h = 1/(levels − 1)               logistic.discretised
          = log σ(b) + log σ(−a) + log(1 − e^(−2h/s))

    (Salimans et al. 2017, eq. 2.)  The second line, which holds because σ(b) − σ(a) = σ(b)·σ(−a)·(1 − e^(a−b)),
    has no difference of near numbers at all.  The bins around −1 and 1 reach to −∞ and ∞ (log σ(b), log σ(−a)),
    so the levels' probabilities sum to 1.  (x off the grid: the bin is centred on x, and open for x within h of
    ±1 or beyond.)

    x: (B, …).  mu, log_s: x's shape, with length-1 axes where shared, or numbers.
    Returns (B,), in nats, summed over the event.
    Raises ValueError if the shapes do not fit or levels < 2.
    """
    mu, log_s = fitted("logistic.discretised_log_prob", "x", x, mu=mu, log_s=log_s)
    h = bin_half_width("logistic.discretised_log_prob", levels)
    lowest, highest = x < h - 1, x > 1 - h
    precision = ops.exp(-log_s)
    below_b = F.log_sigmoid((x + h - mu) * precision)
    above_a = F.log_sigmoid(-(x - h - mu) * precision)
    width = ops.log(-ops.expm1(-2 * h * precision))
    return per_example(
        ops.where(highest, 0.0, below_b)
        + ops.where(lowest, 0.0, above_a)
        + ops.where(lowest | highest, 0.0, width)
    )
