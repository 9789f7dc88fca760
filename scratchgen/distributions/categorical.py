"""One of K classes, p = softmax(l), in logits l: (B, …, K), of which the last axis counts the classes.

The leading axis is the batch; the axes between are the event, over which results are summed.  A logit of −inf
is a class that never occurs; each distribution needs at least one that does.
"""

from __future__ import annotations

from scratchgen import functional as F
from scratchgen import ops
from scratchgen.autograd import value_of
from scratchgen.backend import Array
from scratchgen.distributions.events import alike, per_example, same_shape


def log_prob(labels: Array, logits: Array) -> Array:
    """log p(label), minus a cross entropy.

        log p(label) = Σ log softmax(l)[label]                                              categorical.log_prob

    labels: (B, …), plain integers in [0, K).  logits: (B, …, K).
    Returns (B,), in nats, summed over the event.  Raises ValueError if the shapes do not fit.
    """
    _check("categorical.log_prob", logits)
    same_shape("categorical.log_prob", "logits without its last axis", logits.shape[:-1], labels=labels)
    return -per_example(F.cross_entropy(logits, labels))


def entropy(logits: Array) -> Array:
    """Entropy, the mean of −log p.

        H = −Σ_k p_k log p_k,      where 0·log 0 = 0                                        categorical.entropy

    logits: (B, …, K).  Returns (B,), in nats, summed over the event.
    Raises ValueError if the logits have no batch or no class axis.
    """
    _check("categorical.entropy", logits)
    log_p = F.log_softmax(logits)
    p = ops.exp(log_p)
    return -per_example(p * ops.where(p > 0, log_p, 0.0))


def sample(rng, logits: Array, gumbel: Array | None = None) -> Array:
    """The class whose logit is largest once noise is added: each k with probability p_k (Gumbel 1954).

        argmax_k (l_k + G_k),      G_k = −log E_k,      E_k ~ Exp(1)                        categorical.sample

    logits: (B, …, K).  gumbel: the noise G, in the logits' shape; None: drawn from rng.
    Returns plain int64 labels (B, …): a jump has no gradient.  Raises ValueError if the shapes differ.
    """
    _check("categorical.sample", logits)
    logits = value_of(logits)
    if gumbel is None:
        tiny = 1e-37  # a draw of exactly 0 would give an infinite G
        gumbel = -ops.log(ops.maximum(rng.exponential(logits.shape, logits.dtype), tiny))
    alike("categorical.sample", "logits", logits, gumbel=gumbel)
    return ops.argmax(logits + value_of(gumbel), axis=-1)


def kl(logits_q: Array, logits_p: Array) -> Array:
    """KL(q‖p) between two distributions over the same classes.

        KL = Σ_k q_k (log q_k − log p_k),      where 0·log 0 = 0                            categorical.kl

    logits_q, logits_p: (B, …, K), of one shape.  Returns (B,), in nats, summed over the event; inf where q
    has a class that p excludes.  Raises ValueError if the shapes differ.
    """
    _check("categorical.kl", logits_q)
    alike("categorical.kl", "logits_q", logits_q, logits_p=logits_p)
    log_q, log_p = F.log_softmax(logits_q), F.log_softmax(logits_p)
    q = ops.exp(log_q)
    return per_example(q * (ops.where(q > 0, log_q, 0.0) - ops.where(q > 0, log_p, 0.0)))


def _check(function: str, logits: Array) -> None:
    if logits.ndim < 2:
        raise ValueError(f"{function}: logits {logits.shape} should be (B, …, K)")
