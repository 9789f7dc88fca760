"""Many numbers to fewer: sums, means, extremes, and their running versions.

A reduction over `axis` sends its gradient back to every place it read from; `_back` gives ȳ the shape that
broadcasts over those places.  Ties in max and min share the gradient equally.
"""

from __future__ import annotations

from math import prod as _size
from typing import Any

from scratchgen.autograd.primitive import broadcast_to, primitive
from scratchgen.autograd.tensor import Tensor, value_of
from scratchgen.backend import backend_of, inf
from scratchgen.ops.choice import isfinite, where
from scratchgen.ops.elementwise import exp, sqrt, square
from scratchgen.ops.index import axis_of, getitem
from scratchgen.ops.shape import concatenate, flip, reshape, transpose

Axis = int | tuple[int, ...] | None


def _axes(axis: Axis, ndim: int) -> tuple[int, ...]:
    if axis is None:
        return tuple(range(ndim))
    return tuple(axis_of(a, ndim) for a in (axis if isinstance(axis, tuple) else (axis,)))


def _count(shape: tuple[int, ...], axis: Axis) -> int:
    return _size(shape[a] for a in _axes(axis, len(shape)))


def _back(g: Any, shape: tuple[int, ...], axis: Axis, keepdims: bool) -> Any:
    """g with the reduced axes back, at length 1; a number broadcasts without them."""
    if keepdims or axis is None or g.ndim == len(shape):
        return g
    axes = _axes(axis, len(shape))
    return reshape(g, tuple(1 if i in axes else n for i, n in enumerate(shape)))


def _sum_rule(g, _y, _x, axis=None, keepdims=False):
    return broadcast_to(_back(g, _x.shape, axis, keepdims), _x.shape)


@primitive(_sum_rule)
def sum(xp, x, /, axis: Axis = None, keepdims: bool = False):
    """y = Σ x.  x̄ = ȳ at every place."""
    return xp.sum(x, axis=axis, keepdims=keepdims)


def _mean_rule(g, _y, _x, axis=None, keepdims=False):
    return broadcast_to(_back(g, _x.shape, axis, keepdims) / _count(_x.shape, axis), _x.shape)


@primitive(_mean_rule)
def mean(xp, x, /, axis: Axis = None, keepdims: bool = False):
    """y = Σ x / n.  x̄ = ȳ/n at every place."""
    return xp.mean(x, axis=axis, keepdims=keepdims)


def var(x, axis: Axis = None, keepdims: bool = False, ddof: int = 0):
    """y = Σ (x − x̄)² / (n − ddof)."""
    n = _count(x.shape, axis)
    return sum(square(x - mean(x, axis=axis, keepdims=True)), axis=axis, keepdims=keepdims) / (n - ddof)


def std(x, axis: Axis = None, keepdims: bool = False, ddof: int = 0):
    """y = √var(x)."""
    return sqrt(var(x, axis=axis, keepdims=keepdims, ddof=ddof))


def _extreme_rule(g, y, x, axis=None, keepdims=False):
    winners = x == _back(value_of(y), x.shape, axis, keepdims)
    ties = _back(winners.sum(axis=axis), x.shape, axis, False).astype(g.dtype)
    return where(winners, _back(g, x.shape, axis, keepdims) / ties, 0.0)


@primitive(_extreme_rule)
def max(xp, x, /, axis: Axis = None, keepdims: bool = False):
    """y = the largest x; ties share ȳ."""
    return x.max(axis=axis, keepdims=keepdims)


@primitive(_extreme_rule)
def min(xp, x, /, axis: Axis = None, keepdims: bool = False):
    """y = the smallest x; ties share ȳ."""
    return x.min(axis=axis, keepdims=keepdims)


amax, amin = max, min


def prod(x, axis: Axis = None, keepdims: bool = False):
    """y = Π x.

    For tensors a tree of products: x̄ = ȳ·Π of the others, exact at zeros, where ȳ·y/x would be 0/0.
    """
    if type(x) is not Tensor:
        return backend_of(x, operation="prod").prod(x, axis=axis, keepdims=keepdims)
    axes = _axes(axis, x.ndim)
    rest = tuple(i for i in range(x.ndim) if i not in axes)
    kept = tuple(x.shape[i] for i in rest)
    row = reshape(transpose(x, rest + axes), (*kept, _count(x.shape, axis)))
    ones = backend_of(x.value).ones((*kept, 1), x.dtype)
    while row.shape[-1] != 1:
        if row.shape[-1] % 2 or not row.shape[-1]:
            row = concatenate([row, ones], axis=-1)
        if row.shape[-1] > 1:
            row = row[..., 0::2] * row[..., 1::2]
    return reshape(row, tuple(1 if i in axes else n for i, n in enumerate(x.shape)) if keepdims else kept)


