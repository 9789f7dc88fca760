"""A libcublas that computes on the host, with the C signatures of NVIDIA's: what its documentation says, in NumPy.

    C_i ← α·op(A_i)·op(B_i) + β·C_i        op(A): m×k, op(B): k×n, C: m×n, all of them column by column

C's element (row, column) is at row + column·ldc numbers from where C_i begins, and C_i begins i·stride numbers after
C.  The same of A and B as stored, that is before op.  Where β is 0, what C holds is not read.
"""

from __future__ import annotations

import ctypes
from ctypes import c_double, c_float, c_int, c_int64, c_size_t, c_ubyte, c_void_p

import numpy as np

SUCCESS, INVALID_VALUE, NOT_SUPPORTED = 0, 7, 15
TYPES = {0: np.dtype("f4"), 1: np.dtype("f8"), 14: np.dtype("u2")}
SUPPORTED = {(0, 0, 68), (0, 0, 77), (1, 1, 70), (14, 0, 68)}
"""(A's and B's type, C's type, compute type): the rows of the documented table that are used."""


def bfloat(x: np.ndarray) -> np.ndarray:
    """The numbers whose 16 bits these are."""
    return (x.astype("u4") << 16).view("f4")


def matrix(memory: np.ndarray, begin: int, rows: int, columns: int, ld: int) -> np.ndarray:
    """A matrix stored column by column, as a view of memory that begins where the array does."""
    item = memory.itemsize
    return np.ndarray((rows, columns), memory.dtype, memory, begin * item, (item, ld * item))


def gemm(transa, transb, m, n, k, alpha, a, lda, step_a, b, ldb, step_b, beta, c, ldc, step_c, batch):
    """The equation above, on one-dimensional arrays a, b and c that begin where A, B and C do.  A status."""
    stored_a, stored_b = (k, m) if transa else (m, k), (n, k) if transb else (k, n)
    least = max(1, stored_a[0]), max(1, stored_b[0]), max(1, m)
    if min(m, n, k, batch) < 0 or any(ld < need for ld, need in zip((lda, ldb, ldc), least, strict=True)):
        return INVALID_VALUE
    number = bfloat if a.dtype == "u2" else lambda x: x
    for i in range(batch):
        left, right = number(matrix(a, i * step_a, *stored_a, lda)), number(matrix(b, i * step_b, *stored_b, ldb))
        result = matrix(c, i * step_c, m, n, ldc)
        product = alpha * ((left.T if transa else left) @ (right.T if transb else right))
        result[...] = product if beta == 0 else product + beta * result
    return SUCCESS


def at(address: int, dtype: np.dtype, count: int) -> np.ndarray:
    """So many numbers of the host's memory."""
    memory = (c_ubyte * (max(count, 1) * dtype.itemsize)).from_address(address)
    return np.frombuffer(memory, dtype)


def reach(rows: int, columns: int, ld: int, step: int, batch: int) -> int:
    return (batch - 1) * step + (columns - 1) * ld + rows


class Library:
    """Its functions, called through C, and what has been asked of it."""

    def __init__(self) -> None:
        self.calls: list[tuple] = []
        self.handles = 0
        self.workspace: dict[int, int | None] = {}  # by handle; None after its stream has been set
        matrix_type = (c_void_p, c_int, c_int64)
        sizes = (c_void_p, c_int, c_int, c_int64, c_int64, c_int64, c_void_p)
        plain = (*sizes, *matrix_type, *matrix_type, c_void_p, *matrix_type, c_int, c_int)
        strided = (*sizes, *matrix_type, c_int64, *matrix_type, c_int64, c_void_p, *matrix_type, c_int64, c_int64,
                   c_int, c_int)  # fmt: skip
        self.cublasCreate_v2 = ctypes.CFUNCTYPE(c_int, ctypes.POINTER(c_void_p))(self._create)
        self.cublasSetStream_v2 = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p)(self._set_stream)
        self.cublasSetWorkspace_v2 = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, c_size_t)(self._set_workspace)
        self.cublasGemmEx_64 = ctypes.CFUNCTYPE(c_int, *plain)(self._gemm)
        self.cublasGemmStridedBatchedEx_64 = ctypes.CFUNCTYPE(c_int, *strided)(self._strided)

    def _create(self, handle) -> int:
        self.handles += 1
        handle[0] = self.handles
        self.workspace[self.handles] = None
        return SUCCESS

    def _set_stream(self, handle, stream) -> int:
        self.calls.append(("stream", handle, stream or 0))
        self.workspace[handle] = None
        return SUCCESS

    def _set_workspace(self, handle, memory, size) -> int:
        self.calls.append(("workspace", handle, size))
        self.workspace[handle] = memory
        return SUCCESS

    def _gemm(self, handle, ta, tb, m, n, k, alpha, a, ta_, lda, b, tb_, ldb, beta, c, tc_, ldc, compute, algo) -> int:
        return self._strided(handle, ta, tb, m, n, k, alpha, a, ta_, lda, 0, b, tb_, ldb, 0, beta, c, tc_, ldc, 0, 1,
                             compute, algo)  # fmt: skip

    def _strided(self, handle, transa, transb, m, n, k, alpha, a, a_type, lda, step_a, b, b_type, ldb, step_b, beta,
                 c, c_type, ldc, step_c, batch, compute, algo) -> int:  # fmt: skip
        self.calls.append(("gemm", m, n, k, batch, compute))
        if self.workspace.get(handle) is None or algo != -1:
            return INVALID_VALUE
        if a_type != b_type or (a_type, c_type, compute) not in SUPPORTED:
            return NOT_SUPPORTED
        scalar = c_double if compute == 70 else c_float
        factors = [scalar.from_address(x).value for x in (alpha, beta)]
        if min(step_a, step_b, step_c) < 0:
            return INVALID_VALUE
        stored_a, stored_b = (k, m) if transa else (m, k), (n, k) if transb else (k, n)
        left = at(a, TYPES[a_type], reach(*stored_a, lda, step_a, batch))
        right = at(b, TYPES[b_type], reach(*stored_b, ldb, step_b, batch))
        out = at(c, TYPES[c_type], reach(m, n, ldc, step_c, batch))
        return gemm(transa, transb, m, n, k, factors[0], left, lda, step_a, right, ldb, step_b, factors[1], out, ldc,
                    step_c, batch)  # fmt: skip
