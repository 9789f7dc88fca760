"""The posterior predictive by samples: what a Bayesian autoencoder expects to see next.

    p(x̂ | x) = ∫ p(x̂ | z, x) p(z | x) dz,       p(z | x) ∝ p(x | z) p(z)

z_1 … z_N from the prior, or from any r that covers it, stand for the posterior once they are reweighted by how well
they explain x (self-normalised importance sampling):

    w_i = p(x|z_i)·ρ_i / Σ_j p(x|z_j)·ρ_j,      ρ = p(z)/r(z); 1 for samples of the prior   (1)  predictive.reweight
    p(x̂ | x) ≈ Σ_i w_i·p(x̂ | z_i, x)                                       (2)  predictive.posterior_predictive

z_i from the posterior itself, by Markov chains for instance, have w_i = 1/N.  All in logarithms, so that a likelihood
of e^−1000 is as good as any.  The estimate is consistent, not unbiased: (1) divides by an estimate of p(x).
"""

from __future__ import annotations

from math import log
from typing import Any

from scratchgen import ops


def reweight(log_likelihood: Any, log_ratio: Any = 0.0) -> Any:
    """log w_i, eq. (1).

    log_likelihood: log p(x|z_i), (B, N), a row of N samples for each x; −∞ is a weight of 0, but not for all of a row.
    log_ratio: log ρ_i = log p(z_i) − log r(z_i), up to a constant: (B, N), or what broadcasts to it.
    Returns (B, N), in nats: the weights of a row sum to 1.  Raises ValueError if the shapes do not fit.
    """
    log_w = _rows("log_likelihood", log_likelihood) + log_ratio
    if log_w.shape != log_likelihood.shape:
        raise ValueError(f"predictive: log_ratio {log_ratio.shape} does not fit log_likelihood {log_likelihood.shape}")
    return log_w - ops.logsumexp(log_w, axis=-1, keepdims=True)


def posterior_predictive(log_prob: Any, log_w: Any = None) -> Any:
    """log p(x̂ | x), eq. (2).

    log_prob: log p(x̂|z_i, x), (B, N).  log_w: from `reweight`, (B, N) or (1, N); None: the z_i are samples of the
    posterior, w_i = 1/N.
    Returns (B,), in nats.  Raises ValueError if the shapes do not fit.
    """
    count = _rows("log_prob", log_prob).shape[1]
    if log_w is None:
        return ops.logsumexp(log_prob, axis=-1) - log(count)
    if log_w.ndim != 2 or log_w.shape[0] not in (1, log_prob.shape[0]) or log_w.shape[1] != count:
        raise ValueError(f"predictive: log_w {log_w.shape} does not fit log_prob {log_prob.shape}")
    return ops.logsumexp(log_prob + log_w, axis=-1)


def _rows(name: str, x: Any) -> Any:
    if x.ndim != 2 or not x.shape[1]:
        raise ValueError(f"predictive: {name} {x.shape} should be (B, N), a row of N samples for each example")
    return x
