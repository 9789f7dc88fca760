"""The Gaussian with diagonal covariance, N(μ, diag σ²), in mu and log_var = log σ².

All shapes are (B, …): the leading axis is the batch, the rest is the event, over which results are summed.
"""

from __future__ import annotations

from math import log, pi, sqrt

from scratchgen import ops
from scratchgen.autograd import primitive
from scratchgen.backend import Array
from scratchgen.distributions.events import alike, bin_half_width, fitted, per_example

LOG_2PI = log(2 * pi)


def log_prob(x: Array, mu: Array, log_var: Array) -> Array:
    """log N(x; μ, σ²).

        log p(x) = −½ Σ (log 2π + log σ² + (x − μ)²/σ²)                                     gaussian.log_prob

    x: (B, …).  mu, log_var: x's shape, with length-1 axes where shared, or numbers.
    Returns (B,), in nats, summed over the event.  Raises ValueError if the shapes do not fit.
    """
    mu, log_var = fitted("gaussian.log_prob", "x", x, mu=mu, log_var=log_var)
    z = (x - mu) * ops.exp(-0.5 * log_var)
    return -0.5 * per_example(LOG_2PI + log_var + ops.square(z))


def entropy(log_var: Array) -> Array:
    """Entropy, the mean of −log p.

        H = ½ Σ (1 + log 2π + log σ²)                                                       gaussian.entropy

    log_var: (B, …), the full shape of the event.  Returns (B,), in nats, summed over the event.
    Raises ValueError if there is no batch axis.
    """
    fitted("gaussian.entropy", "log_var", log_var)
    return 0.5 * per_example(1 + LOG_2PI + log_var)


def sample(rng, mu: Array, log_var: Array, eps: Array | None = None) -> Array:
    """The reparametrisation: noise that has no parameters, carried to N(μ, σ²) (Kingma & Welling 2014, eq. 4).

        z = μ + σ⊙ε,      ε ~ N(0, I)                                                       gaussian.sample

    mu: (B, …).  log_var: mu's shape, with length-1 axes where shared, or a number.
    eps: the noise, in mu's shape; None: drawn from rng.
    Returns mu's shape, differentiable in mu and log_var.  Raises ValueError if the shapes do not fit.
    """
    (log_var,) = fitted("gaussian.sample", "mu", mu, log_var=log_var)
    if eps is None:
        if rng is None:
            raise ValueError("gaussian.sample: neither eps nor an rng to draw it from")
        eps = rng.standard_normal(mu.shape, mu.dtype)
    alike("gaussian.sample", "mu", mu, eps=eps)
    return mu + ops.exp(0.5 * log_var) * eps


def kl(mu_q: Array, log_var_q: Array, mu_p: Array, log_var_p: Array) -> Array:
    """KL(q‖p) between two diagonal Gaussians.

        KL = Σ (log σ_p/σ_q + (σ_q² + (μ_q − μ_p)²)/2σ_p² − ½)                              gaussian.kl
           = ½ Σ (e^d − 1 − d + (μ_q − μ_p)²/σ_p²),      d = log σ_q² − log σ_p²

    The second form, with expm1, keeps the digits of a small divergence.

    mu_q: (B, …).  The others: mu_q's shape, with length-1 axes where shared, or numbers.
    Returns (B,), in nats, summed over the event.  Raises ValueError if the shapes do not fit.
    """
    log_var_q, mu_p, log_var_p = fitted(
        "gaussian.kl", "mu_q", mu_q, log_var_q=log_var_q, mu_p=mu_p, log_var_p=log_var_p
    )
    d = log_var_q - log_var_p
    z = (mu_q - mu_p) * ops.exp(-0.5 * log_var_p)
    return 0.5 * per_example(ops.expm1(d) - d + ops.square(z))


def kl_standard(mu: Array, log_var: Array) -> Array:
    """KL between a diagonal Gaussian and the standard normal (Kingma & Welling 2014, App. B).

        KL = ½ Σ (μ² + σ² − log σ² − 1)                                                     gaussian.kl_standard

    mu, log_var: (B, …), of one shape.  Returns (B,), in nats, summed over the event.
    Raises ValueError if the shapes differ.
    """
    fitted("gaussian.kl_standard", "mu", mu)
    alike("gaussian.kl_standard", "mu", mu, log_var=log_var)
    return 0.5 * per_example(ops.square(mu) + ops.expm1(log_var) - log_var)


# --- the probability of a bin -------------------------------------------------------------------------------

TAIL = 4.0
TERMS = 32


@primitive(lambda g, y, t: g * ((t + y) * y - 1))
def hazard_excess(xp, t, /):
    """r(t) = φ(t)/Q(t) − t for t ≥ 0, with Q = 1 − Φ: by how much the normal's hazard exceeds t.

        r = 1/(t + 2/(t + 3/(t + …)))       (Laplace's continued fraction),   r' = (t + r)·r − 1

    One operation because a tape of the fraction's terms would be 60 nodes long.  Below 4, r comes from erfc;
    from 4 on, 32 terms give all of float64's digits, and t may be as large as its square can be held.
    """
    near, far = xp.minimum(t, TAIL), xp.maximum(t, TAIL)
    hazard = sqrt(2 / pi) * xp.exp(-0.5 * near * near) / xp.erfc(near * sqrt(0.5))
    fraction = far
    for k in range(TERMS, 1, -1):
        fraction = far + k / fraction
    return xp.where(t < TAIL, hazard - near, 1 / fraction)


