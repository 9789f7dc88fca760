"""What networks are made of between their weights: activations, normalisations, attention, cross entropies.

Most are compositions of `ops`.  The few that are one operation are so for a stated reason: fewer passes over
memory, or a form that does not overflow.
"""

from __future__ import annotations

from math import prod, sqrt
from typing import Any

from scratchgen import ops
from scratchgen.autograd.primitive import primitive
from scratchgen.autograd.tensor import value_of
from scratchgen.backend import active, backend_of
from scratchgen.ops import expit as sigmoid
from scratchgen.ops import logsumexp, tanh

# --- activations --------------------------------------------------------------------------------------------


@primitive(lambda g, _y, x: ops.where(x > 0, g, 0.0))
def relu(xp, x, /):
    """y = max(x, 0).  Its derivative at 0 is taken to be 0."""
    return xp.maximum(x, 0)


@primitive(lambda g, y, x: _silu_rule(g, y, 0.5 * tanh(0.5 * x) + 0.5))
def silu(xp, x, /):
    """y = x·σ(x), σ(x) = ½ + ½·tanh(x/2).  x̄ = ȳ·(σ + y(1 − σ)).

    One operation: the tape keeps two arrays instead of four.  NumPy's tanh is faster than expit.
    """
    half = x * 0.5
    return half * xp.tanh(half) + half


def _silu_rule(g: Any, y: Any, sigma: Any) -> Any:
    return g * (sigma + y * (1 - sigma))


def gelu(x):
    """y = x·Φ(x), Φ the standard normal distribution function (Hendrycks & Gimpel 2016)."""
    return x * (0.5 * (1 + ops.erf(x * (1 / sqrt(2)))))


def leaky_relu(x, slope: float = 0.2):
    """y = x for x > 0, slope·x elsewhere."""
    return relu(x) - slope * relu(-x)


@primitive(lambda g, _y, x: g * sigmoid(x))
def softplus(xp, x, /):
    """y = ln(1 + eˣ) = max(x, 0) + ln(1 + e^−|x|), which does not overflow.  x̄ = ȳ·σ(x)."""
    return xp.maximum(x, 0) + xp.log1p(xp.exp(-xp.absolute(x)))


def log_sigmoid(x):
    """ln σ(x) = −softplus(−x)."""
    return -softplus(-x)


# --- softmax ------------------------------------------------------------------------------------------------


@primitive(lambda g, y, _x, axis=-1: y * (g - ops.sum(g * y, axis=axis, keepdims=True)))
def softmax(xp, x, /, axis=-1):
    """y = eˣ / Σeˣ.  x̄ = y∘(ȳ − ⟨ȳ, y⟩): 0 for a constant ȳ.

    One operation because the largest x is taken out first.  An x of −inf has y = 0 and no gradient; a row of
    nothing but −inf has no softmax: nan, with NumPy's warning.
    """
    e = xp.exp(x - x.max(axis=axis, keepdims=True))
    return e / xp.sum(e, axis=axis, keepdims=True)


@primitive(lambda g, y, _x, axis=-1: g - ops.exp(y) * ops.sum(g, axis=axis, keepdims=True))
def log_softmax(xp, x, /, axis=-1):
    """y = x − ln Σeˣ.  x̄ = ȳ − softmax(x)·Σȳ."""
    x = x - x.max(axis=axis, keepdims=True)
    return x - xp.log(xp.sum(xp.exp(x), axis=axis, keepdims=True))


def cross_entropy(logits, labels):
    """−ln softmax(logits)[label], in nats.

    logits: (…, K).  labels: plain integers (…), each in [0, K).  Returns (…).
    """
    chosen = ops.take_along_axis(log_softmax(logits), ops.expand_dims(value_of(labels), -1), -1)
    return -ops.squeeze(chosen, -1)


def binary_cross_entropy(logits, x):
    """−x·ln σ(l) − (1 − x)·ln(1 − σ(l)) = softplus(l) − x·l, in nats, per entry."""
    return softplus(logits) - x * logits


# --- normalisation ------------------------------------------------------------------------------------------


def _inverse_std(x: Any, axis: Any, tiny: float) -> Any:
    return 1 / ops.sqrt(ops.var(x, axis=axis, keepdims=True) + tiny)


def _standardise_rule(g, y, x, axis, tiny):
    centred = g - ops.mean(g, axis=axis, keepdims=True) - y * ops.mean(g * y, axis=axis, keepdims=True)
    return _inverse_std(x, axis, tiny) * centred


