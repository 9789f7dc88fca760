"""The same numbers in another arrangement: every gradient is the arrangement undone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from scratchgen.autograd.primitive import broadcast_to, primitive
from scratchgen.autograd.tensor import value_of
from scratchgen.backend import active, backend_of
from scratchgen.ops.index import axis_of, getitem, take


@primitive(lambda g, _y, _x, shape: reshape(g, _x.shape))
def _reshape(xp, x, /, shape):
    return x.reshape(shape)


def reshape(x, shape: int | Sequence[int]):
    """The numbers of x in their order, in another shape; one length may be −1."""
    return _reshape(x, (shape,) if isinstance(shape, int) else tuple(shape))


def ravel(x):
    """x as one row."""
    return reshape(x, (-1,))


def _inverse(axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(axes.index(i) for i in range(len(axes)))


@primitive(lambda g, _y, _x, axes: _transpose(g, _inverse(axes)))
def _transpose(xp, x, /, axes):
    return x.transpose(axes)


@primitive(lambda g, _y, _x: _reversed(g))
def _reversed(xp, x, /):
    return x.T


def transpose(x, axes: Sequence[int] | None = None):
    """x with its axes in another order, reversed by default."""
    return _reversed(x) if axes is None else _transpose(x, tuple(axis_of(a, x.ndim) for a in axes))


permute_dims = transpose


@primitive(lambda g, _y, _x, axis1, axis2: swapaxes(g, axis1, axis2))
def swapaxes(xp, x, /, axis1: int, axis2: int):
    """x with two axes exchanged."""
    return x.swapaxes(axis1, axis2)


def moveaxis(x, source: int | Sequence[int], destination: int | Sequence[int]):
    """x with some axes moved, the others in their order."""
    src = [axis_of(a, x.ndim) for a in ((source,) if isinstance(source, int) else source)]
    dst = [axis_of(a, x.ndim) for a in ((destination,) if isinstance(destination, int) else destination)]
    axes = [a for a in range(x.ndim) if a not in src]
    for place, a in sorted(zip(dst, src, strict=True)):
        axes.insert(place, a)
    return _transpose(x, tuple(axes))


def matrix_transpose(x):
    """xᵀ: the last two axes exchanged."""
    return swapaxes(x, -1, -2)


def squeeze(x, axis: int | tuple[int, ...] | None = None):
    """x without its axes of length 1, or without those named.  Raises ValueError if one is longer."""
    if axis is None:
        return reshape(x, tuple(n for n in x.shape if n != 1))
    axes = {axis_of(a, x.ndim) for a in ((axis,) if isinstance(axis, int) else axis)}
    for a in axes:
        if x.shape[a] != 1:
            raise ValueError(f"squeeze: axis {a} has length {x.shape[a]}, not 1")
    return reshape(x, tuple(n for i, n in enumerate(x.shape) if i not in axes))


def expand_dims(x, axis: int | tuple[int, ...]):
    """x with axes of length 1 at the given places of the result."""
    axes = (axis,) if isinstance(axis, int) else axis
    ndim = x.ndim + len(axes)
    new = {axis_of(a, ndim) for a in axes}
    old = iter(x.shape)
    return reshape(x, tuple(1 if i in new else next(old) for i in range(ndim)))


def atleast_1d(x):
    """x with at least one axis."""
    return x if x.ndim else reshape(x, (1,))


def atleast_2d(x):
    """x with at least two axes."""
    return x if x.ndim >= 2 else reshape(x, (1, -1))


# --- joining and parting ------------------------------------------------------------------------------------


def _concatenate_rule(i, g, _y, xs, axis):
    stops = list(accumulate(x.shape[axis] for x in xs))
    index = [slice(None)] * g.ndim
    index[axis] = slice(stops[i] - xs[i].shape[axis], stops[i])
    return getitem(g, tuple(index))


@primitive(_concatenate_rule)
def _concatenate(xp, *xs, axis):
    return xp.joined(xs, axis)


def concatenate(arrays: Sequence[Any], axis: int | None = 0):
    """Arrays one after the other along an axis; None: all in one row."""
    if axis is None:
        arrays, axis = [ravel(x) for x in arrays], 0
    return _concatenate(*arrays, axis=axis)


concat = concatenate


def append(x, values, axis: int | None = None):
    """x followed by values."""
    return concatenate([x, values], axis=axis)


@primitive(lambda i, g, _y, _xs, axis: getitem(g, (slice(None),) * axis + (i,)))
def _stack(xp, *xs, axis):
    new = (slice(None),) * axis + (None,)
    return xp.joined([x[new] for x in xs], axis)


def stack(arrays: Sequence[Any], axis: int = 0):
    """Arrays of one shape along a new axis."""
    return _stack(*arrays, axis=axis_of(axis, arrays[0].ndim + 1))


def vstack(arrays: Sequence[Any]):
    """Arrays as rows, one below the other."""
    return concatenate([atleast_2d(x) for x in arrays], axis=0)


def hstack(arrays: Sequence[Any]):
    """Arrays side by side: along the second axis, or the first of one-dimensional ones."""
    arrays = [atleast_1d(x) for x in arrays]
    return concatenate(arrays, axis=0 if arrays[0].ndim == 1 else 1)


def dstack(arrays: Sequence[Any]):
    """Arrays behind one another, along the third axis."""
    deep = [atleast_2d(x) for x in arrays]
    return concatenate([expand_dims(x, 2) if x.ndim == 2 else x for x in deep], axis=2)


def column_stack(arrays: Sequence[Any]):
    """One-dimensional arrays as the columns of a matrix."""
    return concatenate([reshape(x, (-1, 1)) if x.ndim == 1 else x for x in arrays], axis=1)


def array_split(x, indices_or_sections: int | Sequence[int], axis: int = 0) -> list[Any]:
    """x in so many parts, as equal as can be, or cut at the given places."""
    n = x.shape[axis]
    if isinstance(indices_or_sections, int):
        small, larger = divmod(n, indices_or_sections)
        lengths = [small + 1] * larger + [small] * (indices_or_sections - larger)
        cuts = list(accumulate(lengths))[:-1]
    else:
        cuts = list(indices_or_sections)
    index: list[Any] = [slice(None)] * x.ndim
    parts = []
    for start, stop in zip([0, *cuts], [*cuts, n], strict=True):
        index[axis] = slice(start, stop)
        parts.append(getitem(x, tuple(index)))
    return parts


def split(x, indices_or_sections: int | Sequence[int], axis: int = 0) -> list[Any]:
    """x in equal parts, or cut at the given places.  Raises ValueError if it does not divide."""
    if isinstance(indices_or_sections, int) and x.shape[axis] % indices_or_sections:
        raise ValueError(f"split: {x.shape[axis]} does not divide into {indices_or_sections} equal parts")
    return array_split(x, indices_or_sections, axis)


def hsplit(x, indices_or_sections):
    """x cut along its second axis (the first of a one-dimensional array)."""
    return split(x, indices_or_sections, axis=0 if x.ndim == 1 else 1)


def vsplit(x, indices_or_sections):
    """x cut along its first axis."""
    return split(x, indices_or_sections, axis=0)


def dsplit(x, indices_or_sections):
    """x cut along its third axis."""
    return split(x, indices_or_sections, axis=2)


# --- repeating and turning ----------------------------------------------------------------------------------


def repeat(x, repeats: int | Sequence[int], axis: int | None = None):
    """Every entry `repeats` times in a row along an axis; None: of x as one row.  Or one number per entry."""
    if axis is None:
        x, axis = ravel(x), 0
    axis = axis_of(axis, x.ndim)
    if not isinstance(repeats, int):
        if len(repeats) != x.shape[axis]:
            raise ValueError(f"repeat: {len(repeats)} numbers for {x.shape[axis]} entries")
        return take(x, [i for i, n in enumerate(repeats) for _ in range(n)], axis)
    wide = expand_dims(x, axis + 1)
    wide = broadcast_to(wide, (*wide.shape[: axis + 1], repeats, *wide.shape[axis + 2 :]))
    return reshape(wide, (*x.shape[:axis], x.shape[axis] * repeats, *x.shape[axis + 1 :]))


def tile(x, reps: int | Sequence[int]):
    """x laid side by side `reps` times along each axis."""
    times = (reps,) if isinstance(reps, int) else tuple(reps)
    ndim = max(x.ndim, len(times))
    shape = (1,) * (ndim - x.ndim) + tuple(x.shape)
    times = (1,) * (ndim - len(times)) + times
    paired = tuple(k for n in shape for k in (1, n))
    wide = tuple(k for pair in zip(times, shape, strict=True) for k in pair)
    tiled = broadcast_to(reshape(x, paired), wide)
    return reshape(tiled, tuple(k * n for k, n in zip(times, shape, strict=True)))


def flip(x, axis: int | tuple[int, ...] | None = None):
    """x read backwards along an axis, or along all."""
    axes = range(x.ndim) if axis is None else (axis,) if isinstance(axis, int) else axis
    index: list[Any] = [slice(None)] * x.ndim
    for a in axes:
        index[a] = slice(None, None, -1)
    return getitem(x, tuple(index))


def fliplr(x):
    """x with its columns in reverse."""
    return flip(x, 1)


def flipud(x):
    """x with its rows in reverse."""
    return flip(x, 0)


def rot90(x, k: int = 1, axes: tuple[int, int] = (0, 1)):
    """x turned by k quarter turns, from the first axis of `axes` towards the second."""
    k, (a, b) = k % 4, axes
    if k == 0:
        return x
    if k == 2:
        return flip(x, (a, b))
    return swapaxes(flip(x, b), a, b) if k == 1 else flip(swapaxes(x, a, b), b)


def roll(x, shift: int | tuple[int, ...], axis: int | tuple[int, ...] | None = None):
    """x moved along an axis, what falls off one end coming in at the other; None: as one row."""
    if axis is None:
        return reshape(roll(ravel(x), shift, 0), x.shape)
    if isinstance(shift, tuple) or isinstance(axis, tuple):
        axes = axis if isinstance(axis, tuple) else (axis,)
        for s, a in zip(shift if isinstance(shift, tuple) else (shift,) * len(axes), axes, strict=True):
            x = roll(x, s, a)
        return x
    n = x.shape[axis]
    if n == 0 or shift % n == 0:
        return x
    first, second = array_split(x, [n - shift % n], axis)
    return concatenate([second, first], axis)


def _unpad_index(widths, shape):
    return tuple(slice(before, before + n) for (before, _), n in zip(widths, shape, strict=True))


@primitive(lambda g, _y, _x, widths, value: getitem(g, _unpad_index(widths, _x.shape)), whole=True)
def _pad(xp, x, /, widths, value, out=None):
    return framed(xp, x, widths, value, out)


def framed(xp: Any, x: Any, widths: Any, value: float = 0.0, out: Any = None) -> Any:
    """A raw array inside a frame of a constant; the library's own `pad` takes several times as long."""
    shape = tuple(n + before + after for n, (before, after) in zip(x.shape, widths, strict=True))
    if out is None:
        out = xp.full(shape, value, x.dtype) if value else xp.zeros(shape, x.dtype)
    else:
        out.fill(value)
    out[_unpad_index(widths, x.shape)] = x
    return out


