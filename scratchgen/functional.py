"""What networks are made of between their weights: activations, normalisations, attention, cross entropies.

Most are compositions of `ops`.  The few that are one operation are so for a stated reason: fewer passes over
memory, or a form that does not overflow.  What a backend may do in one pass is in `fused`, call by call.
"""

from __future__ import annotations

from math import prod, sqrt
from typing import Any, NamedTuple

from scratchgen import ops
from scratchgen.autograd.primitive import primitive
from scratchgen.autograd.tensor import Tensor, value_of
from scratchgen.backend import active, backend_of, float32
from scratchgen.fused import ONE_OVER_SQRT_2PI
from scratchgen.ops import expit as sigmoid
from scratchgen.ops import logsumexp, tanh

# --- activations --------------------------------------------------------------------------------------------


@primitive(lambda g, _y, x: ops.where(x > 0, g, 0.0))
def relu(xp, x, /):
    """y = max(x, 0).  Its derivative at 0 is taken to be 0."""
    return xp.maximum(x, 0)


def _by_slope(g: Any, x: Any, slope: Any, adjoint: str) -> Any:
    """x̄ = ȳ·slope(x): one call of the backend where nobody can differentiate it again."""
    if type(g) is Tensor or type(x) is Tensor:
        return g * slope(x)
    return getattr(backend_of(g, x), adjoint)(g, x)


@primitive(lambda g, _y, x: _by_slope(g, x, silu_slope, "silu_adjoint"))
def silu(xp, x, /):
    """y = x·σ(x).  x̄ = ȳ·silu′(x).

    One operation: the tape keeps one array instead of three.
    """
    return xp.silu(x)


@primitive(lambda g, _y, x: g * _silu_bend(x, sigmoid(x)))
def silu_slope(xp, x, /):
    """silu′(x) = σ·(1 + x(1 − σ)).  One operation: it runs at every activation of every step back."""
    return xp.silu_slope(x)


def _silu_bend(x: Any, sigma: Any) -> Any:
    """silu″(x) = σ(1 − σ)(2 + x(1 − 2σ))."""
    return sigma * (1 - sigma) * (2 + x * (1 - 2 * sigma))


def gelu(x):
    """y = x·Φ(x), Φ the standard normal distribution function (Hendrycks & Gimpel 2016)."""
    xp, value = _numbers(x, "gelu")
    y, phi = xp.gelu(value)
    return _gelu(x, _cdf(x, phi), y) if type(x) is Tensor else y


def _numbers(x: Any, operation: str) -> tuple[Any, Any]:
    """The backend and the array behind x.  Raises TypeError for whole numbers, which would give float64."""
    value = value_of(x)
    xp = backend_of(value, operation=operation)
    value = xp.asarray(value, float32) if type(value) in (int, float) else value
    if value.dtype.kind not in "fc":
        raise TypeError(f"{operation}: operands of {value.dtype} would give float64; convert one with ops.astype")
    return xp, value


@primitive(lambda g, _y, x, _phi: g * _pdf(x), None)
def _cdf(xp, x, phi, /):
    """Φ(x), which is made already."""
    return phi


@primitive(lambda g, _y, x, phi, _made: _gelu_adjoint(g, x, phi), None, None)
def _gelu(xp, x, phi, made, /):
    """y = x·Φ, which is made already.  The rule of x is all of the gradient: it knows that Φ is made of x."""
    return made


@primitive(
    lambda w, _z, _g, x, phi: _gelu_adjoint(w, x, phi),
    lambda w, _z, g, x, _phi: w * g * ((1 - ops.square(x)) * _pdf(x)),
    lambda w, _z, g, _x, _phi: w * g,
)
def _gelu_adjoint(xp, g, x, phi, /):
    """z = ḡ·(Φ + x·Φ′(x)), in which Φ is an argument of its own: ∂z/∂x = g·(1 − x²)·Φ′(x)."""
    return xp.gelu_adjoint(g, x, phi)


def _pdf(x: Any) -> Any:
    """Φ′(x) = e^(−x²/2)/√2π."""
    return ONE_OVER_SQRT_2PI * ops.exp(ops.square(x) * -0.5)


