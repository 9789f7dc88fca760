"""What NumPy and SciPy do one number at a time, done with what they do fast.

The error function and the distribution function Φ of the standard normal, for float32, are one formula:

    erf x = tanh u(√2 x)      Φ(x) = ½ + ½ tanh u(x)      u(x) = artanh erf(x/√2) = x·(√(2/π) + t·p(t)/q(t)),  t = x²

u is smooth and odd, and tanh is ±1 where it grows large, so that a short quotient of polynomials is enough.  p and q,
of degrees 2 and 3, are the ones with the smallest largest relative error of erf on |x| ≤ 4: 4·10⁻⁹, fitted by linear
programming.  Rounding adds more: |error| ≤ 1.3·10⁻⁷ for erf, with at most 3·10⁻⁷ of the value itself, and
|error| ≤ 0.9·10⁻⁷ for Φ.
"""

from __future__ import annotations

from collections.abc import Callable
from math import pi, prod, sqrt
from typing import Any

import numpy as np

clip: Any = np._core.umath.clip  # type: ignore[attr-defined]
"""np.clip without its preparations: one call for both bounds."""
BLOCK = 1 << 14
"""Numbers of a block: with what is made of them on the way they stay in the processor's cache."""


def _numbers(*values: float) -> list[np.ndarray]:
    """Numbers as arrays: NumPy takes them twice as fast."""
    return [np.asarray(value, np.float32) for value in values]


def in_blocks(f: Callable[[Any], Any], x: Any) -> Any:
    """f(x) of a function that treats each number by itself.

    Large arrays go through it block by block.  Other kinds of arrays (a recorder's) go whole.
    """
    if type(x) is not np.ndarray or x.size <= BLOCK:
        return f(x)
    y = np.empty(x.shape, x.dtype)
    source, target = x.reshape(-1), y.reshape(-1)
    for i in range(0, x.size, BLOCK):
        target[i : i + BLOCK] = f(source[i : i + BLOCK])
    return y


# --- the error function, the normal and the logistic distribution -------------------------------------------

P = (0.10277254533519642, 0.015915970198165087, 0.0018130522853356096)
Q = (1.0, 0.1568994722444028, 0.023702947718904403, 0.00032530652540895065)


def _scaled(s: float) -> list[np.ndarray]:
    """The coefficients of u(√2·s·x), and the bound of x from which its tanh is ±1 in float32."""
    p = [c * s ** (2 * k + 3) for k, c in enumerate(P)]
    q = [c * s ** (2 * k) for k, c in enumerate(Q)]
    return _numbers(-5 / s, 5 / s, 2 / sqrt(pi) * s, *p, *q)


_OF_ERF, _OF_NDTR = _scaled(1.0), _scaled(sqrt(0.5))
HALF, ONE = _numbers(0.5, 1.0)


def _tanh_u(x: Any, coefficients: list[np.ndarray]) -> Any:
    low, high, c, p0, p1, p2, q0, q1, q2, q3 = coefficients
    x = clip(x, low, high)
    t = np.square(x)
    p = t * p2
    p += p1
    p *= t
    p += p0
    p *= t
    q = t * q3
    q += q2
    q *= t
    q += q1
    q *= t
    q += q0
    p /= q
    p += c
    p *= x
    return np.tanh(p, out=p) if p.ndim else np.tanh(p)


def _erf(x: Any) -> Any:
    return _tanh_u(x, _OF_ERF)


def _ndtr(x: Any) -> Any:
    y = _tanh_u(x, _OF_NDTR)
    y *= HALF
    y += HALF
    return y


def _expit(x: Any) -> Any:
    e = np.exp(-np.absolute(x))
    e += ONE
    y = np.exp(clip(x, -np.inf, 0))
    y /= e
    return y


def erf(x: Any) -> Any:
    """2/√π ∫₀ˣ e^(−t²) dt."""
    return in_blocks(_erf, x)


def ndtr(x: Any) -> Any:
    """1/√2π ∫₋∞ˣ e^(−t²/2) dt."""
    return in_blocks(_ndtr, x)


def expit(x: Any) -> Any:
    """σ(x) = e^min(x, 0)/(1 + e^−|x|), which does not overflow.  |error| ≤ 3·10⁻⁷ of the value, however small."""
    return in_blocks(_expit, x)


def maximum(a: Any, b: float) -> Any:
    """np.maximum(a, b) for a number b, which NumPy compares one by one, in half the time."""
    return clip(a, b, np.inf)


# --- adding into rows ---------------------------------------------------------------------------------------

