"""What the distributions share: which axes are the event, and which shapes may meet."""

from __future__ import annotations

from typing import Any

from scratchgen import ops
from scratchgen.autograd import value_of
from scratchgen.backend import Array, backend_of, float32, float64


def per_example(x: Array) -> Array:
    """Σ over all axes but the first: (B, …) → (B,)."""
    return x if x.ndim == 1 else ops.sum(x, axis=tuple(range(1, x.ndim)))


def fitted(function: str, name: str, x: Array, **others: Any) -> list[Any]:
    """The other arguments, each with x's number of axes; Python numbers take x's precision.

    Raises ValueError, naming the shapes, unless x has a batch axis, and every other argument has x's number
    of axes, each as long as x's or of length 1, or no axes at all.  Raises TypeError if precisions differ.
    """
    if not x.ndim:
        raise ValueError(f"{function}: {name} has no axes; the leading axis is the batch")
    out = []
    for other, value in others.items():
        if type(value) in (bool, int, float):  # not np.float64, which is a float too, but has a precision
            value = backend_of(value_of(x)).asarray(value, x.dtype)
        if not value.ndim:
            value = ops.reshape(value, (1,) * x.ndim)
        if value.ndim != x.ndim or any(n not in (1, m) for n, m in zip(value.shape, x.shape, strict=True)):
            raise ValueError(f"{function}: {other} {value.shape} does not fit {name} {x.shape}")
        same_precision(function, name, x, **{other: value})
        out.append(value)
    return out


def same_shape(function: str, name: str, shape: tuple[int, ...], **others: Array) -> None:
    """Raises ValueError, naming the shapes, unless every other array has exactly this shape."""
    for other, value in others.items():
        if value.shape != shape:
            raise ValueError(f"{function}: {other} {value.shape} should have the shape of {name}, {shape}")


def same_precision(function: str, name: str, x: Array, **others: Array) -> None:
    """Raises TypeError, naming the types, unless all are float32 or all are float64.

    On plain arrays `x - mu` is the array library's own, which would promote without a word.
    """
    if x.dtype not in (float32, float64):
        raise TypeError(f"{function}: {name} is {x.dtype}; it should be float32 or float64")
    for other, value in others.items():
        if value.dtype != x.dtype:
            raise TypeError(f"{function}: {other} is {value.dtype} but {name} is {x.dtype}; see ops.astype")


def alike(function: str, name: str, x: Array, **others: Array) -> None:
    """Both of the above: every other array has x's shape and precision."""
    same_shape(function, name, x.shape, **others)
    same_precision(function, name, x, **others)


def bin_half_width(function: str, levels: int) -> float:
    """Half the spacing of `levels` equally spaced values of [−1, 1].  Raises ValueError for fewer than 2."""
    if levels < 2:
        raise ValueError(f"{function}: levels must be at least 2, got {levels}")
    return 1 / (levels - 1)
