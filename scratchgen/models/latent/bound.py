"""The evidence of a model with a latent z, and lower bounds of it, for any p(z), p(x|z) and q = q(z|x).

    log p(x) = L + KL(q‖p(z|x)),     L = E_q log p(x|z) − KL(q‖p(z))                    (1)  elbo.evidence
    L        = E_q[log p(x, z) − log q(z|x)]                                            (2)  elbo.sampled
    L_K      = E_q log (1/K) Σ_k p(x, z_k)/q(z_k|x),     z_1 … z_K ~ q independent      (3)  elbo.importance

(1) is Bayes' rule, log p(x) = log p(x|z) + log p(z) − log p(z|x), with log q added and taken away, averaged over q.
The last divergence is not negative, so L ≤ log p(x); it is 0, and L is log p(x), where q is the posterior.  There
each sample of (2) is log p(x), whichever z was drawn: at its optimum the estimate has no variance.

(3) has L_1 = L, never falls as K grows, and stays below log p(x) by Jensen's inequality: what stands in the logarithm
has the mean p(x).  Kingma & Welling (2014, eqs. 1–3); Burda, Grosse & Salakhutdinov (2016, eq. 8 and theorem 1).
"""

from __future__ import annotations

from math import log
from typing import Any

from scratchgen import ops
from scratchgen.distributions.events import alike


def elbo(log_lik: Any, kl: Any) -> Any:
    """L, eq. (1): what is explained, less what the code costs.

    log_lik: E_q log p(x|z), or log p(x|z) at one z ~ q, which gives an unbiased estimate, (B,).
    kl: KL(q‖p(z)), (B,).  Returns (B,), in nats.  Raises ValueError if the shapes differ.
    """
    alike("elbo", "log_lik", log_lik, kl=kl)
    return log_lik - kl


def elbo_sampled(log_joint: Any, log_q: Any) -> Any:
    """An unbiased estimate of L from each z ~ q, eq. (2): also where the divergence has no closed form.

    log_joint: log p(x, z) = log p(x|z) + log p(z).  log_q: log q(z|x).  Both (B,), or (K, B) for K samples each.
    Returns their shape, in nats.  Raises ValueError if the shapes differ.
    """
    alike("elbo_sampled", "log_joint", log_joint, log_q=log_q)
    return log_joint - log_q


def elbo_importance(log_joint: Any, log_q: Any) -> Any:
    """An unbiased estimate of L_K from K samples z_k ~ q(z|x), eq. (3).

    log_joint: log p(x, z_k).  log_q: log q(z_k|x).  Both (K, B), a column of samples for each example.
    Returns (B,), in nats.  Raises ValueError if the shapes differ, or there are no samples.
    """
    if log_joint.ndim != 2 or not log_joint.shape[0]:
        raise ValueError(f"elbo_importance: log_joint {log_joint.shape} should be (K, B), K samples for each example")
    log_w = elbo_sampled(log_joint, log_q)
    return ops.logsumexp(log_w, axis=0) - log(log_w.shape[0])
