"""NumPy's functions with no more than CuPy's take, and with what CuPy's do otherwise.  For the strict backend.

`LACKED` says by name what NumPy's functions accept and CuPy 14's do not; `OTHERWISE` holds what differs beyond names:

    solve          a and b have the same batch, none is broadcast
    sort, argsort  there is one kind, which is stable
    searchsorted   a single value is a Python number or an array, no NumPy number
    allclose, …    the answer is an array, like every answer
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

_KEYWORDS = {
    "where": "sum prod mean var std max min amax amin any all",
    "initial": "sum prod max min amax amin",
    "correction": "var std",
    "mean": "var std",
    "m": "flip fliplr flipud rot90",
    "arrays": "stack",
    "arr": "take_along_axis",
    "shape": "reshape",
    "min": "clip",
    "max": "clip",
    "order": "sort argsort partition einsum",
    "stable": "sort argsort",
    "kind": "partition",
    "mode": "take",
    "subok": "broadcast_to",
    "sorted": "unique",
    "device": "zeros ones empty full zeros_like ones_like empty_like full_like eye arange linspace",
    "like": "zeros ones empty full eye identity arange tri ascontiguousarray",
    "upper": "cholesky",
    "hermitian": "svd pinv",
    "out": "einsum",
    "casting": "einsum",
    "rtol": "pinv",
}
LACKED: dict[str, set[str]] = {}
for _keyword, _names in _KEYWORDS.items():
    for _name in _names.split():
        LACKED.setdefault(_name, set()).add(_keyword)

UFUNC = {"out", "dtype", "casting"}
"""What CuPy's elementwise functions take beside their operands."""
ADDED = ("int32", "uint32", "uint64", "float16", "float32", "float64", "complex64", "complex128")
"""What CuPy's `add.at` can add: what the device adds atomically."""


def mannered(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """NumPy's or SciPy's function of that name as CuPy has it.  It raises TypeError for what CuPy's does not take."""
    elementwise = isinstance(function, np.ufunc) and name != "matmul"
    lacked, function = LACKED.get(name, set()), OTHERWISE.get(name, function)

    @wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        extra = options.keys() - UFUNC if elementwise else options.keys() & lacked
        if extra:
            raise TypeError(f"{name}: CuPy's takes no {' and no '.join(sorted(extra))}")
        return function(*args, **options)

    return call


def _solve(a: Any, b: Any) -> Any:
    if b.ndim > 1 and a.shape[:-1] != b.shape[:-1]:
        raise ValueError(f"solve: {a.shape} and {b.shape} have other batches, and CuPy broadcasts none")
    return np.linalg.solve(a, b)


def _stable(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(a: Any, axis: Any = -1, kind: Any = None) -> Any:
        if kind not in (None, "stable"):
            raise ValueError(f"{function.__name__}: CuPy's kind is 'stable', not {kind!r}")
        return function(a, axis=axis, kind="stable")

    return call


def _searchsorted(a: Any, v: Any, side: Any = "left", sorter: Any = None) -> Any:
    if not isinstance(v, (np.ndarray, int, float, complex)):
        raise NotImplementedError(f"searchsorted: CuPy takes no {type(v).__name__}")
    return np.searchsorted(a, v, side, sorter)


def _as_array(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **options: np.asarray(function(*args, **options))


OTHERWISE: dict[str, Callable[..., Any]] = {
    "solve": _solve, "sort": _stable(np.sort), "argsort": _stable(np.argsort), "searchsorted": _searchsorted,
    "allclose": _as_array(np.allclose), "array_equal": _as_array(np.array_equal),
}  # fmt: skip


def check_added(dtype: Any) -> None:
    """Raises TypeError for what CuPy's `add.at` cannot add."""
    if dtype.name not in ADDED:
        raise TypeError(f"add.at: CuPy adds no {dtype.name}, only {', '.join(ADDED)}")