@primitive(_standardise_rule)
def standardise(xp, x, /, axis, tiny):
    """y = (x − μ)/√(σ² + tiny), μ and σ² over `axis`.  x̄ = (ȳ − mean ȳ − y·mean(ȳ∘y))/√(σ² + tiny).

    One operation: the gradient in this form needs three passes instead of the composition's nine.
    """
    centred = x - xp.mean(x, axis=axis, keepdims=True)
    var = xp.mean(centred * centred, axis=axis, keepdims=True)
    return centred / xp.sqrt(var + tiny)


def layer_norm(x, scale=None, shift=None, tiny: float = 1e-5):
    """Each vector of the last axis to mean 0 and variance 1, then scale and shift (Ba et al. 2016)."""
    return _affine(standardise(x, (-1,), tiny), scale, shift)


def _group_mean(x: Any, groups: int) -> Any:
    """The mean over each image's pixels and each group's channels, per channel.  (B, P, C) → (B, 1, C)."""
    b, p, c = x.shape
    sums = ops.reshape(ops.sum(x, axis=1), (b, groups, c // groups))
    means = ops.sum(sums, axis=-1, keepdims=True) / (p * (c // groups))
    return ops.reshape(ops.broadcast_to(means, (b, groups, c // groups)), (b, 1, c))


def _group_standardise_rule(g, y, x, groups, tiny):
    centred = x - _group_mean(x, groups)
    inverse_std = 1 / ops.sqrt(_group_mean(ops.square(centred), groups) + tiny)
    return inverse_std * (g - _group_mean(g, groups) - y * _group_mean(g * y, groups))


@primitive(_group_standardise_rule)
def group_standardise(xp, x, /, groups, tiny):
    """y = (x − μ)/√(σ² + tiny), μ and σ² over an image's pixels and a group of its channels.  x: (B, P, C).

    `standardise` per group, written so that every pass runs along whole rows of C numbers.
    """
    centred = x - _group_mean(x, groups)
    return centred / xp.sqrt(_group_mean(centred * centred, groups) + tiny)


def group_norm(x, groups: int, scale=None, shift=None, tiny: float = 1e-5):
    """Each group of channels of each image to mean 0 and variance 1 (Wu & He 2018).

    x: (B, …, C) with C divisible by `groups`.
    """
    b, c = x.shape[0], x.shape[-1]
    if c % groups:
        raise ValueError(f"group_norm: {c} channels do not divide into {groups} groups")
    y = group_standardise(ops.reshape(x, (b, prod(x.shape[1:-1]), c)), groups, tiny)
    return _affine(ops.reshape(y, x.shape), scale, shift)


def rms_norm(x, scale=None, tiny: float = 1e-6):
    """x/√(mean x² + tiny) along the last axis (Zhang & Sennrich 2019)."""
    return _affine(x / ops.sqrt(ops.mean(ops.square(x), axis=-1, keepdims=True) + tiny), scale, None)


def _affine(x: Any, scale: Any, shift: Any) -> Any:
    if scale is not None:
        x = x * scale
    return x if shift is None else x + shift


# --- attention and embeddings -------------------------------------------------------------------------------


def attention(q, k, v, mask=None):
    """softmax(q·kᵀ/√d)·v (Vaswani et al. 2017, eq. 1).

    q: (…, T, d).  k: (…, S, d).  v: (…, S, e).  mask: plain booleans that broadcast to (…, T, S), true
    where a query may look; every query must see something.  Returns (…, T, e).
    """
    scores = ops.matmul(q, ops.swapaxes(k, -1, -2)) * (1 / sqrt(q.shape[-1]))
    if mask is not None:
        scores = ops.where(mask, scores, -float("inf"))
    return ops.matmul(softmax(scores, axis=-1), v)


def embedding(table, indices):
    """Rows of a table (N, D) at plain integers (…), as (…, D); a row used twice receives both gradients."""
    return ops.getitem(table, value_of(indices))


def one_hot(indices, n: int, dtype="float32"):
    """Plain array (…, n) with a 1 at each index."""
    xp = backend_of(indices, operation="one_hot")
    return (indices[..., None] == xp.arange(n)).astype(dtype)


def causal_mask(length: int, like=None):
    """Booleans (T, T): position t sees positions up to t."""
    xp = active() if like is None else backend_of(value_of(like))
    return xp.tri(length, length, 0, dtype=bool)


__all__ = [
    "attention", "binary_cross_entropy", "causal_mask", "cross_entropy", "embedding", "gelu", "group_norm",
    "layer_norm", "leaky_relu", "log_sigmoid", "log_softmax", "logsumexp", "one_hot", "relu", "rms_norm",
    "sigmoid", "silu", "softmax", "softplus", "standardise", "tanh",
]  # fmt: skip
