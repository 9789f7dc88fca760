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
from scratchgen.autograd.transforms import vjp
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
    return half * xp.tanh(half) + half


@primitive(lambda g, _y, x: g * _silu_bend(x, sigmoid(x)))
def silu_slope(xp, x, /):
    """silu′(x) = σ + xσ(1 − σ).  One operation: it runs at every activation of every step back."""
    half = x * 0.5
    sigma = xp.tanh(half) * 0.5 + 0.5
    return sigma + x * sigma * (1 - sigma)


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
    """−x·ln σ(l) − (1 − x)·ln(1 − σ(l)) = x·softplus(−l) + (1 − x)·softplus(l), in nats, per entry.

    The shorter softplus(l) − x·l would lose all digits where the guess is sure and right.
    """
    return x * softplus(-logits) + (1 - x) * softplus(logits)


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


def _raw_group_mean(xp: Any, x: Any, groups: int) -> Any:
    """`_group_mean` of a raw array."""
    b, p, c = x.shape
    means = x.sum(axis=1).reshape(b, groups, c // groups).sum(axis=2) / (p * (c // groups))
    return xp.repeat(means, c // groups, axis=1)[:, None, :]


@primitive(lambda g, _y, x, groups, tiny: group_standardise_adjoint(g, x, groups, tiny))
def group_standardise(xp, x, /, groups, tiny):
    """y = (x − μ)/√(σ² + tiny), μ and σ² over an image's pixels and a group of its channels.  x: (B, P, C).

    `standardise` per group, written so that every pass runs along whole rows of C numbers.
    """
    centred = x - _raw_group_mean(xp, x, groups)
    return centred / xp.sqrt(_raw_group_mean(xp, centred * centred, groups) + tiny)


def _group_standardise_adjoint_rule(h, _y, g, x, groups, tiny):
    return vjp(lambda x: _group_standardise_adjoint(g, x, groups, tiny), x)[1](h)


@primitive(
    lambda h, _y, _g, x, groups, tiny: group_standardise_adjoint(h, x, groups, tiny),
    _group_standardise_adjoint_rule,
)
def group_standardise_adjoint(xp, g, x, /, groups, tiny):
    """x̄ = (ȳ − mean ȳ − y·mean(ȳ∘y))/√(σ² + tiny): the Jacobian of `group_standardise`, which is symmetric.

    One operation, since it runs at every norm of every step back; its own gradient is the composition's.
    """
    y = x - _raw_group_mean(xp, x, groups)
    scale = 1 / xp.sqrt(_raw_group_mean(xp, y * y, groups) + tiny)
    y *= scale
    return scale * (g - _raw_group_mean(xp, g, groups) - y * _raw_group_mean(xp, g * y, groups))


def _group_standardise_adjoint(g: Any, x: Any, groups: int, tiny: float) -> Any:
    """The same as a composition."""
    centred = x - _group_mean(x, groups)
    scale = 1 / ops.sqrt(_group_mean(ops.square(centred), groups) + tiny)
    y = centred * scale
    return scale * (g - _group_mean(g, groups) - y * _group_mean(g * y, groups))


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


def causal_mask(length: int, like=None):
    """Booleans (T, T): position t sees positions up to t."""
    xp = active() if like is None else backend_of(value_of(like))
    return xp.tri(length, length, 0, dtype=bool)


__all__ = [
    "attention", "binary_cross_entropy", "causal_mask", "cross_entropy", "embedding", "gelu", "group_norm",
    "layer_norm", "leaky_relu", "log_sigmoid", "log_softmax", "logsumexp", "one_hot", "relu", "rms_norm",
    "sigmoid", "silu", "softmax", "softplus", "standardise", "tanh",
]  # fmt: skip