def _upper(t: Array) -> Array:
    """Q(t) = 1 − Φ(t)."""
    return 0.5 * ops.erfc(t * sqrt(0.5))


# Gauss–Legendre with 8 points on [−1, 1]: the positive nodes, and the weights for the half interval.
_LEGENDRE = (
    (0.18343464249564980, 0.36268378337836198),
    (0.52553240991632899, 0.31370664587788729),
    (0.79666647741362674, 0.22238103445337447),
    (0.96028985649753623, 0.10122853629037626),
)


def discretised_log_prob(x: Array, mu: Array, log_sigma: Array, levels: int) -> Array:
    """log-probability of the bin around each x, for data on `levels` equally spaced values of [−1, 1].

        log ∫ N(u; μ, σ²) du  from x − h to x + h,      h = 1/(levels − 1)                  gaussian.discretised

    (Ho et al. 2020, eq. 13.)  The bins around −1 and 1 reach to −∞ and ∞, so the levels' probabilities sum to 1.
    (x off the grid: the bin is centred on x, and open for x within h of ±1 or beyond.)

    Φ(b) − Φ(a) of the formula is 0 − 0 or 1 − 1 in the tails, and loses its digits for narrow bins.  So the
    bin is mirrored to the right: in units of σ its centre is c ≥ 0, its half-width w, its ends a = c − w and
    b = c + w (an open bin: b = ∞, and c of either sign).  With Q = 1 − Φ and the hazard H = φ/Q, one of three
    forms, none of which subtracts near numbers:

        narrow, w(c + 1) < ½    log φ(c) + log 2w + log ∫₀¹ cosh(cwτ)·e^(−w²τ²/2) dτ,  by Gauss–Legendre
        tail, a > 0             log Q(a) + log(1 − Q(b)/Q(a)),  log Q(a) = log φ(a) − log H(a),
                                Q(b)/Q(a) = e^(−2cw)·H(a)/H(b),  which is at most 0.6 in a bin not narrow
        elsewhere               log(1 − Q(−a) − Q(b)),  whose argument is at least ¼

    The result is finite wherever ((x − μ)/σ)² is: σ from e⁻²⁰ to e²⁰, and further, in float32.

    x: (B, …).  mu, log_sigma = log σ: x's shape, with length-1 axes where shared, or numbers.
    Returns (B,), in nats, summed over the event.
    Raises ValueError if the shapes do not fit or levels < 2.
    """
    mu, log_sigma = fitted("gaussian.discretised_log_prob", "x", x, mu=mu, log_sigma=log_sigma)
    h = bin_half_width("gaussian.discretised_log_prob", levels)
    lowest, highest = x < h - 1, x > 1 - h
    is_open = lowest | highest
    # a factor of ±1 in place of |x − μ|: the result is smooth where x = μ, to any order
    mirror = (highest | (~lowest & (x >= mu))).astype(x.dtype) * 2 - 1
    distance = mirror * (x - mu)
    precision = ops.exp(-log_sigma)
    c, w = distance * precision, h * precision
    a, b = (distance - h) * precision, (distance + h) * precision
    is_narrow = ~is_open & (w * (c + 1) < 0.5)
    is_tail = ~is_narrow & (a > 0)
    narrow = _narrow(ops.where(is_narrow, c, 0.0), ops.where(is_narrow, w, 0.0)) + (log(2 * h) - log_sigma)
    tail = _tail(
        ops.where(is_tail, a, 1.0), ops.where(is_tail, b, 2.0), ops.where(is_tail, 2 * c * w, 1.0), is_open
    )
    elsewhere = ~is_narrow & ~is_tail
    inner = _straddling(ops.where(elsewhere, -a, 1.0), ops.where(elsewhere, b, 1.0), is_open)
    return per_example(ops.where(is_narrow, narrow, ops.where(is_tail, tail, inner)))


def _narrow(c: Array, w: Array) -> Array:
    """log of the mean density over [c − w, c + w]."""
    mean = 0.0
    for node, weight in _LEGENDRE:
        step = w * node
        mean = mean + weight * ops.cosh(c * step) * ops.exp(-0.5 * ops.square(step))
    return ops.log(mean) - 0.5 * (ops.square(c) + LOG_2PI)


def _tail(a: Array, b: Array, two_cw: Array, is_open: Array) -> Array:
    """log (Q(a) − Q(b)) for 0 < a < b; log Q(a) where the bin is open."""
    hazard_a, hazard_b = a + hazard_excess(a), b + hazard_excess(b)
    beyond = ops.where(is_open, 0.0, ops.exp(-two_cw) * hazard_a / hazard_b)
    return ops.log1p(-beyond) - ops.log(hazard_a) - 0.5 * (ops.square(a) + LOG_2PI)


def _straddling(left: Array, right: Array, is_open: Array) -> Array:
    """log of the mass between −left and right, both positive; to the right of −left where the bin is open."""
    return ops.log1p(-(_upper(left) + ops.where(is_open, 0.0, _upper(right))))
