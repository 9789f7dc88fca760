"""Factorisations on the device: kernels for small matrices, CuPy's for others, and NumPy's answer to a matrix that has
no factor.

Kernels (matrices.cu) can be captured in a graph.  CuPy's calls of cuSOLVER and cuBLAS refuse there.
"""

from __future__ import annotations

from math import prod
from typing import Any

import cupy
import numpy as np

from scratchgen import guard
from scratchgen.cuda.kernels import WARP, _dense, _kernel

WARPS = 4
"""In a block; each has a matrix."""
CHUNKS = 1024
"""At most, of a right-hand side's columns, 32 each, that warps of their own work on; they go on to further ones."""


class Linalg:
    """`cupy.linalg`, whose `cholesky` raises for a matrix that is not positive definite, as NumPy's does.

    Left to themselves CuPy's returns what cuSOLVER had got to, and the kernel nan.  To ask whether there is a factor is
    to wait for the device: that is done where the result would be wrong without a word, but not in a capture, where
    nobody can ask.  Singular matrices give inf and nan to `inv` and `solve`, which needs no asking.
    """

    def __getattr__(self, name: str) -> Any:
        return getattr(cupy.linalg, name)

    def cholesky(self, x: Any) -> Any:
        """L lower triangular with L·Lᵀ = x.  A matrix with nan has a factor of nan.

        Raises LinAlgError for one that has no factor; in a capture its factor is nan.
        """
        if not guard.has_kernel("cholesky", x):
            from cupyx import errstate

            with errstate(linalg="raise"):
                return cupy.linalg.cholesky(x)
        y = cupy.empty(x.shape, x.dtype)
        _launch("cholesky", x, 1, _dense(x), y)
        if not guard.is_capturing() and bool((cupy.isnan(y[..., 0, 0]) & cupy.isfinite(x.sum(axis=(-2, -1)))).any()):
            raise np.linalg.LinAlgError("Matrix is not positive definite")
        return y

    def inv(self, x: Any) -> Any:
        """x⁻¹."""
        return _solved(x, np.uint64(0), x.shape) if guard.has_kernel("inv", x) else cupy.linalg.inv(x)

    def solve(self, a: Any, b: Any) -> Any:
        """a⁻¹·b."""
        return _solved(a, _dense(b), b.shape) if guard.has_kernel("solve", a, b) else cupy.linalg.solve(a, b)


def _solved(a: Any, b: Any, shape: tuple[int, ...]) -> Any:
    y, columns = cupy.empty(shape, a.dtype), shape[-1]
    _launch("solve", a, min(-(-columns // WARP), CHUNKS), _dense(a), b, y, columns=(np.int64(columns),))
    return y


def _launch(name: str, x: Any, chunks: int, *arrays: Any, columns: tuple[Any, ...] = ()) -> None:
    count, n = prod(x.shape[:-2]), x.shape[-1]
    if count and chunks:
        numbers = np.int64(count), np.int32(n), *columns
        _kernel("matrices.cu", name, x.dtype)((-(-count // WARPS), chunks), (WARP, WARPS), (*arrays, *numbers))