def leaky_relu(x, slope: float = 0.2):
    """y = x for x > 0, slope·x elsewhere."""
    return relu(x) - slope * relu(-x)


@primitive(lambda g, _y, x: _by_slope(g, x, sigmoid, "softplus_adjoint"))
def softplus(xp, x, /):
    """y = ln(1 + eˣ) = max(x, 0) + ln(1 + e^−|x|), which does not overflow.  x̄ = ȳ·σ(x)."""
    return xp.softplus(x)


def log_sigmoid(x):
    """ln σ(x) = −softplus(−x)."""
    return -softplus(-x)


# --- softmax ------------------------------------------------------------------------------------------------


@primitive(lambda g, y, _x, axis=-1: _softmax_adjoint(g, y, axis=axis))
def softmax(xp, x, /, axis=-1):
    """y = eˣ / Σeˣ.  x̄ = y∘(ȳ − ⟨ȳ, y⟩): 0 for a constant ȳ.

    One operation because the largest x is taken out first.  An x of −inf has y = 0 and no gradient; a row of
    nothing but −inf has no softmax: nan, with NumPy's warning.
    """
    return xp.softmax(x, axis)


@primitive(
    lambda w, _z, _g, y, axis: _softmax_adjoint(w, y, axis=axis),
    lambda w, _z, g, y, axis: w * (g - _dot(g, y, axis)) - g * _dot(w, y, axis),
)
def _softmax_adjoint(xp, g, y, /, axis):
    """z = y∘(g − ⟨g, y⟩): a symmetric matrix times g.  ȳ = z̄∘(g − ⟨g, y⟩) − g·⟨z̄, y⟩."""
    return xp.softmax_adjoint(g, y, axis)


def _dot(a: Any, b: Any, axis: int) -> Any:
    return ops.sum(a * b, axis=axis, keepdims=True)


@primitive(lambda g, y, _x, axis=-1: _log_softmax_adjoint(g, y, axis=axis))
def log_softmax(xp, x, /, axis=-1):
    """y = x − ln Σeˣ.  x̄ = ȳ − softmax(x)·Σȳ."""
    return xp.log_softmax(x, axis)


@primitive(
    lambda w, _z, _g, y, axis: w - _dot(w, ops.exp(y), axis),
    lambda w, _z, g, y, axis: -(w * ops.exp(y) * ops.sum(g, axis=axis, keepdims=True)),
)
def _log_softmax_adjoint(xp, g, y, /, axis):
    """z = g − eʸ·Σg.  ḡ = z̄ − ⟨z̄, eʸ⟩,  ȳ = −z̄∘eʸ·Σg."""
    return xp.log_softmax_adjoint(g, y, axis)


def cross_entropy(logits, labels):
    """−ln softmax(logits)[label], in nats.

    logits: (…, K).  labels: plain integers (…), each in [0, K).  Returns (…).
    """
    chosen = ops.take_along_axis(log_softmax(logits), ops.expand_dims(value_of(labels), -1), -1)
    return -ops.squeeze(chosen, -1)


@primitive(lambda g, _y, logits, x: _bernoulli_slope(g, logits, x), lambda g, _y, logits, _x: -(g * logits))
def binary_cross_entropy(xp, logits, x, /):
    """−x·ln σ(l) − (1 − x)·ln(1 − σ(l)) = x·max(−l, 0) + (1 − x)·max(l, 0) + ln(1 + e^−|l|), in nats, per entry.

    One operation: its gradients are l̄ = ȳ(σ(l) − x) and x̄ = −ȳl.  The shorter softplus(l) − x·l would lose all
    digits where the guess is sure and right.
    """
    return xp.binary_cross_entropy(logits, x)


def _bernoulli_slope(g: Any, logits: Any, x: Any) -> Any:
    """l̄ = ȳ(σ(l) − x): one call of the backend where nobody can differentiate it again."""
    if Tensor in (type(g), type(logits), type(x)):
        return g * (sigmoid(logits) - x)
    return backend_of(g, logits, x).binary_cross_entropy_adjoint(g, logits, x)


# --- normalisation ------------------------------------------------------------------------------------------


