"""Many numbers to fewer: sums, means, extremes, and their running versions.

A reduction over `axis` sends its gradient back to every place it read from; `_back` gives ȳ the shape that
broadcasts over those places.  Ties in max and min share the gradient equally.
"""

from __future__ import annotations

from math import prod as _size
from typing import Any

from scratchgen.autograd.tensor import Tensor, broadcast_to, primitive, value_of
from scratchgen.backend import backend_of
from scratchgen.ops.elementwise import exp, isfinite, sqrt, square, where
from scratchgen.ops.shape import concatenate, flip, reshape, transpose

Axis = int | tuple[int, ...] | None


def _axes(axis: Axis, ndim: int) -> tuple[int, ...]:
    if axis is None:
        return tuple(range(ndim))
    return tuple(a % ndim for a in (axis if isinstance(axis, tuple) else (axis,)))


def _count(shape: tuple[int, ...], axis: Axis) -> int:
    return _size(shape[a] for a in _axes(axis, len(shape)))


def _back(g: Any, shape: tuple[int, ...], axis: Axis, keepdims: bool) -> Any:
    """g with the reduced axes back, at length 1."""
    if keepdims or g.ndim == len(shape):
        return g
    axes = _axes(axis, len(shape))
    return reshape(g, tuple(1 if i in axes else n for i, n in enumerate(shape)))


@primitive(lambda g, _y, _x, axis=None, keepdims=False: broadcast_to(_back(g, _x.shape, axis, keepdims), _x.shape))
def sum(xp, x, /, axis: Axis = None, keepdims: bool = False):
    """y = Σ x.  x̄ = ȳ at every place."""
    return xp.sum(x, axis=axis, keepdims=keepdims)


@primitive(
    lambda g, _y, _x, axis=None, keepdims=False: broadcast_to(
        _back(g, _x.shape, axis, keepdims) / _count(_x.shape, axis), _x.shape
    )
)
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
    top = xp.where(xp.isfinite(top), top, xp.zeros_like(top))
    total = xp.sum(xp.exp(x - top), axis=axis, keepdims=keepdims)
    empty = total == 0
    y = xp.log(xp.where(empty, xp.ones_like(total), total)) + top.reshape(total.shape)
    return xp.where(empty, -xp.full_like(y, float("inf")), y)


def diff(x, n: int = 1, axis: int = -1):
    """y_i = x_{i+1} − x_i, n times."""
    for _ in range(n):
        index: list = [slice(None)] * x.ndim
        index[axis] = slice(1, None)
        later = x[tuple(index)]
        index[axis] = slice(None, -1)
        x = later - x[tuple(index)]
    return x


def gradient(x, spacing: float = 1.0, axis: int = -1):
    """Central differences along one axis, one-sided at the ends (NumPy's `gradient` at its default order)."""
    if x.shape[axis] < 2:
        raise ValueError(f"gradient: needs at least 2 points along axis {axis}, got {x.shape[axis]}")
    def part(start, stop):
        index: list = [slice(None)] * x.ndim
        index[axis] = slice(start, stop)
        return x[tuple(index)]

    first, last = part(1, 2) - part(0, 1), part(-1, None) - part(-2, -1)
    inner = (part(2, None) - part(None, -2)) / 2
    return concatenate([first, inner, last], axis=axis) / spacing


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
count_nonzero = _constant("count_nonzero", "How many values are not 0.")
