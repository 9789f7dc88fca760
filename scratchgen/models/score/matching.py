"""Score matching: fit s(x) to ∇log p(x) without knowing p, by integration by parts.

    ½‖∇log p(x) − s(x)‖²                                                                (1)  score.fisher
    ½‖s(x)‖² + tr ∇s(x)                                                                 (2)  score.implicit
    tr ∇s = E vᵀ∇s(x)v        for E v·vᵀ = I                                            (3)  score.hutchinson
    vᵀ∇s(x)v + ½(vᵀs(x))²                                                               (4)  score.sliced
    vᵀ∇s(x)v + ½‖s(x)‖²                                                                 (5)  score.sliced_vr

Over x ~ p, (1) is Fisher's divergence, and equals (2) up to a constant that does not depend on s, ½E‖∇log p‖²:
E ∇log p·s = ∫ ∇p·s = −E tr ∇s where p·s vanishes at infinity (Hyvärinen 2005).  (4) and (5) are (2) with the
trace of (3) and, in (4), the norm estimated along the same random direction, v standard normal or of signs ±1
(Song et al. 2019, arXiv:1905.07088): one walk back through s instead of one per dimension.

Everywhere: x (B, …), s a function of it that treats each example by itself (no batch norm: its Jacobian would
mix examples) and returns x's shape; terms (B,).  Differentiable with respect to what s is made of.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple

from scratchgen import ops
from scratchgen.autograd.tensor import value_of
from scratchgen.autograd.transforms import vjp
from scratchgen.backend import Array, backend_of
from scratchgen.distributions.events import per_example, same_shape

Field = Callable[[Array], Array]
"""A vector at every point: x (B, …) ↦ s(x) of x's shape."""


class Divergence(NamedTuple):
    """A field's value s(x), like x, and tr ∇s(x), exact or estimated, (B,)."""

    value: Any
    trace: Any


def _pulled(field: Field, x: Array) -> tuple[Array, Callable[[Array], Array]]:
    """s(x) and v ↦ ∇sᵀv."""
    value, pull = vjp(field, x)
    same_shape("score", "x", x.shape, value=value)
    return value, pull


def divergence(field: Field, x: Array) -> Divergence:
    """tr ∇s, exact: row i of the Jacobian from one walk back with the i-th basis vector, d walks in all.

    x: (B, …) of d numbers each.  Raises ValueError if s(x) has not x's shape.
    """
    value, pull = _pulled(field, x)
    B, d = x.shape[0], prod(x.shape[1:])
    xp = backend_of(value_of(x))
    eye = xp.eye(d, dtype=x.dtype)
    trace: Any = xp.zeros((B,), x.dtype)
    for i in range(d):
        row = pull(xp.broadcast_to(eye[i], (B, d)).reshape(x.shape))
        trace = trace + ops.reshape(row, (B, d))[:, i]
    return Divergence(value, trace)


def hutchinson(field: Field, x: Array, v: Array) -> Divergence:
    """vᵀ∇s(x)v, eq. (3), whose mean over v is tr ∇s.  v: noise of x's shape, E v·vᵀ = I.

    Signs ±1 leave the diagonal exact, so that only ∇s's other entries make noise (Hutchinson 1990).
    Raises ValueError if s(x) or v has not x's shape.
    """
    same_shape("hutchinson", "x", x.shape, v=v)
    value, pull = _pulled(field, x)
    return Divergence(value, per_example(pull(v) * v))


def signs(x: Array, rng: Any) -> Array:
    """v of ±1, equally likely, like x: a probe for score.hutchinson."""
    return backend_of(value_of(x)).where(rng.random(x.shape, x.dtype) < 0.5, -1.0, 1.0).astype(x.dtype)


def fisher(score: Array, s: Array) -> Array:
    """½‖∇log p − s‖², eq. (1).  score: ∇log p(x), and s: the model's, both (B, …).  Returns (B,)."""
    same_shape("fisher", "score", score.shape, s=s)
    return 0.5 * per_example(ops.square(score - s))


def implicit(field: Field, x: Array) -> Array:
    """½‖s(x)‖² + tr ∇s(x), eq. (2), with the exact trace.  Returns (B,)."""
    s, trace = divergence(field, x)
    return 0.5 * per_example(ops.square(s)) + trace


def sliced(field: Field, x: Array, v: Array) -> Array:
    """vᵀ∇s(x)v + ½(vᵀs(x))², eq. (4).  v: noise of x's shape.  Returns (B,)."""
    s, curvature = hutchinson(field, x, v)
    return curvature + 0.5 * ops.square(per_example(v * s))


def sliced_vr(field: Field, x: Array, v: Array) -> Array:
    """vᵀ∇s(x)v + ½‖s(x)‖², eq. (5), with the mean of (4) where E v·vᵀ = I.  Returns (B,).

    For v ~ N(0, I) the variance is that of (4) less 2sᵀ∇s·s + ½‖s‖⁴.  That is no gain where s falls steeply along
    itself, sᵀ∇s·s < −¼‖s‖⁴: with ∇s = −½s·sᵀ, (4) has no variance at all.
    """
    s, curvature = hutchinson(field, x, v)
    return curvature + 0.5 * per_example(ops.square(s))
