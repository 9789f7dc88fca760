"""Some of NumPy's functions in less time: its own ways are through a good deal of Python, or one number at a time
(`fastmath`)."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from scipy import special

from scratchgen import fastmath

float32, float64 = np.dtype(np.float32), np.dtype(np.float64)
LARGE_CHOICE = 4096
"""Numbers from which NumPy's `where` is slower than arithmetic."""
SMALL_COPY = 4096
"""Numbers up to which a copy takes less time than `np.broadcast_to`."""


class Quicker:
    """The functions, with NumPy's names and results; for the backend of NumPy."""

    def sum(self, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        if x.size < fastmath.MANY_TO_SUM:
            return x.sum(axis=axis, keepdims=keepdims)
        return fastmath.sum(x, axis, keepdims)

    def mean(self, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        if x.dtype not in (float32, float64) or not x.size:
            return np.mean(x, axis=axis, keepdims=keepdims)
        total = self.sum(x, axis, keepdims)
        return total / (x.size // total.size)

    def broadcast_to(self, x: Any, shape: tuple[int, ...]) -> Any:
        """A copy where it is small, a view where it is large."""
        if prod(shape) > SMALL_COPY or x.ndim > len(shape):
            return np.broadcast_to(x, shape)
        if not isinstance(x, (np.ndarray, np.generic)):
            return np.broadcast_to(x, shape).copy()  # a recorder's: laid out alike, for sums in the same order
        out = np.empty(shape, x.dtype)
        out[...] = x
        return out

    def where(self, condition: Any, a: Any, b: Any) -> Any:
        """np.where.  Its branches cost most where they cannot be foreseen, so large arrays go without: on the bits of
        the numbers, b ^ ((a ^ b)·condition) is a or b."""
        if getattr(condition, "size", 0) < LARGE_CHOICE or condition.dtype != bool:
            return np.where(condition, a, b)
        kinds = {x.dtype for x in (a, b) if hasattr(x, "dtype")}
        if len(kinds) != 1 or not kinds <= {float32, float64}:
            return np.where(condition, a, b)
        a, b = (x if hasattr(x, "dtype") else np.asarray(x, *kinds) for x in (a, b))
        kind = np.int32 if a.dtype == float32 else np.int64
        bits = a.view(kind) ^ b.view(kind)
        if bits.shape != condition.shape:
            bits = bits * condition
        else:
            bits *= condition
        bits ^= b.view(kind)
        return bits.view(a.dtype)

    def erf(self, x: Any) -> Any:
        return fastmath.erf(x) if x.dtype == float32 else special.erf(x)

    def expit(self, x: Any) -> Any:
        return fastmath.expit(x) if x.dtype == float32 else special.expit(x)

    def maximum(self, a: Any, b: Any) -> Any:
        floats = type(b) in (int, float) and getattr(a, "dtype", None) in (float32, float64)
        return fastmath.maximum(a, b) if floats else np.maximum(a, b)

    def ndtr(self, x: Any) -> Any:
        return fastmath.ndtr(x) if x.dtype == float32 else special.ndtr(x)