PAD_MODES = ("constant", "edge", "reflect", "symmetric", "wrap")


def pad(x, pad_width, mode: str = "constant", constant_values: float = 0.0):
    """x with a frame: of a constant, or continued as `mode` says.

    pad_width: one number, a pair (before, after), or a pair per axis.
    Raises ValueError for a mode other than constant, edge, reflect, symmetric, wrap.
    """
    if mode not in PAD_MODES:
        raise ValueError(f"pad: mode {mode!r} is not one of {', '.join(PAD_MODES)}")
    if isinstance(pad_width, int):
        pad_width = (pad_width, pad_width)
    pairs = tuple(tuple(p) if isinstance(p, (tuple, list)) else p for p in pad_width)
    if not any(isinstance(p, tuple) for p in pairs):
        pairs = (pairs,) * x.ndim
    pairs = pairs * x.ndim if len(pairs) == 1 else pairs
    if mode == "constant":
        return _pad(x, pairs, constant_values)
    xp = backend_of(value_of(x), operation="pad")
    for axis, pair in enumerate(pairs):
        if pair != (0, 0):
            x = take(x, xp.pad(xp.arange(x.shape[axis]), pair, mode=mode), axis)
    return x


# --- new arrays: constants on the active backend, or on that of another array -------------------------------


def zeros(shape, dtype="float32"):
    """A plain array of zeros on the active backend."""
    return active().zeros(shape, dtype)


def ones(shape, dtype="float32"):
    """A plain array of ones on the active backend."""
    return active().ones(shape, dtype)


def zeros_like(x):
    """A plain array of zeros like x, where x lives."""
    x = value_of(x)
    return backend_of(x).zeros(x.shape, x.dtype)


def ones_like(x):
    """A plain array of ones like x, where x lives."""
    x = value_of(x)
    return backend_of(x).ones(x.shape, x.dtype)


__all__ = [
    "append", "array_split", "atleast_1d", "atleast_2d", "column_stack", "concat", "concatenate",
    "dsplit", "dstack", "expand_dims", "flip", "fliplr", "flipud", "hsplit", "hstack",
    "matrix_transpose", "moveaxis", "ones", "ones_like", "pad", "permute_dims", "ravel", "repeat",
    "reshape", "roll", "rot90", "split", "squeeze", "stack", "swapaxes", "tile", "transpose", "vsplit",
    "vstack", "zeros", "zeros_like",
]  # fmt: skip
