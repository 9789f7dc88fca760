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


@primitive(lambda g, _y, x: g * silu_slope(x))
def silu(xp, x, /):
    """y = x·σ(x), σ(x) = ½ + ½·tanh(x/2).  x̄ = ȳ·silu′(x).

    One operation: the tape keeps one array instead of three.  NumPy's tanh is faster than expit.
    """
    half = x * 0.5
    y = xp.tanh(half)
    y *= half
    y += half
    return y


@primitive(lambda g, _y, x: g * _silu_bend(x, sigmoid(x)))
def silu_slope(xp, x, /):
    """silu′(x) = σ·(1 + x(1 − σ)).  One operation: it runs at every activation of every step back."""
    sigma = xp.tanh(x * 0.5)
    sigma *= 0.5
    sigma += 0.5
    y = 1 - sigma
    y *= x
    y += 1
    y *= sigma
    return y


def _silu_bend(x: Any, sigma: Any) -> Any:
    """silu″(x) = σ(1 − σ)(2 + x(1 − 2σ))."""
    return sigma * (1 - sigma) * (2 + x * (1 - 2 * sigma))


def gelu(x):
    """y = x·Φ(x), Φ the standard normal distribution function (Hendrycks & Gimpel 2016)."""
    return x * ops.ndtr(x)


def leaky_relu(x, slope: float = 0.2):
    """y = x for x > 0, slope·x elsewhere."""
    return relu(x) - slope * relu(-x)


@primitive(lambda g, _y, x: g * sigmoid(x))
def softplus(xp, x, /):
    """y = ln(1 + eˣ) = max(x, 0) + ln(1 + e^−|x|), which does not overflow.  x̄ = ȳ·σ(x)."""
    y = xp.log1p(xp.exp(-xp.absolute(x)))
    y += xp.maximum(x, 0)
    return y


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
    y = x - x.max(axis=axis, keepdims=True)
    xp.exp(y, out=y)
    y /= xp.sum(y, axis=axis, keepdims=True)
    return y


@primitive(lambda g, y, _x, axis=-1: g - ops.exp(y) * ops.sum(g, axis=axis, keepdims=True))
def log_softmax(xp, x, /, axis=-1):
    """y = x − ln Σeˣ.  x̄ = ȳ − softmax(x)·Σȳ."""
    y = x - x.max(axis=axis, keepdims=True)
    y -= xp.log(xp.sum(xp.exp(y), axis=axis, keepdims=True))
    return y


def cross_entropy(logits, labels):
    """−ln softmax(logits)[label], in nats.

    logits: (…, K).  labels: plain integers (…), each in [0, K).  Returns (…).
    """
    chosen = ops.take_along_axis(log_softmax(logits), ops.expand_dims(value_of(labels), -1), -1)
    return -ops.squeeze(chosen, -1)


@primitive(lambda g, _y, logits, x: g * (sigmoid(logits) - x), lambda g, _y, logits, _x: -(g * logits))
def binary_cross_entropy(xp, logits, x, /):
    """−x·ln σ(l) − (1 − x)·ln(1 − σ(l)) = x·max(−l, 0) + (1 − x)·max(l, 0) + ln(1 + e^−|l|), in nats, per entry.

    One operation: its gradients are l̄ = ȳ(σ(l) − x) and x̄ = −ȳl.  The shorter softplus(l) − x·l would lose all
    digits where the guess is sure and right.
    """
    above = xp.maximum(logits, 0)
    below = above - logits
    y = x * below + (1 - x) * above
    y += xp.log1p(xp.exp(-(above + below)))
    return y


# --- normalisation ------------------------------------------------------------------------------------------


def _standardise(x: Any, mean: Any, tiny: float) -> Any:
    """y = (x − μ)/√(σ² + tiny), where `mean` says over what μ and σ² are taken."""
    centred = x - mean(x)
    return _standardised(x, centred, 1 / ops.sqrt(mean(ops.square(centred)) + tiny), mean)


@primitive(lambda g, y, _x, _centred, scale, mean: scale * (g - mean(g) - y * mean(g * y)), None, None)
def _standardised(xp, x, centred, scale, /, mean):
    """y = (x − μ)·s, s = 1/√(σ² + tiny).  x̄ = s·(ȳ − mean ȳ − y·mean(ȳ∘y)).

    The rule of x is all of the gradient: it knows that x − μ and s are made of x.  They are given since they are made
    already; at second order, where s has a gradient of its own, the tape knows of what.
    """
    return centred * scale


def standardise(x, axis, tiny):
    """y = (x − μ)/√(σ² + tiny), μ and σ² over `axis`."""
    return _standardise(x, lambda x: ops.mean(x, axis=axis, keepdims=True), tiny)


def layer_norm(x, scale=None, shift=None, tiny: float = 1e-5):
    """Each vector of the last axis to mean 0 and variance 1, then scale and shift (Ba et al. 2016)."""
    return _affine(standardise(x, (-1,), tiny), scale, shift)


@primitive(lambda g, _y, _x, groups: ops.broadcast_to(_group_mean(g, groups) / _x.shape[1], _x.shape))
def _group_mean(xp, x, /, groups):
    """The mean over each image's pixels and each group's channels, per channel.  (B, P, C) → (B, 1, C)."""
    b, p, c = x.shape
    k = c // groups
    sums = xp.sum(x, axis=1).reshape(b * groups, k)
    return xp.matmul(sums, xp.full((k, k), 1 / (p * k), x.dtype)).reshape(b, 1, c)  # adds, divides and repeats


def group_standardise(x, groups, tiny):
    """y = (x − μ)/√(σ² + tiny), μ and σ² over an image's pixels and a group of its channels.  x: (B, P, C).

    `standardise` per group, written so that every pass runs along whole rows of C numbers.
    """
    return _standardise(x, lambda x: _group_mean(x, groups), tiny)


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
    scores = ops.matmul(q * (1 / sqrt(q.shape[-1])), ops.swapaxes(k, -1, -2))
    if mask is not None:  # a sum, whose gradient is ȳ itself: softmax gives 0 to what is masked anyway
        zero = backend_of(value_of(scores)).zeros((), scores.dtype)
        scores = scores + ops.where(mask, zero, -float("inf"))
    return ops.matmul(softmax(scores, axis=-1), v)


def embedding(table, indices):
    """Rows of a table (N, D) at plain integers (…), as (…, D); a row used twice receives both gradients."""
    return ops.getitem(table, value_of(indices))


def one_hot(indices, n: int, dtype="float32"):
    """Plain array (…, n) with a 1 at each index."""
    xp = backend_of(indices, operation="one_hot")
    return (indices[..., None] == xp.arange(n)).astype(dtype)


def causal_mask(length: int, like=None, before: int = 0):
    """Booleans (T, before + T): position t sees itself, those up to it, and all that stand before them."""
    xp = active() if like is None else backend_of(value_of(like))
    return xp.tri(length, before + length, before, dtype=bool)


__all__ = [
    "attention", "binary_cross_entropy", "causal_mask", "cross_entropy", "embedding", "gelu", "group_norm",
    "layer_norm", "leaky_relu", "log_sigmoid", "log_softmax", "logsumexp", "one_hot", "relu", "rms_norm",
    "sigmoid", "silu", "softmax", "softplus", "standardise", "tanh",
]  # fmt: skip
