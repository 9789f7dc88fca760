"""Reading places of an array, and adding into them: each is the other's gradient.

    y = x[i]     x̄ = 0, then x̄[i] += ȳ      (a place read twice receives both gradients)
"""

from __future__ import annotations

from typing import Any

from scratchgen.autograd.primitive import primitive
from scratchgen.autograd.tensor import Tensor, value_of
from scratchgen.backend import backend_of, int64


def axis_of(axis: int, ndim: int) -> int:
    """The axis counted from the front.  Raises ValueError if there is none of that number."""
    if not -ndim <= axis < ndim:
        raise ValueError(f"axis {axis} is out of bounds for an array of {ndim} dimensions")
    return axis % ndim


def _own(x: Any, index: Any) -> Any:
    """The index with its lists turned into arrays, and its arrays copied where a tape will keep them."""
    if isinstance(index, tuple):
        return tuple(_own(x, part) for part in index)
    if isinstance(index, list):
        return backend_of(value_of(x)).constant(index, None if index else int64)
    if type(index) is Tensor:
        raise TypeError("index: a tensor is no index; its places would have no gradient")
    if getattr(index, "ndim", 0):
        xp = backend_of(value_of(x), index, operation="index")
        return xp.saved(index) if type(x) is Tensor else index
    return index


@primitive(lambda g, _y, _x, index: _scatter_add(g, index, _x.shape))
def _getitem(xp, x, /, index):
    return x[index]


def getitem(x, index):
    """y = x[index]: slices, integers, arrays of integers (repeats too), masks, None and … as in NumPy."""
    return _getitem(x, _own(x, index))


@primitive(lambda g, _y, _x, index, shape: _getitem(g, index), whole=True)
def _scatter_add(xp, values, /, index, shape, out=None):
    return xp.scatter_add(shape, index, values, out)


def scatter_add(values, index, shape: tuple[int, ...]):
    """y = zeros of `shape`, y[index] += values: a place named twice receives both."""
    return _scatter_add(values, _own(values, index), shape)


def take(x, indices, axis: int | None = None):
    """The entries of x at integer `indices` along an axis; None: of x as one row."""
    if axis is None:
        return getitem(x.reshape(-1), indices)
    return getitem(x, (slice(None),) * axis_of(axis, x.ndim) + (indices,))


def take_along_axis(x, indices, axis: int):
    """y[…, i, …] = x[…, indices[…, i, …], …]: one choice per row."""
    xp = backend_of(value_of(x), indices)
    axis = axis_of(axis, x.ndim)
    grid: list[Any] = []
    for a, n in enumerate(x.shape):
        shape = [1] * x.ndim
        shape[a] = n
        grid.append(indices if a == axis else xp.arange(n).reshape(tuple(shape)))
    return getitem(x, tuple(grid))


def argsort(x, axis: int = -1):
    """The order that sorts x, equal values in their order.  A plain array."""
    x = value_of(x)
    xp = backend_of(x, operation="argsort")
    return xp.argsort(x, axis=axis, kind="stable")


def sort(x, axis: int = -1):
    """x from small to large along an axis; the gradient goes back to where each value came from."""
    return take_along_axis(x, argsort(x, axis), axis)


def nonzero(x):
    """The places where x is not 0.  Plain arrays."""
    x = value_of(x)
    return backend_of(x, operation="nonzero").nonzero(x)


__all__ = [
    "argsort", "getitem", "nonzero", "scatter_add", "sort", "take", "take_along_axis",
]  # fmt: skip