def _cumsum_rule(g, _y, _x, axis=None):
    if axis is None:
        return reshape(flip(cumsum(flip(g))), _x.shape)
    return flip(cumsum(flip(g, axis), axis), axis)


@primitive(_cumsum_rule)
def cumsum(xp, x, /, axis: int | None = None):
    """y_i = Σ_{j ≤ i} x_j.  x̄_j = Σ_{i ≥ j} ȳ_i."""
    return xp.cumsum(x, axis=axis)


def _logsumexp_rule(g, y, x, axis=None, keepdims=False):
    y = _back(y, x.shape, axis, keepdims)
    return _back(g, x.shape, axis, keepdims) * exp(x - where(isfinite(y), y, 0.0))


@primitive(_logsumexp_rule)
def logsumexp(xp, x, /, axis: Axis = None, keepdims: bool = False):
    """y = ln Σ eˣ, without overflow.  x̄ = ȳ·softmax(x).

    One operation because the largest x is taken out first.  All −inf gives −inf, and a gradient of 0.
    """
    top = x.max(axis=axis, keepdims=True)
    top = xp.where(xp.isfinite(top), top, 0.0)
    total = xp.sum(xp.exp(x - top), axis=axis, keepdims=keepdims)
    empty = total == 0
    y = xp.log(xp.where(empty, 1.0, total)) + top.reshape(total.shape)
    return xp.where(empty, -inf, y)


def _part(x: Any, axis: int, start: int | None, stop: int | None) -> Any:
    """x[start:stop] along one axis."""
    index: list[Any] = [slice(None)] * x.ndim
    index[axis] = slice(start, stop)
    return getitem(x, tuple(index))


def diff(x, n: int = 1, axis: int = -1):
    """y_i = x_{i+1} − x_i, n times."""
    for _ in range(n):
        x = _part(x, axis, 1, None) - _part(x, axis, None, -1)
    return x


def gradient(x, *spacing, axis: Axis = None):
    """Slopes by central differences, one-sided at the ends (NumPy's `gradient` with edge_order 1).

    spacing: the distance of neighbours, or their places (N,); one for all axes, or one for each.
    Returns an array for one axis, a tuple of them for several; `axis` None means every one.
    Raises ValueError where an axis has fewer than two points.
    """
    axes = _axes(axis, x.ndim)
    if len(spacing) not in (0, 1, len(axes)):
        raise TypeError(f"gradient: {len(spacing)} spacings for {len(axes)} axes")
    steps = spacing if len(spacing) == len(axes) else (spacing or (1.0,)) * len(axes)
    slopes = tuple(_slope(x, h, a) for h, a in zip(steps, axes, strict=True))
    return slopes[0] if len(slopes) == 1 else slopes


def _slope(x: Any, h: Any, axis: int) -> Any:
    if x.shape[axis] < 2:
        raise ValueError(f"gradient: needs at least 2 points along axis {axis}, got {x.shape[axis]}")
    left = right = first = last = h
    if getattr(h, "ndim", 0):
        gaps = reshape(diff(h), (-1,) + (1,) * (x.ndim - 1 - axis))
        left, right, first, last = gaps[:-1], gaps[1:], gaps[:1], gaps[-1:]
    step = diff(x, axis=axis)
    before, after = _part(step, axis, None, -1), _part(step, axis, 1, None)
    inner = (before * (right / left) + after * (left / right)) / (left + right)
    ends = _part(step, axis, None, 1) / first, _part(step, axis, -1, None) / last
    return concatenate([ends[0], inner, ends[1]], axis=axis)


def _constant(name: str, doc: str) -> Any:
    def function(x, axis=None, keepdims=False):
        x = value_of(x)
        return getattr(backend_of(x, operation=name), name)(x, axis=axis, keepdims=keepdims)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc + "  A plain array: constant between its jumps."
    return function


argmax = _constant("argmax", "The place of the largest value, the first of several.")
argmin = _constant("argmin", "The place of the smallest value, the first of several.")
any = _constant("any", "Whether some value is true.")
all = _constant("all", "Whether every value is true.")


def count_nonzero(x, axis=None, keepdims=False):
    """How many values are not 0.  A plain array: constant between its jumps."""
    x = value_of(x)
    return backend_of(x, operation="count_nonzero").sum(x != 0, axis=axis, keepdims=keepdims)


__all__ = [
    "all", "amax", "amin", "any", "argmax", "argmin", "count_nonzero", "cumsum", "diff", "gradient",
    "logsumexp", "max", "mean", "min", "prod", "std", "sum", "var",
]  # fmt: skip