SOME = 1 << 10
"""Numbers from which a place for each of them is made in less time than `np.add.at` takes for rows."""
MANY = 1 << 14
"""Numbers from which a sparse matrix is made in less time than that."""


def adds_rows(shape: tuple[int, ...], index: Any, values: Any) -> bool:
    """Whether values are rows of an array of `shape`, each at a place along the first axis, and worth `add_rows`."""
    return (
        type(index) is type(values) is np.ndarray
        and index.dtype.kind in "iu"
        and values.dtype.char in "fd"
        and values.shape == index.shape + shape[1:]
        and values.size >= max(SOME, 2 * index.size)
    )


def add_rows(out: np.ndarray, index: np.ndarray, values: np.ndarray) -> None:
    """Add rows to zeros at places along the first axis.

    out = S·values, S the sparse matrix with a 1 at (index_k, k): the same sums as `np.add.at`'s, in the same order.
    Or, where S has few of them, by `np.add.at` itself, which is quick for numbers and slow for rows.
    Raises IndexError for a place that there is not.
    """
    n, m = len(out), index.size
    if index.min() < -n or index.max() >= n:
        wrong = index[(index < -n) | (index >= n)].flat[0]
        raise IndexError(f"index {wrong} is out of bounds for axis 0 with size {n}")
    index, values = index.reshape(m).astype(np.intp) % n, values.reshape(m, -1)
    if values.size < MANY and out.flags.c_contiguous:
        width = values.shape[1]
        np.add.at(out.reshape(-1), (index[:, None] * width + np.arange(width)).reshape(-1), values.reshape(-1))
        return
    from scipy.sparse import csc_array  # here, since few who import the package need it

    places: Any = slice(None)
    if n > m:  # most rows stay 0
        places, index = np.unique(index, return_inverse=True)
        n = len(places)
    one = csc_array((np.ones(m, values.dtype), index, np.arange(m + 1)), shape=(n, m))
    out[places] = (one @ values).reshape(n, *out.shape[1:])


# --- sums ---------------------------------------------------------------------------------------------------

MANY_TO_SUM = 1 << 13
"""Numbers from which a product with ones is worth its preparation."""
SHORT = 32
"""Numbers in a row that NumPy takes longer to begin than to sum."""
LONG = 512
"""Numbers that one product sums; more are summed in parts, so that rounding grows with their square root only.  And the
length of rows from which NumPy's own sums are as fast."""


def sum(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Σ x, over neighbouring axes as a product with ones: NumPy adds in loops as short as the last axis.

    Along the last axis this is for short rows only.  Elsewhere it rounds less than NumPy, which adds one by one.
    """
    first, last = _neighbours(axis, x.ndim)
    n, width = prod(x.shape[first:last]), prod(x.shape[last:])
    pays = 1 < n <= SHORT if width == 1 else n > 1 and width <= LONG
    if not pays or x.dtype.char not in "fd" or not _in_order(x):
        return x.sum(axis=axis, keepdims=keepdims)
    y = np.matmul(x.reshape(-1, n), np.ones(n, x.dtype)) if width == 1 else _sum_rows(x.reshape(-1, n, width))
    return y.reshape(x.shape[:first] + (1,) * (keepdims and last - first) + x.shape[last:])


def _sum_rows(x: Any) -> Any:
    """Σ over the middle axis of three."""
    batch, n, width = x.shape
    if n < 2 * LONG:
        return np.matmul(np.ones(n, x.dtype), x)
    k, rest = divmod(n, LONG)
    parts = np.matmul(np.ones(LONG, x.dtype), x[:, : n - rest].reshape(batch, k, LONG, width))
    total = _sum_rows(parts)
    if rest:
        total += np.matmul(np.ones(rest, x.dtype), x[:, n - rest :])
    return total


def _neighbours(axis: Any, ndim: int) -> tuple[int, int]:
    """The first of the axes, and the one after the last; (0, 0) unless they lie side by side."""
    if axis is None:
        return 0, ndim
    axes = sorted(a % ndim for a in (axis if isinstance(axis, tuple) else (axis,)))
    side_by_side = axes and axes[-1] - axes[0] == len(axes) - 1
    return (axes[0], axes[-1] + 1) if side_by_side else (0, 0)


def _in_order(x: Any) -> bool:
    """Whether the numbers lie in memory in the order of their indices."""
    step = x.itemsize
    for n, stride in zip(x.shape[::-1], x.strides[::-1], strict=True):
        if n > 1 and stride != step:
            return False
        step *= n
    return step > 0