class _Axes(NamedTuple):
    """Means over axes."""

    axis: Any

    def forward(self, xp: Any, x: Any, tiny: float) -> Any:
        return xp.standardise(x, self.axis, tiny)

    def adjoint(self, xp: Any, g: Any, y: Any, scale: Any) -> Any:
        return xp.standardise_adjoint(g, y, scale, self.axis)

    def mean(self, x: Any) -> Any:
        return ops.mean(x, axis=self.axis, keepdims=True)

    def share(self, g: Any, x: Any) -> Any:
        """ȳ/n, for y = mean(x)."""
        return g * (prod(g.shape) / prod(x.shape))


class _Groups(NamedTuple):
    """Means over an image's pixels and a group of its channels."""

    groups: int

    def forward(self, xp: Any, x: Any, tiny: float) -> Any:
        return xp.group_standardise(x, self.groups, tiny)

    def adjoint(self, xp: Any, g: Any, y: Any, scale: Any) -> Any:
        return xp.group_standardise_adjoint(g, y, scale, self.groups)

    def mean(self, x: Any) -> Any:
        return _group_mean(x, self.groups)

    def share(self, g: Any, x: Any) -> Any:
        return _group_mean(g, self.groups) / x.shape[1]


def _standardise(x: Any, over: Any, tiny: float) -> Any:
    """y = (x − μ)·s, s = 1/√(σ² + tiny), where `over` says of what μ and σ² are the means."""
    xp, value = _numbers(x, "standardise")
    y, scale = over.forward(xp, value, tiny)
    return _standardised(x, _scale(x, scale, over=over), y, over=over) if type(x) is Tensor else y


@primitive(lambda g, s, x, _made, over: -over.share(g * s * s * s, x) * (x - over.mean(x)), None)
def _scale(xp, x, made, /, over):
    """s = 1/√(σ² + tiny), which is made already.  x̄ = −s³·(x − μ)·Σs̄/n."""
    return made


@primitive(lambda g, y, _x, scale, _made, over: _standardise_adjoint(g, y, scale, over=over), None, None)
def _standardised(xp, x, scale, made, /, over):
    """y = (x − μ)·s, which is made already.  x̄ = s·(ȳ − mean ȳ − y·mean(ȳ∘y)).

    The rule of x is all of the gradient: it knows that s is made of x.  At second order, where s has a gradient of its
    own, the tape knows of what.
    """
    return made


@primitive(
    lambda w, _z, _g, y, scale, over: _standardise_adjoint(w, y, scale, over=over),
    lambda w, _z, g, y, scale, over: -(scale * (w * over.mean(g * y) + g * over.mean(w * y))),
    lambda w, _z, g, y, _scale, over: w * (g - over.mean(g) - y * over.mean(g * y)),
)
def _standardise_adjoint(xp, g, y, scale, /, over):
    """z = s·(g − mean g − y·mean(g∘y)): a symmetric matrix times g.  ȳ = −s·(z̄·mean(g∘y) + g·mean(z̄∘y))."""
    return over.adjoint(xp, g, y, scale)


def standardise(x, axis, tiny):
    """y = (x − μ)/√(σ² + tiny), μ and σ² over `axis`."""
    return _standardise(x, _Axes(axis), tiny)


def layer_norm(x, scale=None, shift=None, tiny: float = 1e-5):
    """Each vector of the last axis to mean 0 and variance 1, then scale and shift (Ba et al. 2016)."""
    return _affine(standardise(x, (-1,), tiny), scale, shift)


@primitive(lambda g, _y, _x, groups: ops.broadcast_to(_group_mean(g, groups) / _x.shape[1], _x.shape))
def _group_mean(xp, x, /, groups):
    """The mean over each image's pixels and each group's channels, per channel.  (B, P, C) → (B, 1, C)."""
    return xp.group_mean(x, groups)


def group_standardise(x, groups, tiny):
    """y = (x − μ)/√(σ² + tiny), μ and σ² over an image's pixels and a group of its channels.  x: (B, P, C).

    `standardise` per group, written so that every pass runs along whole rows of C numbers.
    """
    return _standardise(x, _Groups(groups), tiny)


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
